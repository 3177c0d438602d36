//! `cargo xtask soak`: what happens to a cluster in years, in minutes.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use underpass_bench::beside;
use underpass_bench::soak::{self, Ingress, Options};

/// Has agents restart, crash, be upgraded and taken out, and pods, nodes and MACs change, under traffic
///
/// Two clusters of three nodes each, network namespaces on this machine, have the same traffic, every UDP packet and
/// every byte of TCP accounted for. The one has agents; the other has plain routes, and shows what the kernel alone loses.
/// Ends with a table, and with exit code 1 where something was lost or is left over. Ctrl-C ends it early, with the
/// table.
#[derive(Parser)]
#[command(name = "underpass-soak", bin_name = "cargo xtask soak", version)]
struct Arguments {
    /// How long
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    minutes: f64,
    /// Which events, in which order: the same for the same seed
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Where the agents take packets for pods up: tc or xdp
    #[arg(long, value_name = "HOOK", default_value = "tc")]
    ingress: Ingress,
    /// Write all figures to soak.json in this directory, and the agents' logs
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("underpass-soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<bool> {
    if let Some(out) = &arguments.out {
        std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    }
    soak::run(&Options {
        underpass: beside::program("underpass", "cargo xtask soak")?,
        during: Duration::try_from_secs_f64(arguments.minutes * 60.0)
            .context("--minutes is a number of minutes, not less than 0")?,
        seed: arguments.seed,
        ingress: arguments.ingress,
        out: arguments.out,
    })
}
