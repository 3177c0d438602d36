//! `underpass-compare`: Underpass beside other ways to connect the same pods.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use underpass_bench::beside;
use underpass_bench::compare::contender::Contender;
use underpass_bench::compare::trial::Trial;
use underpass_bench::compare::{Options, catch_interrupts, report, run};

const HELP: &str = "\
Every contender has a cluster of its own on this machine: two nodes with a pod on each, as network namespaces.
Each trial is run by all contenders in turns (A B B A, in an order that chance chooses and --seed repeats). What is
counted is what arrived. Two like clusters take part, routes and routes-twin: what they differ by is the noise, and
only what lies outside of it is called better or worse.

A full run takes a little more than half an hour. The machine must be quiet meanwhile: it refuses to begin where it is not.

  cargo xtask bench --quick                         see that it works; proves nothing
  cargo xtask bench --contenders routes,routes-twin,underpass --tests tcp-stream,udp-64
  cargo xtask bench --list                          the names of contenders and tests";

/// Compares Underpass with other ways to connect the same pods
#[derive(Parser)]
#[command(name = "underpass-compare", bin_name = "cargo xtask bench", version, after_long_help = HELP)]
struct Arguments {
    /// A few of the trials, two rounds, few routes: to see that it works
    #[arg(long)]
    quick: bool,
    /// Who takes part, of those that --list names; all where it is not given
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    contenders: Vec<Contender>,
    /// What is run, of what --list names; all where it is not given
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    tests: Vec<Trial>,
    /// How often each is run; with fewer than 5 nothing is judged [default: 9, with --quick 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: Option<u16>,
    /// How often this one is run instead: a test that two like clusters differ much in needs more
    #[arg(long, value_name = "TEST=N", value_delimiter = ',', value_parser = rounds_of)]
    rounds_of: Vec<(Trial, usize)>,
    /// How long each is run, each time
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Where report.md, report.json and the plots go
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    out: PathBuf,
    /// How many Services the proxied contenders have besides the one that is used
    #[arg(long, value_name = "N", default_value_t = 3000, value_parser = clap::value_parser!(u16).range(..=20_000))]
    services: u16,
    /// Packets per second of the paced tests
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..))]
    paced_rate: u32,
    /// The sending ends' CPU, which on veth does the nodes' work, too [default: this machine's first]
    #[arg(long, value_name = "CPU")]
    client_cpu: Option<usize>,
    /// The receiving ends' CPU [default: this machine's second]
    #[arg(long, value_name = "CPU")]
    server_cpu: Option<usize>,
    /// Repeats the order of another run [default: drawn at random, and told in the report]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Leave out what the programs take alone
    #[arg(long)]
    no_datapath: bool,
    /// Nothing but what the programs take alone
    #[arg(long, conflicts_with_all = ["no_datapath", "tests", "contenders"])]
    datapath_only: bool,
    /// Begin though others keep the machine busy
    #[arg(long)]
    despite_noise: bool,
    /// Measure nothing: write the report of a report.json anew
    #[arg(long, value_name = "FILE", conflicts_with_all = ["quick", "contenders", "tests", "rounds", "datapath_only"])]
    render: Option<PathBuf>,
    /// Say which contenders and tests there are, and end
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    match compare(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("underpass-compare: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn compare(arguments: &Arguments) -> Result<()> {
    if arguments.list {
        list();
        return Ok(());
    }
    // Before it takes its time.
    std::fs::create_dir_all(&arguments.out)
        .with_context(|| format!("cannot make {}", arguments.out.display()))?;
    let results = match &arguments.render {
        Some(file) => report::read(file)?,
        None => {
            catch_interrupts()?;
            run(&options(arguments)?)?
        }
    };
    let written = report::write(&results, &arguments.out)?;
    println!("{}", report::summary(&results));
    for path in written {
        println!("{}", path.display());
    }
    Ok(())
}

/// From `tcp-requests=27`.
fn rounds_of(text: &str) -> Result<(Trial, usize), String> {
    let (trial, rounds) = text
        .split_once('=')
        .ok_or("it takes a test and a number: tcp-requests=27")?;
    match rounds.parse() {
        Ok(rounds @ 1..=1000) => Ok((trial.parse()?, rounds)),
        _ => Err(format!("{rounds:?} is no number of 1 to 1000")),
    }
}

fn options(arguments: &Arguments) -> Result<Options> {
    let quick = arguments.quick;
    let chosen = !arguments.tests.is_empty();
    let trials = match (arguments.datapath_only, chosen, quick) {
        (true, _, _) => Vec::new(),
        (_, true, _) => arguments.tests.clone(),
        (_, _, true) => Trial::QUICK.to_vec(),
        _ => Trial::ALL.to_vec(),
    };
    let contenders = match arguments.contenders.is_empty() {
        true => Contender::ALL.to_vec(),
        false => arguments.contenders.clone(),
    };
    for trial in &trials {
        ensure!(
            contenders.iter().any(|contender| contender.runs(*trial)),
            "none of these contenders can run {trial}: it takes kube-proxy's or Flannel's rules, which the proxied \
             ones have and the ones of Underpass beside them"
        );
    }
    for (trial, _) in &arguments.rounds_of {
        ensure!(
            trials.contains(trial),
            "--rounds-of names {trial}, which is not run: add it to --tests"
        );
    }
    let rounds = arguments.rounds.unwrap_or(if quick { 2 } else { 9 });
    let drawn = SystemTime::now().duration_since(UNIX_EPOCH);
    Ok(Options {
        underpass: beside::program("underpass", "cargo xtask bench")?,
        contenders,
        trials,
        rounds: rounds.into(),
        rounds_of: arguments.rounds_of.iter().copied().collect(),
        seconds: arguments.seconds,
        services: arguments.services,
        paced_rate: arguments.paced_rate,
        client_cpu: arguments.client_cpu,
        server_cpu: arguments.server_cpu,
        seed: arguments
            .seed
            .unwrap_or_else(|| drawn.map_or(1, |elapsed| elapsed.as_secs())),
        datapath: !arguments.no_datapath,
        quick,
        despite_noise: arguments.despite_noise,
    })
}

fn list() {
    println!("Contenders (--contenders):");
    for contender in Contender::ALL {
        println!("  {contender:<20}{}", contender.description());
    }
    println!("\nTests (--tests):");
    for trial in Trial::ALL {
        println!("  {:<27}{}", trial.name(), trial.title());
    }
}
