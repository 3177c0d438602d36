//! With the kernel's road closed, what was confirmed goes on.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use underpass_bench::lab::rules::Deny;
use underpass_bench::lab::{AgentOptions, Family, LabBuilder, Node, Pod};
use underpass_bench::traffic::{Bulk, BulkTransfer, Ping, UdpClient, UdpEcho};
use underpass_bench::{Backend, Lab, root_or_skip, wait_for};
use underpass_common::verdict::{Hook, Verdict};

use crate::common::{
    self, Counts, DEADLINE, Datapath, NEVER, Way, counts, counts_since, interface_packets,
    make_fast, start_agents, with_families_in_turn,
};

const UDP_PORT: u16 = 5001;
const TCP_PORT: u16 = 5002;
/// More than can be under way when a road is closed.
const A_LOT: u64 = 32 << 20;

#[test]
fn bypass_proof() -> Result<()> {
    if !root_or_skip("bypass_proof") {
        return Ok(());
    }
    with_families_in_turn(goes_past_the_kernel)
}

fn goes_past_the_kernel(family: Family) -> Result<()> {
    let lab = cluster(family).build()?;
    let agents = start_agents(&lab, &AgentOptions::default())?;
    let (pod, far) = (lab.pod(1, 1), lab.pod(2, 1));
    let at_first = Entrances::of_all(&lab)?;
    let traffic = Traffic::start(&lab, pod, far)?;
    traffic.make_fast(&lab)?;

    for road in [Road::Rules, Road::Forwarding] {
        road.close(&lab)?;
        // What was not confirmed before cannot be now.
        ensure!(!works(Ping::to(far.address()), pod)?, "{road:?} is open");
        let before = counts(&lab)?;
        traffic.goes_on()?;
        all_fast_since(&lab, &before)?;
        road.open(&lab)?;
    }

    // The last packets of a connection, too.
    Road::Forwarding.close(&lab)?;
    let before = counts(&lab)?;
    traffic.bulk.stop(DEADLINE)?;
    all_fast_since(&lab, &before)?;
    accounted_for(&lab, &at_first)?;
    drop(agents);
    Ok(())
}

/// The same without an agent: else the test above would show nothing.
#[test]
fn a_closed_road_stops_the_kernel() -> Result<()> {
    if !root_or_skip("a_closed_road_stops_the_kernel") {
        return Ok(());
    }
    with_families_in_turn(|family| {
        for road in [Road::Rules, Road::Forwarding] {
            let lab = cluster(family).build()?;
            let traffic = Traffic::start(&lab, lab.pod(1, 1), lab.pod(2, 1))?;
            traffic.goes_on()?;
            road.close(&lab)?;
            ensure!(traffic.bulk.wait_for_more(A_LOT, NEVER).is_err(), "TCP");
            ensure!(traffic.udp.echo(b"?", NEVER).is_err(), "UDP");
            ensure!(!works(traffic.ping, &traffic.pod)?, "ping");
        }
        Ok(())
    })
}

fn cluster(family: Family) -> LabBuilder {
    common::lab()
        .families(family)
        .flannel_rules(true)
        .kube_proxy_rules(Backend::Iptables)
}

/// How the kernel's road is closed, on both nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Road {
    /// A rule in FORWARD drops everything.
    Rules,
    /// The kernel forwards nothing.
    Forwarding,
}

impl Road {
    fn close(self, lab: &Lab) -> Result<()> {
        lab.nodes().iter().try_for_each(|node| match self {
            Self::Rules => lab.deny(node, &Deny::all()),
            Self::Forwarding => set_forwarding(node, "0"),
        })
    }

    fn open(self, lab: &Lab) -> Result<()> {
        lab.nodes().iter().try_for_each(|node| match self {
            Self::Rules => lab.undeny(node, &Deny::all()),
            Self::Forwarding => set_forwarding(node, "1"),
        })
    }
}

fn set_forwarding(node: &Node, value: &str) -> Result<()> {
    let mut families = node.families().each();
    families.try_for_each(|family| node.sysctl(family.forwarding(), value))
}

/// Traffic of each kind between two pods.
struct Traffic {
    pod: Pod,
    far: Pod,
    bulk: BulkTransfer,
    _echo: UdpEcho,
    udp: UdpClient,
    ping: Ping,
}

const PING: u16 = 4711;

impl Traffic {
    fn start(lab: &Lab, pod: &Pod, far: &Pod) -> Result<Self> {
        let (pod, far) = (pod.clone(), far.clone());
        let echo = UdpEcho::start(&far, UDP_PORT)?;
        let ping = Ping::to(far.address())
            .identifier(PING)
            .timeout(NEVER)
            .interval(Duration::ZERO);
        // Addresses are resolved by this.
        wait_for(DEADLINE, "the far pod answers", || ping.expect(&pod))?;
        ensure!(lab.nodes().len() == 2, "drawn for two nodes");
        Ok(Self {
            bulk: Bulk::to(SocketAddr::new(far.address(), TCP_PORT)).start(&pod, &far)?,
            udp: UdpClient::connect(&pod, SocketAddr::new(far.address(), UDP_PORT))?,
            _echo: echo,
            ping,
            pod,
            far,
        })
    }

    fn make_fast(&self, lab: &Lab) -> Result<()> {
        let (pod, far) = (self.pod.address(), self.far.address());
        let from = |port| SocketAddr::new(pod, port);
        let to = |port| SocketAddr::new(far, port);
        let tcp = common::tcp(from(self.bulk.local_port()?), to(TCP_PORT));
        make_fast(lab, &tcp, || self.bulk.wait_for_more(1, DEADLINE))?;
        let udp = common::udp(from(self.udp.local_port()?), to(UDP_PORT));
        make_fast(lab, &udp, || self.udp.echo(b"?", DEADLINE).map(drop))?;
        let ping = common::ping(pod, far, PING);
        make_fast(lab, &ping, || self.ping.expect(&self.pod).map(drop))
    }

    fn goes_on(&self) -> Result<()> {
        self.bulk.wait_for_more(A_LOT, DEADLINE)?;
        for _ in 0..50 {
            self.udp.echo(b"still there?", DEADLINE)?;
        }
        self.ping.count(50).timeout(DEADLINE).expect(&self.pod)?;
        Ok(())
    }
}

fn works(ping: Ping, pod: &Pod) -> Result<bool> {
    Ok(ping.timeout(NEVER).run(pod)?.all_replied())
}

/// All packets of the traffic since `before` were fast, at each entrance.
fn all_fast_since(lab: &Lab, before: &[Counts]) -> Result<()> {
    for added in counts_since(lab, before)? {
        for hook in [Hook::FromPod, Hook::FromWire] {
            let fast = added.of(hook, Verdict::Fast);
            ensure!(fast > 0 && fast == added.of_traffic(hook), "{added:?}");
        }
    }
    Ok(())
}

/// What went through the entrances of a node, as the programs and as the kernel counted it.
struct Entrances {
    programs: Counts,
    /// From the node's pod, and from the wire.
    kernel: [u64; 2],
}

impl Entrances {
    /// Read while nothing goes through.
    fn of(lab: &Lab, node: &Node) -> Result<Self> {
        let (pod, datapath) = (&node.pods()[0], Datapath::of(lab, node)?);
        wait_for(DEADLINE, "a quiet moment", || {
            let programs = datapath.counts()?;
            let kernel = [
                interface_packets(pod, pod.interface(), Way::Out)?,
                interface_packets(node, node.uplink(), Way::In)?,
            ];
            ensure!(programs == datapath.counts()?, "there is traffic");
            Ok(Self { programs, kernel })
        })
    }

    fn of_all(lab: &Lab) -> Result<Vec<Self>> {
        let nodes = lab.nodes().iter();
        nodes.map(|node| Self::of(lab, node)).collect()
    }
}

/// Every packet that came to an entrance since `before` has a verdict there.
fn accounted_for(lab: &Lab, before: &[Entrances]) -> Result<()> {
    for (now, before) in Entrances::of_all(lab)?.iter().zip(before) {
        let programs = now.programs.since(&before.programs);
        for (place, hook) in [Hook::FromPod, Hook::FromWire].into_iter().enumerate() {
            let came = now.kernel[place] - before.kernel[place];
            ensure!(programs.at(hook) == came, "{came} came: {programs:?}");
        }
    }
    // And people are told the same.
    for (node, now) in lab.nodes().iter().zip(Entrances::of_all(lab)?) {
        let status = lab.underpass_json(node, &["status"])?;
        let fast = [Hook::FromPod, Hook::FromWire].map(|hook| now.programs.of(hook, Verdict::Fast));
        let told = &status["traffic"]["fast_packets"];
        ensure!(*told == fast.iter().sum::<u64>(), "{told}, not {fast:?}");
    }
    Ok(())
}
