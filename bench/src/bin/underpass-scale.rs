//! `underpass-scale`: the agent in a cluster of thousands of nodes.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use underpass_bench::beside;
use underpass_bench::scale::{self, Options};

/// Measures the agent in a cluster of thousands of nodes
///
/// One node is a network namespace on this machine, with the real agent; the others are Nodes of a mock
/// API server, and addresses that answer. The limits of the kernel's neighbour tables are raised meanwhile.
/// In the end everything is taken down.
#[derive(Parser)]
#[command(name = "underpass-scale", bin_name = "cargo xtask scale", version)]
struct Arguments {
    /// How many other nodes
    #[arg(long, value_name = "N", default_value_t = 5000)]
    nodes: usize,
    /// How many starts of the agent, for each kind of routes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
    /// How many changes of a Node in each round
    #[arg(long, value_name = "N", default_value_t = 500)]
    changes: usize,
    /// How long heartbeats are watched, at each rate
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Also write all figures to scale.json in this directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Further arguments of the agent
    #[arg(last = true, value_name = "ARGUMENTS")]
    agent: Vec<String>,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("underpass-scale: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    if let Some(out) = &arguments.out {
        std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    }
    scale::run(&Options {
        underpass: beside::program("underpass", "cargo xtask scale")?,
        nodes: arguments.nodes,
        rounds: arguments.rounds.into(),
        changes: arguments.changes,
        beats_for: Duration::from_secs(arguments.seconds),
        json: arguments.out.map(|out| out.join("scale.json")),
        agent_arguments: arguments.agent,
    })
}
