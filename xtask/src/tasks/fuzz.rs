//! `cargo xtask fuzz`: the targets of the crate `fuzz/`, by cargo-fuzz and libFuzzer.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::{process, setup, workspace};

/// What `--help` says besides the arguments.
pub const HELP: &str = "\
Needs a C++ compiler, for libFuzzer; cargo-fuzz is installed into target/tools when it is not there. The
first build takes some minutes: everything is compiled anew, with the sanitizer. No nightly toolchain is needed:
the compiler's unstable switches are opened by RUSTC_BOOTSTRAP=1, for this build alone.

Inputs that lead somewhere new are kept in target/fuzz-corpus/TARGET and are the beginning of the next run,
together with the committed ones in fuzz/seeds/TARGET. An input that breaks a target is kept in fuzz/artifacts/TARGET;
give it as --input to run it again, and put it into fuzz/seeds/TARGET once the cause is mended: `cargo xtask test` runs
those every time, with a bounded number of mutations.";

#[derive(clap::Args)]
pub struct Args {
    /// What to try; all of them, one after the other, where none is named
    target: Option<Target>,
    /// How long to try each
    #[arg(long, default_value_t = 60, value_name = "N")]
    seconds: u32,
    /// Run one input, and nothing else
    #[arg(long, value_name = "FILE", requires = "target")]
    input: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Target {
    /// Nodes files and Node JSON
    NodesFile,
    /// Answers of an API server
    Kubernetes,
    /// Claims of nodes and states of the kernel: plan, diff, apply
    Plan,
    /// Datagrams of netlink
    Netlink,
    /// Values of pinned maps
    Maps,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::NodesFile => "nodes_file",
            Self::Kubernetes => "kubernetes",
            Self::Plan => "plan",
            Self::Netlink => "netlink",
            Self::Maps => "maps",
        }
    }
}

/// # Errors
/// Setup or the build failed, or a target was broken; libFuzzer has said how.
pub fn run(args: &Args) -> Result<ExitCode> {
    setup::for_fuzzing()?;
    let targets = match &args.target {
        Some(target) => std::slice::from_ref(target),
        None => Target::value_variants(),
    };
    for &target in targets {
        fuzz(target, args).with_context(|| format!("fuzzing {}", target.name()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn fuzz(target: Target, args: &Args) -> Result<()> {
    let dir = workspace::root().join("fuzz");
    let corpus = workspace::target_dir()
        .join("fuzz-corpus")
        .join(target.name());
    fs::create_dir_all(&corpus).with_context(|| format!("making {}", corpus.display()))?;
    let mut cargo = workspace::cargo();
    cargo
        .current_dir(&dir)
        .args(["fuzz", "run", "--target-dir"]);
    cargo
        .arg(workspace::target_dir().join("fuzz"))
        .arg(target.name());
    // cargo finds its subcommands on PATH.
    cargo.env(
        "PATH",
        process::path_and([workspace::tools_dir().join("bin")]),
    );
    cargo.env("RUSTC_BOOTSTRAP", "1");
    match &args.input {
        Some(input) => {
            let input = fs::canonicalize(input);
            cargo.arg(input.context("looking for the input")?);
        }
        None if args.seconds == 0 => bail!("--seconds 0 would never end"),
        None => {
            // New inputs go into the first folder.
            cargo
                .arg(&corpus)
                .arg(dir.join("seeds").join(target.name()))
                .arg("--")
                .arg(format!("-max_total_time={}", args.seconds))
                .args(["-timeout=20", "-print_final_stats=1"]);
        }
    }
    process::run(&mut cargo)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// cargo-fuzz would only say that it knows no such target.
    #[test]
    fn every_target_is_in_the_crate() {
        let manifest = fs::read_to_string(workspace::root().join("fuzz/Cargo.toml")).unwrap();
        let count = manifest.matches("[[bin]]").count();
        assert_eq!(count, Target::value_variants().len());
        for target in Target::value_variants() {
            let name = format!("name = \"{}\"", target.name());
            assert!(manifest.contains(&name), "{name}");
        }
    }
}
