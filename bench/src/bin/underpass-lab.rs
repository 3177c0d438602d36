//! `underpass-lab`: a lab that stays up, to try things in by hand.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};
use underpass_bench::lab::{self, Families, HostDescription, LabDescription};
use underpass_bench::{Backend, Lab};

/// A small cluster on this machine: nodes and pods as network namespaces around a switch.
#[derive(Parser)]
#[command(name = "underpass-lab", version)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Put a lab up; it stays until `down`
    Up(Up),
    /// Run a command in a host; its exit code becomes this one's
    Exec {
        /// The lab's name
        #[arg(long, default_value = DEFAULT_NAME)]
        name: String,
        /// The host: switch, node1, node1-pod1, outside
        host: String,
        /// The command
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Show the labs that are up
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Take a lab down, with all that runs in it
    Down {
        /// The lab's name
        #[arg(long, default_value = DEFAULT_NAME)]
        name: String,
        /// All labs that were put up by `up`, and what dead processes left of theirs
        #[arg(long, conflicts_with = "name")]
        all: bool,
    },
}

#[derive(Args)]
struct Up {
    /// The lab's name
    #[arg(long, default_value = DEFAULT_NAME)]
    name: String,
    /// How many nodes
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// How many pods on each node
    #[arg(long, default_value_t = 2)]
    pods: usize,
    /// MTU of all wires, in bytes
    #[arg(long, default_value_t = 1500)]
    mtu: u32,
    /// Address families of all hosts
    #[arg(long, value_enum, default_value_t = Speaks::Ipv4)]
    families: Speaks,
    /// With Flannel's netfilter rules
    #[arg(long)]
    flannel: bool,
    /// With kube-proxy's netfilter rules
    #[arg(long, value_name = "BACKEND")]
    kube_proxy: Option<KubeProxy>,
    /// With a host on the switch that is no node and knows no pods
    #[arg(long)]
    outside: bool,
    /// Pods on routed veths, not on a bridge
    #[arg(long)]
    routed: bool,
    /// A second L2 segment, with node2 on it and node3 between the two
    #[arg(long)]
    two_segments: bool,
    /// Without routes to the other nodes' pods
    #[arg(long)]
    no_routes: bool,
    /// Describe it as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum KubeProxy {
    Iptables,
    Nftables,
}

#[derive(Clone, Copy, ValueEnum)]
enum Speaks {
    /// IPv4 only
    Ipv4,
    /// IPv6 only
    Ipv6,
    /// Both
    Dual,
}

impl From<Speaks> for Families {
    fn from(speaks: Speaks) -> Self {
        match speaks {
            Speaks::Ipv4 => Self::V4,
            Speaks::Ipv6 => Self::V6,
            Speaks::Dual => Self::Dual,
        }
    }
}

const DEFAULT_NAME: &str = "lab";

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("underpass-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Up(options) => up(&options),
        Task::Exec {
            name,
            host,
            command,
        } => exec(&name, &host, &command),
        Task::List { json } => list(json),
        Task::Down { all: true, .. } => {
            let down = lab::down_all()?;
            say(&down
                .iter()
                .map(|name| format!("lab {name} is down\n"))
                .collect::<String>())
        }
        Task::Down { name, .. } => {
            lab::down(&name)?;
            say(&format!("lab {name} is down\n"))
        }
    }
}

fn up(options: &Up) -> Result<()> {
    let mut builder = Lab::builder()
        .name(&options.name)
        .nodes(options.nodes)
        .pods(options.pods)
        .mtu(options.mtu)
        .families(options.families)
        .flannel_rules(options.flannel);
    if let Some(backend) = options.kube_proxy {
        builder = builder.kube_proxy_rules(match backend {
            KubeProxy::Iptables => Backend::Iptables,
            KubeProxy::Nftables => Backend::Nftables,
        });
    }
    if options.outside {
        builder = builder.outside();
    }
    if options.routed {
        builder = builder.routed_pods();
    }
    if options.two_segments {
        builder = builder.second_segment(&[2], 3);
    }
    if options.no_routes {
        builder = builder.no_routes();
    }
    let lab = builder.build()?;
    let description = lab.describe();
    lab.into_persistent()?;
    if options.json {
        say(&(serde_json::to_string_pretty(&description)? + "\n"))
    } else {
        say(&(show(&description) + &examples(&description)))
    }
}

fn list(json: bool) -> Result<()> {
    let labs = LabDescription::all()?;
    if json {
        say(&(serde_json::to_string_pretty(&labs)? + "\n"))
    } else if labs.is_empty() {
        say("no lab is up\n")
    } else {
        say(&labs.iter().map(show).collect::<String>())
    }
}

/// Prints; somebody who reads no further, like `head`, is no error.
fn say(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot print")
        }
        _ => Ok(()),
    }
}

fn show(lab: &LabDescription) -> String {
    let mut out = format!(
        "lab {}\n  nodes file  {}\n  bpffs       {}\n",
        lab.name,
        lab.nodes_file.display(),
        lab.bpffs.display()
    );
    for host in &lab.hosts {
        out += &show_host(host);
    }
    out
}

/// A line for each address, and beside it the podCIDR of its family.
fn show_host(host: &HostDescription) -> String {
    if host.addresses.is_empty() {
        return format!("  {:<14} -\n", host.name);
    }
    let lines = host.addresses.iter().enumerate().map(|(index, address)| {
        let name = if index == 0 { &host.name } else { "" };
        let pods = host.pod_cidrs.get(index);
        let pods = pods.map_or_else(String::new, |cidr| format!("pods {cidr}"));
        // An address pads itself only as a text.
        let line = format!("  {name:<14} {:<16} {pods}", address.to_string());
        line.trim_end().to_owned() + "\n"
    });
    lines.collect()
}

/// How to go on from here, ready to be copied.
fn examples(lab: &LabDescription) -> String {
    let (name, file, bpffs) = (&lab.name, lab.nodes_file.display(), lab.bpffs.display());
    let mut out = format!(
        "
an agent on node1:
  nsenter --net=/run/netns/{name}-node1 underpass agent --node-name node1 \\
    --nodes-file {file} --iface eth0 --bpffs {bpffs}/node1
"
    );
    let mut pods = lab.hosts.iter().filter(|host| host.name.contains("-pod"));
    let (from, to) = (pods.next(), pods.next_back());
    if let (Some(from), Some(to)) = (from, to)
        && let Some(address) = to.addresses.first()
    {
        out += &format!(
            "from {} to {}:\n  underpass-lab exec --name {name} {} -- ping -c 3 {address}\n",
            from.name, to.name, from.name
        );
    }
    out + &format!("take it down:\n  underpass-lab down --name {name}\n")
}

/// Becomes the command, inside the host.
fn exec(lab: &str, host: &str, command: &[String]) -> Result<()> {
    let host = LabDescription::read(lab)?.host(host)?;
    let (program, arguments) = command.split_first().context("no command given")?;
    let mut command = Command::new(program);
    command.args(arguments);
    host.confine(&mut command)?;
    Err(command.exec()).with_context(|| format!("cannot run {program}"))
}
