//! The binary `underpass`.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use tracing_subscriber::EnvFilter;
use underpass::agent::{Agent, AgentOptions};
use underpass::cli::{
    self, AgentArgs, BeLiberal, CheckArgs, Cli, Command, DetachArgs, IngressMode, LogFormat,
    NeighbourLimits, OffloadMode, PodGro, RoutesMode,
};
use underpass::config::{self, Config};
use underpass::datapath::Pins;
use underpass::world::kubernetes::Access;
use underpass::world::source::Choice;
use underpass::{detach, inspect, stop, sysctl};
use underpass_common::settings::Offload;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os()).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast::<clap::Error>() {
            // Help, or what is wrong with the command line.
            Ok(usage) => usage.exit(),
            Err(error) => {
                eprintln!("underpass: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

fn run(cli: Cli) -> Result<()> {
    sysctl::look_in(&cli.proc_sys)?;
    match cli.command {
        Command::Agent(args) => run_agent(*args),
        Command::Status(args) => inspect::status::run(&args),
        Command::Peers(args) => inspect::peers::run(&args),
        Command::Pods(args) => inspect::pods::run(&args),
        Command::Flows(args) => inspect::flows::run(&args),
        Command::Trace(args) => runtime()?.block_on(inspect::trace::run(&args)),
        Command::Top(args) => inspect::top::run(&args),
        Command::Check(args) => runtime()?.block_on(run_check(&args)),
        Command::Detach(args) => runtime()?.block_on(run_detach(args)),
        Command::Completions(args) => cli::completions(args.shell, &mut io::stdout().lock()),
        Command::Man(args) => cli::man(args.out.as_deref(), &mut io::stdout().lock()),
    }
}

/// One thread: there is one loop and one writer.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")
}

fn run_agent(args: AgentArgs) -> Result<()> {
    start_log(args.log_format);
    let nodes = match &args.nodes_file {
        Some(path) => Choice::File(path.clone()),
        None => Choice::Kubernetes(Access::choose(args.kubeconfig.clone())),
    };
    let options = AgentOptions {
        nodes: nodes.clone(),
        pins: Pins::new(&args.pins.bpffs),
        max_flows: args.max_flows,
        set_be_liberal: args.tcp_be_liberal == BeLiberal::Set,
        raise_neighbour_limits: args.neighbour_limits == NeighbourLimits::Raise,
        xdp_mode: args.ingress.xdp_mode,
        set_pod_gro: args.ingress.pod_gro == PodGro::Set,
        listen: args.listen,
        trace_packets: args.trace_packets.clone(),
        log_format: args.log_format,
    };
    let config = config(args, &nodes);
    runtime()?.block_on(async {
        let agent = Agent::start(config, options).await?;
        agent.run().await
    })
}

async fn run_check(args: &CheckArgs) -> Result<()> {
    inspect::check::run(args).await?;
    stay(args.stay).await
}

async fn run_detach(args: DetachArgs) -> Result<()> {
    detach::detach(&Pins::new(args.pins.bpffs)).await?;
    stay(args.stay).await
}

async fn stay(wanted: bool) -> Result<()> {
    if wanted {
        println!("staying until told to stop");
        stop::told()?.await;
    }
    Ok(())
}

fn config(args: AgentArgs, nodes: &Choice) -> Config {
    Config {
        node_name: args.node_name,
        nodes_source: nodes.name(),
        uplink: args.uplink.choice(),
        extra_uplinks: args.extra.extra_iface,
        cluster_cidrs: args.cluster_cidr,
        offload: match args.offload {
            OffloadMode::Confirmed => Offload::Confirmed,
            OffloadMode::Always => Offload::Always,
        },
        routes: match args.routes {
            RoutesMode::Observe => config::RoutesMode::Observe,
            RoutesMode::Manage => config::RoutesMode::Manage,
        },
        ingress: match args.ingress.ingress {
            IngressMode::Tc => config::Ingress::Tc,
            IngressMode::Xdp => config::Ingress::Xdp,
        },
    }
}

fn start_log(format: LogFormat) {
    // kube's client logs each failed attempt as an error; the agent tells of it once, in its own words.
    let usual = || EnvFilter::new("info,kube_client=off");
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| usual());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.with_target(false).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}
