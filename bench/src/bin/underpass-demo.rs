//! `underpass-demo`: the fast path shown and measured on a cluster of three nodes.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use underpass_bench::beside;
use underpass_bench::demo::{self, Ending, Options};

/// Shows the fast path, measures it and puts it to the test
///
/// The cluster's nodes and pods are network namespaces on this machine. It takes one and a
/// half minutes; in the end, and on Ctrl-C, everything is taken down.
#[derive(Parser)]
#[command(name = "underpass-demo", bin_name = "cargo xtask demo", version)]
struct Arguments {
    /// Also write each check and all figures to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure once and briefly: it works, but no figure is proved
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
        underpass: beside::program("underpass", "cargo xtask demo")?,
        json: arguments.json,
        quick: arguments.quick,
    })
}
