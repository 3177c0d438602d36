//! The command line.

mod file;
mod layers;
mod looking;
mod manual;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use ipnet::IpNet;
use regex::Regex;

use crate::config::UplinkChoice;
use crate::datapath::load::MAX_FLOWS;
use crate::datapath::pins::DEFAULT_DIR;
use crate::packet_trace::PacketFilter;
use crate::sysctl;
use crate::xdp::XdpMode;

pub use layers::parse;
pub use looking::{
    CheckArgs, FlowFilter, FlowOrder, FlowsArgs, Protocol, StatusArgs, TopArgs, TraceArgs,
};
use looking::{FLOWS_EXAMPLES, TOP_HELP, TRACE_EXAMPLES};
pub use manual::{completions, man};

/// Pod traffic across an L2-adjacent Kubernetes cluster, below the kernel's route table.
#[derive(Debug, Parser)]
#[command(name = "underpass", version, about, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Where the kernel's settings are read and written: in a container, where the node's /proc/sys is mounted
    #[arg(long, value_name = "DIR", global = true, default_value = sysctl::DEFAULT_DIR, env = "UNDERPASS_PROC_SYS")]
    pub proc_sys: PathBuf,
}

/// What `underpass agent --help` and its man page say last.
const AGENT_HELP: &str = "\
Every option can also be given by its environment variable or in the file that --config names. An option on the \
command line goes before the environment, the environment before the file, the file before the default. The keys of \
the file are the options' names:

    node-name: node1
    offload: confirmed
    cluster-cidr: [10.244.0.0/16, fd00:244::/48]

An empty variable counts as one that is not set. NODE_NAME, as UNDERPASS_NODE_NAME was called before, counts where \
that one is not set.";

/// What `underpass detach --help` and its man page say last.
const DETACH_HELP: &str = "\
Stop the agent first. Connections go on, by the kernel's road.

The routes that an agent with --routes manage has made (protocol 85) are deleted as well. Without them pods of different \
nodes no longer reach one another: let something else keep the routes first, on every node.

To stop the fast path alone, and to keep those routes, remove the pins of the programs' links instead, with the agent \
stopped: rm -r /sys/fs/bpf/underpass/links. Before Linux 6.6 the programs are filters, which docs/bpftool.md deletes.";

/// What `underpass` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the node agent
    #[command(after_long_help = AGENT_HELP)]
    Agent(Box<AgentArgs>),
    /// One screen: what works, what does not, what share of packets is fast
    Status(StatusArgs),
    /// The other nodes, and what became of each
    Peers(ReadArgs),
    /// The pods of this node: their veths, and what has been learned of them
    Pods(ReadArgs),
    /// The flows that the kernel has been seen to forward
    #[command(after_long_help = FLOWS_EXAMPLES)]
    Flows(FlowsArgs),
    /// What would become of a packet, step by step, and why
    #[command(after_long_help = TRACE_EXAMPLES)]
    Trace(TraceArgs),
    /// Live: packets on the fast path and through the kernel, and why
    #[command(after_long_help = TOP_HELP)]
    Top(TopArgs),
    /// Is this machine fit? Every precondition, with what to do about it. Ends with 1 where one fails, else with 0
    Check(Box<CheckArgs>),
    /// Take everything out again: programs, maps, routes, neighbours, sysctls
    #[command(after_long_help = DETACH_HELP)]
    Detach(DetachArgs),
    /// Print completions for a shell
    Completions(CompletionsArgs),
    /// Write the man pages: this one to standard output, or all of them into a directory
    Man(ManArgs),
}

/// `underpass completions`.
#[derive(Clone, Copy, Debug, Args)]
pub struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// `underpass man`.
#[derive(Clone, Debug, Args)]
pub struct ManArgs {
    /// Write underpass.1 and a page for each subcommand here
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Where the pins are.
#[derive(Clone, Debug, Args)]
pub struct PinArgs {
    /// Directory on a BPF file system where maps, programs and links are pinned
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DIR, env = "UNDERPASS_BPFFS")]
    pub bpffs: PathBuf,
}

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    #[default]
    Text,
    /// For programs; its form is stable
    Json,
}

/// What all reading commands take.
#[derive(Clone, Debug, Args)]
pub struct ReadArgs {
    /// Where to look.
    #[command(flatten)]
    pub pins: PinArgs,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// `underpass detach`.
#[derive(Clone, Debug, Args)]
pub struct DetachArgs {
    /// Where the pins are.
    #[command(flatten)]
    pub pins: PinArgs,
    /// Stay after it, doing nothing, until told to stop (SIGTERM, SIGINT): for a DaemonSet, whose containers may
    /// not end
    #[arg(long)]
    pub stay: bool,
}

/// Which packets may take the fast path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OffloadMode {
    /// Those of directions that the kernel itself has forwarded before
    #[default]
    Confirmed,
    /// All that the trie has an answer for: for machines without NAT and policy
    Always,
}

/// Who keeps the kernel's routes to the podCIDRs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum RoutesMode {
    /// The CNI that is there; they are only looked at
    #[default]
    Observe,
    /// Underpass: added, kept and removed under route protocol 85; others' are never touched
    Manage,
}

/// Who looks first at what comes in by the uplinks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum IngressMode {
    /// A TC program
    #[default]
    Tc,
    /// An XDP program, which carries packets of confirmed flows into pods that take them (GRO is on at the pod's end
    /// of its veth); TC has all the rest. Not all devices can, and some go down for a moment when it is attached
    Xdp,
}

/// What to do about GRO at the pods' end of their veths, without which XDP can hand them nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PodGro {
    /// Leave it as it is: pods where it is off get their packets by TC
    #[default]
    Leave,
    /// Switch it on, with --ingress xdp. Nobody switches it off again: it lives as long as the pod
    Set,
}

/// Further uplinks.
#[derive(Clone, Debug, Args)]
pub struct ExtraUplinkArgs {
    /// A further uplink by name, on an L2 segment of its own with nodes on it; may be given more than once, also as a
    /// list with commas. What pods of one segment send to those of another, by this node, takes the fast path as well
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        env = "UNDERPASS_EXTRA_IFACE"
    )]
    pub extra_iface: Vec<String>,
}

/// Whether there is XDP before TC, and how.
#[derive(Args, Clone, Copy, Debug)]
pub struct IngressArgs {
    /// Who looks first at what comes in by the uplink
    #[arg(long, value_enum, default_value_t, env = "UNDERPASS_INGRESS")]
    pub ingress: IngressMode,
    /// Where in the kernel XDP runs, with --ingress xdp
    #[arg(long, value_enum, default_value_t, env = "UNDERPASS_XDP_MODE")]
    pub xdp_mode: XdpMode,
    /// What to do about GRO at the pods' end of their veths, with --ingress xdp
    #[arg(long, value_enum, default_value_t, env = "UNDERPASS_POD_GRO")]
    pub pod_gro: PodGro,
}

/// What to do about `net.netfilter.nf_conntrack_tcp_be_liberal`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum BeLiberal {
    /// Set it to 1, and put it back on detach
    #[default]
    Set,
    /// Leave it alone: connections that fall back to the kernel in mid-stream may be taken for
    /// INVALID there
    Leave,
}

/// What to do about the limits of the kernel's neighbour tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum NeighbourLimits {
    /// Raise them where the peers do not fit, and put them back on detach
    #[default]
    Raise,
    /// Leave them alone: peers beyond them are forgotten by the kernel, over and over
    Leave,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

/// `underpass agent`.
#[derive(Clone, Debug, Args)]
pub struct AgentArgs {
    /// Read settings from this file: YAML, its keys are the names of these options without the dashes in front
    #[arg(long, value_name = "FILE", env = "UNDERPASS_CONFIG")]
    pub config: Option<PathBuf>,
    /// This node's name, as the cluster knows it
    #[arg(long, value_name = "NAME", env = "UNDERPASS_NODE_NAME")]
    pub node_name: String,
    /// Nodes from a file instead of the Kubernetes API: a List of Nodes, YAML or JSON
    /// (`kubectl get nodes -o yaml`); watched
    #[arg(long, value_name = "FILE", env = "UNDERPASS_NODES_FILE")]
    pub nodes_file: Option<PathBuf>,
    /// Reach the Kubernetes API with this kubeconfig. Without it: in a pod by the pod's ServiceAccount,
    /// elsewhere by the file in KUBECONFIG or ~/.kube/config
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "nodes_file",
        env = "UNDERPASS_KUBECONFIG"
    )]
    pub kubeconfig: Option<PathBuf>,
    /// Which uplink.
    #[command(flatten)]
    pub uplink: UplinkArgs,
    /// Which others.
    #[command(flatten)]
    pub extra: ExtraUplinkArgs,
    /// Take podCIDRs only within this block; may be given more than once, also as a list with commas.
    /// It binds its own family: without one of the other, podCIDRs of that may lie anywhere
    #[arg(
        long,
        value_name = "CIDR",
        value_delimiter = ',',
        env = "UNDERPASS_CLUSTER_CIDR"
    )]
    pub cluster_cidr: Vec<IpNet>,
    /// Which packets may take the fast path
    #[arg(long, value_enum, default_value_t, env = "UNDERPASS_OFFLOAD")]
    pub offload: OffloadMode,
    /// Who keeps the kernel's host-gw routes
    #[arg(long, value_enum, default_value_t, env = "UNDERPASS_ROUTES")]
    pub routes: RoutesMode,
    /// Whether there is XDP.
    #[command(flatten)]
    pub ingress: IngressArgs,
    /// What to do about net.netfilter.nf_conntrack_tcp_be_liberal
    #[arg(long, value_enum, default_value_t, env = "UNDERPASS_TCP_BE_LIBERAL")]
    pub tcp_be_liberal: BeLiberal,
    /// What to do about net.ipv4.neigh.default.gc_thresh1 to 3, and the same of ipv6
    #[arg(long, value_enum, default_value_t, env = "UNDERPASS_NEIGHBOUR_LIMITS")]
    pub neighbour_limits: NeighbourLimits,
    /// Entries of the flow table
    #[arg(
        long,
        value_name = "N",
        default_value_t = MAX_FLOWS,
        env = "UNDERPASS_MAX_FLOWS"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=16_777_216))]
    pub max_flows: u32,
    /// Where the pins go.
    #[command(flatten)]
    pub pins: PinArgs,
    /// Serve /healthz, /readyz and /metrics here
    #[arg(long, value_name = "ADDR:PORT", env = "UNDERPASS_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// How log lines look; RUST_LOG chooses which
    #[arg(long, value_enum, default_value_t, env = "UNDERPASS_LOG_FORMAT")]
    pub log_format: LogFormat,
    /// Write a line of the log for each packet that this matches, with its verdict: `all`, or any of `address=IP[/LEN]`,
    /// `pod=IP[/LEN]`, `remote=IP[/LEN]`, `port=N`, `proto=tcp|udp|icmp`, `hook=NAME`, `verdict=NAME` with commas
    /// between them, all of which must hold. No more than 100 lines a second on each CPU; without this it costs nothing
    #[arg(long, value_name = "FILTER", env = "UNDERPASS_TRACE_PACKETS")]
    pub trace_packets: Option<PacketFilter>,
}

/// Which interface leads to the other nodes. Without any of these: the one that holds this node's
/// InternalIP, else that of the default route.
#[derive(Clone, Debug, Default, Args)]
#[group(multiple = false)]
pub struct UplinkArgs {
    /// Uplink by name
    #[arg(long, value_name = "NAME", env = "UNDERPASS_IFACE")]
    pub iface: Option<String>,
    /// Uplink by a regular expression that its whole name matches
    #[arg(long, value_name = "REGEX", value_parser = whole_name, env = "UNDERPASS_IFACE_REGEX")]
    pub iface_regex: Option<Regex>,
    /// Uplink by which this address is reached
    #[arg(long, value_name = "IP", env = "UNDERPASS_IFACE_CAN_REACH")]
    pub iface_can_reach: Option<IpAddr>,
}

impl UplinkArgs {
    /// Whether one was asked for.
    pub fn is_given(&self) -> bool {
        self.iface.is_some() || self.iface_regex.is_some() || self.iface_can_reach.is_some()
    }

    /// As the plan takes it.
    pub fn choice(self) -> UplinkChoice {
        match (self.iface, self.iface_regex, self.iface_can_reach) {
            (Some(name), _, _) => UplinkChoice::Name(name),
            (None, Some(pattern), _) => UplinkChoice::Pattern(pattern),
            (None, None, Some(target)) => UplinkChoice::Reach {
                target,
                ifindex: None,
            },
            (None, None, None) => UplinkChoice::Auto,
        }
    }
}

/// A regular expression that must match all of a name: `eth` is not to find `veth0`.
fn whole_name(pattern: &str) -> Result<Regex, regex::Error> {
    // By itself first, so that an error shows what was typed.
    Regex::new(pattern)?;
    Regex::new(&format!("^(?:{pattern})$"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn an_interface_pattern_matches_whole_names() {
        let pattern = whole_name("eth[01]|ens.*").unwrap();
        for (name, matches) in [
            ("eth0", true),
            ("ens18", true),
            ("veth0", false),
            ("eth01", false),
        ] {
            assert_eq!(pattern.is_match(name), matches, "{name}");
        }
        assert!(whole_name("eth[").is_err());
    }

    #[test]
    fn cluster_cidrs_of_both_families_are_taken() {
        let list = "--cluster-cidr=10.244.0.0/16,fd00:244::/48";
        let more = "--cluster-cidr=10.245.0.0/16";
        let node = ["--node-name=a", "--nodes-file=b"];
        let words = ["underpass", "agent"].into_iter().chain(node);
        let parsed = Cli::try_parse_from(words.chain([list, more])).unwrap();
        let Command::Agent(args) = parsed.command else {
            panic!("no agent");
        };
        let cidrs: Vec<String> = args.cluster_cidr.iter().map(ToString::to_string).collect();
        assert_eq!(cidrs, ["10.244.0.0/16", "fd00:244::/48", "10.245.0.0/16"]);
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn one_way_to_name_the_uplink_at_a_time() {
        let parsed = Cli::try_parse_from([
            "underpass",
            "agent",
            "--node-name=a",
            "--nodes-file=b",
            "--iface=eth0",
            "--iface-regex=eth.*",
        ]);
        assert!(parsed.is_err());
    }
}
