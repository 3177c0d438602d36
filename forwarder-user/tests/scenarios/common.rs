//! What the scenarios share.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use std::{panic, thread};

use anyhow::{Context, Result, ensure};
use underpass::datapath::{Maps, Pins};
use underpass_bench::lab::{AgentOptions, AgentProcess, Family, Host, LabBuilder, Node};
use underpass_bench::{Backend, Lab, wait_for, wait_until};
use underpass_common::flow::{
    Direction, Flow, FlowKey, ICMP_ECHO_REQUEST, ICMPV6_ECHO_REQUEST, PROTOCOL_ICMP,
    PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP, Tuple, confirmed,
};
use underpass_common::verdict::{Hook, Verdict};

/// How long anything may take that ought to happen at once: CI machines are slow and busy.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// How long to wait for what must not happen.
pub const NEVER: Duration = Duration::from_millis(300);

/// Both holders of netfilter rules.
const BOTH: [Backend; 2] = [Backend::Iptables, Backend::Nftables];

/// Plays a scenario with rules in iptables and with rules in nftables, side by side.
pub fn with_both(scenario: impl Fn(Backend) -> Result<()> + Sync) -> Result<()> {
    side_by_side(BOTH, |backend| {
        scenario(backend).with_context(|| format!("{backend:?}"))
    })
}

/// Plays a scenario with rules in iptables and in nftables, and in IPv4 and IPv6: all four side by side.
pub fn with_both_and_families(
    scenario: impl Fn(Backend, Family) -> Result<()> + Sync,
) -> Result<()> {
    with_families(|family| with_both(|backend| scenario(backend, family)))
}

/// Plays a scenario for IPv4 and for IPv6, side by side.
pub fn with_families(scenario: impl Fn(Family) -> Result<()> + Sync) -> Result<()> {
    side_by_side(Family::BOTH, |family| {
        scenario(family).with_context(|| family.to_string())
    })
}

/// As [`with_families`], for a scenario that needs the machine for itself: one after the other.
pub fn with_families_in_turn(scenario: impl Fn(Family) -> Result<()>) -> Result<()> {
    Family::BOTH
        .into_iter()
        .try_for_each(|family| scenario(family).with_context(|| family.to_string()))
}

fn side_by_side<T: Send, const N: usize>(
    cases: [T; N],
    play: impl Fn(T) -> Result<()> + Sync,
) -> Result<()> {
    let play = &play;
    thread::scope(|threads| {
        let players = cases.map(|case| threads.spawn(move || play(case)));
        players.into_iter().try_for_each(|player| {
            player
                .join()
                .unwrap_or_else(|cause| panic::resume_unwind(cause))
        })
    })
}

/// What `ip addr add` needs so that an address can be used at once.
pub fn no_dad(family: Family) -> &'static str {
    match family {
        Family::V4 => "",
        Family::V6 => "nodad",
    }
}

/// The order of a lab whose agents run the program under test; of IPv4, until it is told otherwise:
/// in a lab of one family `address()` and all that is made of it is of that family.
///
/// Where agents are told to use XDP (`UNDERPASS_INGRESS=xdp`, which they inherit), frames and pods are such that it has
/// something to carry.
pub fn lab() -> LabBuilder {
    Lab::builder()
        .underpass(env!("CARGO_BIN_EXE_underpass"))
        .whole_frames(is_by_xdp())
        .pod_gro(is_by_xdp())
}

/// Whether agents are told to use XDP.
pub fn is_by_xdp() -> bool {
    std::env::var_os("UNDERPASS_INGRESS").is_some_and(|ingress| ingress == "xdp")
}

/// Starts an agent on every node and waits until each knows the way to all others.
pub fn start_agents(lab: &Lab, options: &AgentOptions) -> Result<Vec<AgentProcess>> {
    let agents = lab.start_agents(options, DEADLINE)?;
    for node in lab.nodes() {
        let datapath = Datapath::of(lab, node)?;
        let what = format!("{} has routes to all other nodes", node.name());
        wait_for(DEADLINE, &what, || {
            let routes = datapath.maps.routes()?;
            ensure!(routes.len() >= ways_out(lab, node), "{routes:?}");
            Ok(())
        })?;
    }
    Ok(agents)
}

/// How many podCIDRs of other nodes there are in the families that a node speaks.
fn ways_out(lab: &Lab, node: &Node) -> usize {
    let others = lab
        .nodes()
        .iter()
        .filter(|other| other.number() != node.number());
    let shared = others.flat_map(|other| other.families().each());
    shared.filter(|&family| node.families().has(family)).count()
}

/// A packet's addresses and ports, in its own direction.
pub type Ends = Tuple<IpAddr>;

/// Names a UDP packet.
pub fn udp(from: SocketAddr, to: SocketAddr) -> Ends {
    ends(PROTOCOL_UDP, from, to)
}

/// Names a TCP packet.
pub fn tcp(from: SocketAddr, to: SocketAddr) -> Ends {
    ends(PROTOCOL_TCP, from, to)
}

/// Names an ICMP or ICMPv6 echo request.
pub fn ping(from: IpAddr, to: IpAddr, identifier: u16) -> Ends {
    let (protocol, icmp_type) = match Family::of(to) {
        Family::V4 => (PROTOCOL_ICMP, ICMP_ECHO_REQUEST),
        Family::V6 => (PROTOCOL_ICMPV6, ICMPV6_ECHO_REQUEST),
    };
    let (from, to) = (
        SocketAddr::new(from, identifier),
        SocketAddr::new(to, identifier),
    );
    Ends {
        icmp_type,
        ..ends(protocol, from, to)
    }
}

fn ends(protocol: u8, from: SocketAddr, to: SocketAddr) -> Ends {
    Ends {
        src: from.ip(),
        dst: to.ip(),
        src_port: from.port().to_be_bytes(),
        dst_port: to.port().to_be_bytes(),
        protocol,
        icmp_type: 0,
    }
}

/// What a node's maps hold.
pub struct Datapath {
    pub maps: Maps,
}

impl Datapath {
    /// Of an agent that has started.
    pub fn of(lab: &Lab, node: &Node) -> Result<Self> {
        let maps = Maps::open(&Pins::new(lab.bpffs(node)))
            .with_context(|| format!("the maps of {}", node.name()))?;
        Ok(Self { maps })
    }

    /// True where the node's pod may send this packet past the kernel.
    pub fn sends_fast(&self, packet: &Ends) -> Result<bool> {
        self.is_confirmed(&packet.from_pod(), |flow| flow.egress)
    }

    /// True where the node's pod may get this packet past the kernel.
    pub fn receives_fast(&self, packet: &Ends) -> Result<bool> {
        self.is_confirmed(&packet.to_pod(), |flow| flow.ingress)
    }

    /// True where a packet between other nodes' pods may pass this node fast.
    pub fn passes_fast(&self, packet: &Ends) -> Result<bool> {
        self.sends_fast(packet)
    }

    fn is_confirmed(
        &self,
        key: &FlowKey<IpAddr>,
        direction: fn(&Flow) -> Direction,
    ) -> Result<bool> {
        let epoch = self.maps.settings()?.epoch;
        let flows = self.maps.flows()?;
        let found = flows.iter().find(|(name, _)| name == key);
        Ok(found.is_some_and(|(_, flow)| {
            let direction = direction(flow);
            direction.confirmed != confirmed::NO && direction.epoch == epoch
        }))
    }

    /// What the programs have counted so far. What XDP has carried stands with what TC has carried in its place.
    pub fn counts(&self) -> Result<Counts> {
        let mut counts = BTreeMap::new();
        for (hook, verdict, count) in self.maps.verdicts()? {
            let hook = match hook {
                Hook::FromWireXdp => Hook::FromWire,
                hook => hook,
            };
            *counts.entry((hook, verdict)).or_default() += count.packets;
        }
        Ok(Counts(counts))
    }
}

/// What the programs of each node have counted so far.
pub fn counts(lab: &Lab) -> Result<Vec<Counts>> {
    let nodes = lab.nodes().iter();
    nodes
        .map(|node| Datapath::of(lab, node)?.counts())
        .collect()
}

/// What they have counted since an earlier reading.
pub fn counts_since(lab: &Lab, earlier: &[Counts]) -> Result<Vec<Counts>> {
    let now = counts(lab)?;
    Ok(now
        .iter()
        .zip(earlier)
        .map(|(now, earlier)| now.since(earlier))
        .collect())
}

/// Packets by hook and verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts(BTreeMap<(Hook, Verdict), u64>);

impl Counts {
    /// Packets with this verdict.
    pub fn of(&self, hook: Hook, verdict: Verdict) -> u64 {
        self.0.get(&(hook, verdict)).copied().unwrap_or_default()
    }

    /// All packets at a hook.
    pub fn at(&self, hook: Hook) -> u64 {
        let of_hook = self.0.iter().filter(|((at, _), _)| *at == hook);
        of_hook.map(|(_, packets)| packets).sum()
    }

    /// Packets at an entrance but for those that neighbours need to find one another, which come when
    /// they like: ARP, and in IPv6 neighbour discovery and listener reports.
    pub fn of_traffic(&self, hook: Hook) -> u64 {
        let of_neighbours = [
            Verdict::NotIp,
            Verdict::NotForUs,
            Verdict::NotPodTraffic,
            Verdict::Icmp,
        ];
        let sum: u64 = of_neighbours
            .map(|verdict| self.of(hook, verdict))
            .iter()
            .sum();
        self.at(hook) - sum
    }

    /// What has been added to an earlier reading.
    pub fn since(&self, earlier: &Self) -> Self {
        let added = self.0.iter().map(|(&key, &packets)| {
            let before = earlier.of(key.0, key.1);
            (key, packets - before)
        });
        Self(added.filter(|(_, packets)| *packets != 0).collect())
    }
}

/// The node where a pod lives.
pub fn node_of(lab: &Lab, pod: IpAddr) -> &Node {
    let mut nodes = lab.nodes().iter();
    nodes
        .find(|node| node.pod_cidrs().iter().any(|cidr| cidr.contains(&pod)))
        .unwrap_or_else(|| panic!("{pod} is no pod's"))
}

/// True where a packet from pod to pod is fast all the way: at the node that it comes from and at
/// the one that it goes to.
pub fn is_fast(lab: &Lab, packet: &Ends) -> Result<bool> {
    let sends = Datapath::of(lab, node_of(lab, packet.src))?.sends_fast(packet)?;
    Ok(sends && Datapath::of(lab, node_of(lab, packet.dst))?.receives_fast(packet)?)
}

/// Repeats an exchange until its packets and their answers are fast all the way. Where nothing is in
/// the way the first one is enough.
pub fn make_fast(lab: &Lab, packet: &Ends, mut exchange: impl FnMut() -> Result<()>) -> Result<()> {
    let what = format!("{packet:?} and its answer go fast");
    wait_for(DEADLINE, &what, || {
        exchange()?;
        ensure!(is_fast(lab, packet)?, "the packet isn't fast");
        ensure!(is_fast(lab, &packet.answer())?, "the answer isn't fast");
        Ok(())
    })
}

/// Packets that an interface has received or sent, as the kernel counts them: a segment train is one.
pub fn interface_packets(host: &Host, interface: &str, way: Way) -> Result<u64> {
    let shown = host.run(&["ip", "-json", "-stats", "link", "show", "dev", interface])?;
    let links: serde_json::Value = serde_json::from_str(&shown)?;
    let packets = &links[0]["stats64"][way.name()]["packets"];
    packets
        .as_u64()
        .with_context(|| format!("no count of packets in {shown}"))
}

/// Which way through an interface.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    In,
    Out,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::In => "rx",
            Way::Out => "tx",
        }
    }
}

/// The connections of a protocol (`tcp`, `udp`, or `icmp`, also for ICMPv6) that a node's connection
/// tracking knows between two addresses.
pub fn tracked(node: &Node, protocol: &str, from: IpAddr, to: IpAddr) -> Result<String> {
    let (family, protocol) = match Family::of(from) {
        Family::V4 => ("ipv4", protocol),
        Family::V6 if protocol == "icmp" => ("ipv6", "icmpv6"),
        Family::V6 => ("ipv6", protocol),
    };
    let (from, to) = (from.to_string(), to.to_string());
    let list = ["conntrack", "-L", "-f", family, "-p", protocol];
    node.run(&[&list[..], &["-s", &from, "-d", &to]].concat())
}

/// Waits until a node's connection tracking has forgotten all of them.
pub fn wait_until_untracked(node: &Node, protocol: &str, from: IpAddr, to: IpAddr) -> Result<()> {
    let what = format!("{} forgets {protocol} from {from} to {to}", node.name());
    wait_until(DEADLINE, &what, || {
        tracked(node, protocol, from, to).is_ok_and(|list| list.trim().is_empty())
    })
}

/// Has the nodes' connection tracking forget everything.
pub fn forget_connections(lab: &Lab) -> Result<()> {
    for node in lab.nodes() {
        // Exit code 1: there was nothing to forget.
        node.output(&["conntrack", "-F"])?;
    }
    Ok(())
}

/// Has the nodes' connection tracking forget in 5 s, in both families, what it remembers for minutes or
/// days.
pub fn forget_soon(lab: &Lab) -> Result<()> {
    const AFTER: &str = "5";
    let timeouts = [
        "tcp_timeout_syn_sent",
        "tcp_timeout_syn_recv",
        "tcp_timeout_established",
        "tcp_timeout_fin_wait",
        "tcp_timeout_close_wait",
        "tcp_timeout_last_ack",
        "tcp_timeout_time_wait",
        "tcp_timeout_close",
        "tcp_timeout_max_retrans",
        "tcp_timeout_unacknowledged",
        "udp_timeout",
        "udp_timeout_stream",
    ];
    for node in lab.nodes() {
        for timeout in timeouts {
            node.sysctl(&format!("net.netfilter.nf_conntrack_{timeout}"), AFTER)?;
        }
    }
    Ok(())
}
