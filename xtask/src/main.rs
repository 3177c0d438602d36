//! Every developer task, one file each: `cargo xtask TASK`.

mod process;
mod setup;
mod tasks;
mod terminal;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "xtask",
    bin_name = "cargo xtask",
    about = "The developer tasks of Underpass"
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Bring whatever this machine lacks; every other task does so by itself
    Setup,
    /// Build the BPF programs and the binary that has them inside
    Build {
        /// Build with optimisations
        #[arg(long)]
        release: bool,
    },
    /// Check format and lints, and run every test
    Test(tasks::test::Args),
    /// Hand hostile input to what reads nodes files, netlink messages and pinned maps
    #[command(after_long_help = tasks::fuzz::HELP)]
    Fuzz(tasks::fuzz::Args),
    /// Bring etcd, kube-apiserver, kube-proxy, kubectl and helm, which some tests run
    #[command(after_long_help = tasks::kube_assets::HELP)]
    KubeAssets,
    /// Build the container image: the static binary and nothing else
    #[command(after_long_help = tasks::image::HELP)]
    Image(tasks::image::Args),
    /// Raise nodes and pods as network namespaces: up, exec, down
    #[command(disable_help_flag = true)]
    Lab {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Show and measure the fast path on a cluster of three nodes
    #[command(disable_help_flag = true)]
    Demo {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Compare it with other ways to connect the same pods
    #[command(disable_help_flag = true)]
    Bench {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Measure the agent in a cluster of thousands of nodes
    #[command(disable_help_flag = true)]
    Scale {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Have agents come, go, crash and change under traffic, for as long as one likes
    #[command(disable_help_flag = true)]
    Soak {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Setup => setup::run(),
        Task::Build { release } => tasks::build::run(release),
        Task::Test(args) => tasks::test::run(&args),
        Task::Fuzz(args) => tasks::fuzz::run(&args),
        Task::KubeAssets => tasks::kube_assets::run(),
        Task::Image(args) => tasks::image::run(&args),
        Task::Lab { args } => tasks::lab::run(&args),
        Task::Demo { args } => tasks::demo::run(&args),
        Task::Bench { args } => tasks::bench::run(&args),
        Task::Scale { args } => tasks::scale::run(&args),
        Task::Soak { args } => tasks::soak::run(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("{} {error:#}", terminal::red("error:"));
        ExitCode::FAILURE
    })
}
