//! `underpass-demo`: the fast path shown and measured on a cluster of three nodes.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use underpass_bench::demo::{self, Ending, Options};

/// The fast path shown, measured and put to the test, on a cluster of three nodes made of network
/// namespaces. Takes about two minutes, and takes everything down in the end.
#[derive(Parser)]
#[command(name = "underpass-demo", bin_name = "cargo xtask demo", version)]
struct Arguments {
    /// Also write each check and all figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure once and briefly: shows that it works, but proves no figure
    #[arg(long)]
    quick: bool,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(Ending::Held) => ExitCode::SUCCESS,
        Ok(Ending::Failed) => ExitCode::FAILURE,
        // As a shell reports a program that Ctrl-C ended.
        Ok(Ending::Interrupted) => ExitCode::from(130),
        Err(error) => {
            eprintln!("underpass-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<Ending> {
    demo::run(&Options {
        underpass: neighbour("underpass")?,
        json: arguments.json,
        quick: arguments.quick,
    })
}

/// The program of this name beside this one, where cargo puts both.
fn neighbour(name: &str) -> Result<PathBuf> {
    let this = std::env::current_exe().context("cannot tell where this program lies")?;
    let path = this.with_file_name(name);
    ensure!(
        path.is_file(),
        "there is no {}: `cargo xtask demo` builds it",
        path.display()
    );
    Ok(path)
}
