//! What the commands that only look take: `status`, `flows`, `trace`, `top`, `check`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{ExtraUplinkArgs, IngressArgs, Output, PinArgs, ReadArgs, UplinkArgs};

/// `underpass status`.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// What all reading commands take.
    #[command(flatten)]
    pub read: ReadArgs,
    /// Read twice, so many seconds apart, and tell packets per second; 0: read once. Without this the
    /// screen takes 1 s, and `-o json` reads once
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub interval: Option<Duration>,
}

impl StatusArgs {
    /// How far apart to read; `None`: once.
    pub fn pause(&self) -> Option<Duration> {
        let usual = match self.read.output {
            Output::Text => Duration::from_secs(1),
            Output::Json => Duration::ZERO,
        };
        Some(self.interval.unwrap_or(usual)).filter(|pause| !pause.is_zero())
    }
}

/// No more than an hour: somebody waits for it.
fn seconds(text: &str) -> Result<Duration, String> {
    let most = 3600.0;
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=most).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!(
            "a number of seconds from 0 to {most} is needed, as 0.5"
        )),
    }
}

/// `underpass flows`.
#[derive(Clone, Debug, Args)]
pub struct FlowsArgs {
    /// What all reading commands take.
    #[command(flatten)]
    pub read: ReadArgs,
    /// Which of them.
    #[command(flatten)]
    pub only: FlowFilter,
    /// In which order; what is equal by it stands in that of `pod`
    #[arg(long, value_enum, default_value_t)]
    pub sort: FlowOrder,
    /// At most so many, after sorting
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Again and again, every so many seconds: on a terminal in place, else one block after the other
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub watch: Option<u64>,
}

/// Which flows `underpass flows` shows. What is given must all hold.
#[derive(Clone, Debug, Default, Args)]
pub struct FlowFilter {
    /// Only flows with this pod or far end
    #[arg(long, value_name = "IP")]
    pub address: Option<IpAddr>,
    /// Only flows of this pod of this node
    #[arg(long, value_name = "IP")]
    pub pod: Option<IpAddr>,
    /// Only flows to and from the pods of this node, by its name or address
    #[arg(long, value_name = "NAME|IP")]
    pub peer: Option<String>,
    /// Only flows with this port at either end; for ICMP echo the identifier
    #[arg(long, value_name = "N")]
    pub port: Option<u16>,
    /// Only flows of this protocol
    #[arg(long, value_enum)]
    pub proto: Option<Protocol>,
    /// Only flows that are confirmed, in one direction at least
    #[arg(long, conflicts_with = "unconfirmed")]
    pub confirmed: bool,
    /// Only flows that are the kernel's in both directions
    #[arg(long)]
    pub unconfirmed: bool,
}

/// The order of flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FlowOrder {
    /// By pod, far end, protocol, pod's port, far end's port
    #[default]
    Pod,
    /// By far end first
    Remote,
    /// By protocol first
    Proto,
    /// By the port at the far end first
    Port,
    /// The kernel's first, then those that are confirmed one way, then both ways
    Road,
}

/// A protocol whose flows can be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// ICMP and ICMPv6 echo
    Icmp,
}

/// `underpass trace`.
#[derive(Clone, Debug, Args)]
pub struct TraceArgs {
    /// What all reading commands take.
    #[command(flatten)]
    pub read: ReadArgs,
    /// Where the packet goes to: a pod of another node, a Service, anything; or a pod of this node
    #[arg(value_name = "IP")]
    pub to: IpAddr,
    /// Where it comes from: a pod of this node, or who sends to one. Without it: a pod of this node, or
    /// whoever sends from the wire where IP is one
    #[arg(long, value_name = "IP")]
    pub from: Option<IpAddr>,
    /// Its protocol. Without it: any, and all flows between the two are told
    #[arg(long, value_enum)]
    pub proto: Option<Protocol>,
    /// Port it goes to; for ICMP echo the identifier
    #[arg(long, value_name = "N", requires = "proto")]
    pub port: Option<u16>,
    /// Port it comes from; not for ICMP echo
    #[arg(long, value_name = "N", requires = "proto")]
    pub from_port: Option<u16>,
}

/// `underpass top`.
#[derive(Clone, Debug, Args)]
pub struct TopArgs {
    /// Where to look.
    #[command(flatten)]
    pub pins: PinArgs,
    /// How far apart to read
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = some_seconds)]
    pub interval: Duration,
    /// Print what there is to see after one interval, as plain text, 80 columns wide, and end
    #[arg(long)]
    pub once: bool,
}

/// As [`seconds`], but no busy loop.
fn some_seconds(text: &str) -> Result<Duration, String> {
    let least = Duration::from_millis(100);
    match seconds(text) {
        Ok(time) if time < least => Err("at least 0.1 seconds are needed".to_owned()),
        time => time,
    }
}

/// `underpass check`: what an agent would be told, as far as it decides what is looked at.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// What all reading commands take.
    #[command(flatten)]
    pub read: ReadArgs,
    /// This node's name, as the cluster knows it; without it the Node with an address of this machine
    #[arg(long, value_name = "NAME", env = "UNDERPASS_NODE_NAME")]
    pub node_name: Option<String>,
    /// Nodes from a file. Without this and --kubeconfig: from the maps of an agent that ran here, else,
    /// in a pod, from the Kubernetes API
    #[arg(long, value_name = "FILE", env = "UNDERPASS_NODES_FILE")]
    pub nodes_file: Option<PathBuf>,
    /// Nodes from the Kubernetes API, reached with this kubeconfig
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
    /// Which others the agent has.
    #[command(flatten)]
    pub extra: ExtraUplinkArgs,
    /// Whether the agent is to have XDP.
    #[command(flatten)]
    pub ingress: IngressArgs,
    /// Stay after it where nothing fails, doing nothing, until told to stop (SIGTERM, SIGINT): for a
    /// DaemonSet, whose containers may not end
    #[arg(long)]
    pub stay: bool,
}

pub(super) const TRACE_EXAMPLES: &str = "\
The packet is walked through the decisions of the programs, on the maps as they stand and on the kernel's own
lookups. Nothing is sent and nothing is changed; no agent need run. It is taken for a packet within a flow: one that
opens a TCP connection, a fragment and the like are always the kernel's. What netfilter does to packets cannot be looked
up: a translated or dropped one is told by `unconfirmed`, however much is sent.

Each line is a step: `ok` goes on, `kernel` leaves it to the kernel (or keeps it from being confirmed), `note` is worth
knowing. The last lines tell the road, the verdict by its name in `underpass status -o json`, and what would make it
fast.

Examples:
  underpass trace 10.244.2.11                     from a pod of this node to a pod of another
  underpass trace 10.244.2.11 --from 10.244.1.11 --proto tcp --port 80
  underpass trace 10.96.0.10 --proto udp --port 53
                                                  to a Service: the kernel's, and why
  underpass trace 10.244.1.11 --from 10.244.2.11  from the wire to a pod of this node";

pub(super) const TOP_HELP: &str = "\
`q`, Esc and Ctrl-C end it. It reads the maps alone, and works without an agent.

Packets and bits are counted by hook and verdict, so rates are of these. Flows are not counted by packets: of peers and
pods it is told how many flows they have, how many of these are confirmed in one direction at least, and how many in
both. A segment train counts as one packet.

At the entrances, `from_pod` and `from_wire`, it is told why packets are left to the kernel; at the exits, `to_wire`
and `to_pod`, what became of these: `confirmed`, or why not.";

pub(super) const FLOWS_EXAMPLES: &str = "\
A flow is there once the kernel has forwarded a packet of it unchanged, until it is evicted. `fast` says that packets of
that direction go past the kernel now, and by which device.

Examples:
  underpass flows --peer node2 --proto tcp        all TCP to and from the pods of node2
  underpass flows --pod 10.244.1.11 --unconfirmed what a pod has that goes by the kernel both ways
  underpass flows --sort road --limit 20 --watch 5";

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cli::{Cli, Command, Output};

    #[test]
    fn what_to_trace_is_checked() {
        let parse = |words: &str| {
            let words = ["underpass", "trace"].into_iter().chain(words.split(' '));
            Cli::try_parse_from(words).map(|parsed| match parsed.command {
                Command::Trace(args) => args,
                _ => panic!("no trace"),
            })
        };
        let args = parse("10.0.0.2 --from 10.0.0.1 --proto tcp --port 80 -o json").unwrap();
        assert_eq!((args.port, args.read.output), (Some(80), Output::Json));
        assert!(parse("fd00::1").is_ok());
        for wrong in [
            "10.0.0.2 --port 80",
            "10.0.0",
            "10.0.0.2 --proto sctp",
            "--from 10.0.0.1",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn watching_has_a_usual_interval() {
        let watch = |words: &[&str]| {
            let words = [&["underpass", "flows"][..], words].concat();
            Cli::try_parse_from(words).map(|parsed| match parsed.command {
                Command::Flows(args) => args.watch,
                _ => panic!("no flows"),
            })
        };
        assert_eq!(watch(&[]).unwrap(), None);
        assert_eq!(watch(&["--watch"]).unwrap(), Some(2));
        assert_eq!(watch(&["--watch", "5"]).unwrap(), Some(5));
        assert_eq!(watch(&["--watch", "--proto", "udp"]).unwrap(), Some(2));
        assert!(watch(&["--watch", "0"]).is_err());
        assert!(watch(&["--limit", "0"]).is_err());
        assert!(watch(&["--confirmed", "--unconfirmed"]).is_err());
    }

    #[test]
    fn top_is_no_busy_loop() {
        let interval = |words: &[&str]| {
            let words = ["underpass", "top"].iter().chain(words);
            let Command::Top(args) = Cli::try_parse_from(words).ok()?.command else {
                panic!("no top");
            };
            Some(args.interval.as_millis())
        };
        assert_eq!(interval(&[]), Some(1000));
        assert_eq!(interval(&["--interval", "0.1", "--once"]), Some(100));
        for nonsense in ["0", "0.05", "-1", "x", "3601"] {
            assert_eq!(interval(&["--interval", nonsense]), None, "{nonsense}");
        }
    }

    #[test]
    fn a_screen_takes_a_second_and_json_none_unless_asked() {
        let pause = |words: &[&str]| {
            let words = ["underpass", "status"].iter().chain(words);
            let Command::Status(args) = Cli::try_parse_from(words).ok()?.command else {
                panic!("no status");
            };
            Some(args.pause().map(|pause| pause.as_millis()))
        };
        assert_eq!(pause(&[]), Some(Some(1000)));
        assert_eq!(pause(&["-o", "json"]), Some(None));
        assert_eq!(pause(&["-o", "json", "--interval", "0.5"]), Some(Some(500)));
        assert_eq!(pause(&["--interval", "0"]), Some(None));
        for nonsense in ["-1", "x", "nan", "inf", "3601"] {
            assert_eq!(pause(&["--interval", nonsense]), None, "{nonsense}");
        }
    }
}
