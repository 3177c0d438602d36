//! Where the way is narrower than its ends, the sender learns it: path MTU discovery (RFC 1191, RFC 8201).

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use underpass_bench::lab::{AgentOptions, Family, Host, LabBuilder, Node, Pod};
use underpass_bench::traffic::{Bulk, UdpClient, UdpEcho, UdpFlow};
use underpass_bench::{Backend, Lab, root_or_skip, wait_for};
use underpass_common::verdict::{Hook, Verdict};

use crate::common::{
    self, DEADLINE, Datapath, NEVER, forget_soon, is_fast, make_fast, start_agents, tcp, tracked,
    udp, wait_until_untracked, with_both_and_families, with_families,
};

const PORT: u16 = 5001;
const CLIENT_PORT: u16 = 41_000;
/// Less than the pods' 1500 to begin with, and more than IPv6 asks of every link.
const NARROW: u32 = 1300;
/// Bytes of a datagram that fits all the same.
const FITS: usize = 1200;
/// A datagram that no longer fits.
const LARGE: [u8; 1400] = [7; 1400];

#[test]
fn pmtu() -> Result<()> {
    if !root_or_skip("pmtu") {
        return Ok(());
    }
    with_both_and_families(|backend, family| {
        for (place, conntrack) in [
            (Place::LastHop, Conntrack::Knows),
            (Place::LastHop, Conntrack::HasForgotten),
            (Place::Uplink, Conntrack::HasForgotten),
        ] {
            tcp_learns(backend, family, place, conntrack)
                .with_context(|| format!("TCP, {place:?}, {conntrack:?}"))?;
            udp_learns(backend, family, place, conntrack)
                .with_context(|| format!("UDP, {place:?}, {conntrack:?}"))?;
        }
        one_way_udp_learns(backend, family).context("one-way UDP")
    })
}

/// Whether connection tracking knows the flow when the error comes. What it does not know is INVALID to
/// it, and dropped by kube-proxy's rule.
#[derive(Clone, Copy, Debug)]
enum Conntrack {
    Knows,
    /// As an hour after the flow began: here, 5 s after the last packet that went by the kernel.
    HasForgotten,
}

/// Where the way is narrow.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// The far pod's link: its node says so, from beyond the wire.
    LastHop,
    /// The wire between the nodes: the sender's own node says so.
    Uplink,
}

impl Place {
    /// The node that finds packets too big, and where it finds them.
    fn told_by(self) -> (usize, Hook) {
        match self {
            Self::LastHop => (2, Hook::FromWire),
            Self::Uplink => (1, Hook::FromPod),
        }
    }
}

fn cluster(backend: Backend, family: Family) -> LabBuilder {
    let lab = common::lab().families(family);
    lab.flannel_rules(true).kube_proxy_rules(backend)
}

/// Makes the way to pod 1 of node 2 narrow. What the ends have told each other before stays.
fn narrow(lab: &Lab, place: Place, conntrack: Conntrack) -> Result<()> {
    if let Conntrack::HasForgotten = conntrack {
        let (pod, far) = (lab.pod(1, 1).address(), lab.pod(2, 1).address());
        for (node, protocol) in lab
            .nodes()
            .iter()
            .flat_map(|node| [(node, "tcp"), (node, "udp")])
        {
            wait_until_untracked(node, protocol, pod, far)?;
        }
    }
    let set =
        |host: &Host, interface: &str| host.ip(&format!("link set {interface} mtu {NARROW}\n"));
    match place {
        Place::LastHop => {
            let (node, pod) = (lab.node(2), lab.pod(2, 1));
            set(pod, pod.interface())?;
            set(node, pod.node_veth())?;
            set(node, "cni0")
        }
        Place::Uplink => lab.nodes().iter().try_for_each(|node| {
            set(node, node.uplink())?;
            set(lab.switch(), node.name())
        }),
    }
}

/// Waits until pod 1 of node 1 knows how narrow its way is.
fn wait_until_learned(lab: &Lab, mut meanwhile: impl FnMut() -> Result<()>) -> Result<()> {
    let (pod, far) = (lab.pod(1, 1), lab.pod(2, 1).address().to_string());
    wait_for(DEADLINE, "the sender has learned the path MTU", || {
        meanwhile()?;
        let route = pod.run(&["ip", "route", "get", &far])?;
        ensure!(route.contains(&format!("mtu {NARROW}")), "{route}");
        Ok(())
    })
}

fn tcp_learns(backend: Backend, family: Family, place: Place, conntrack: Conntrack) -> Result<()> {
    let lab = cluster(backend, family).build()?;
    forget_soon(&lab)?;
    let agents = start_agents(&lab, &AgentOptions::default())?;
    let (pod, far) = (lab.pod(1, 1), lab.pod(2, 1));
    let to = SocketAddr::new(far.address(), PORT);
    let bulk = Bulk::to(to).local_port(CLIENT_PORT).start(pod, far)?;
    let packet = tcp(SocketAddr::new(pod.address(), CLIENT_PORT), to);
    wait_for(DEADLINE, "the transfer is fast", || {
        ensure!(is_fast(&lab, &packet)? && is_fast(&lab, &packet.answer())?);
        Ok(())
    })?;
    bulk.wait_for_more(1 << 20, DEADLINE)?;

    narrow(&lab, place, conntrack)?;
    wait_until_learned(&lab, || Ok(()))?;
    bulk.wait_for_more(4 << 20, DEADLINE)?;
    if let Conntrack::HasForgotten = conntrack {
        // So it was not by conntrack's leave that the error came.
        let known = tracked(lab.node(1), "tcp", pod.address(), far.address())?;
        ensure!(known.trim().is_empty(), "{known}");
    }
    let (node, hook) = place.told_by();
    let too_big = Datapath::of(&lab, lab.node(node))?.counts()?;
    ensure!(too_big.of(hook, Verdict::TooBig) > 0, "{too_big:?}");
    bulk.stop(DEADLINE)?;
    ensure!(is_fast(&lab, &packet)?, "the transfer ended by the kernel");
    drop(agents);
    Ok(())
}

/// With answers, so that both directions are confirmed.
fn udp_learns(backend: Backend, family: Family, place: Place, conntrack: Conntrack) -> Result<()> {
    let lab = cluster(backend, family).build()?;
    forget_soon(&lab)?;
    let agents = start_agents(&lab, &AgentOptions::default())?;
    let (pod, far) = (lab.pod(1, 1), lab.pod(2, 1));
    let to = SocketAddr::new(far.address(), PORT);
    let _server = UdpEcho::start(far, PORT)?;
    let client = UdpClient::connect_from(pod, CLIENT_PORT, to)?;
    let packet = udp(SocketAddr::new(pod.address(), CLIENT_PORT), to);
    make_fast(&lab, &packet, || client.echo(&LARGE, DEADLINE).map(drop))?;

    narrow(&lab, place, conntrack)?;
    // One datagram is enough: it is lost, and its error tells the sender.
    client.send(&LARGE)?;
    wait_until_learned(&lab, || Ok(()))?;
    // Not the large one in fragments: with conntrack in IPv6 the kernel itself puts them together and
    // finds the whole too big again. And first the socket tells of the error.
    wait_for(DEADLINE, "what fits is answered", || {
        client.echo(&LARGE[..FITS], NEVER).map(drop)
    })?;
    drop(agents);
    Ok(())
}

/// Nothing was ever seen to come back, and a policy might forbid it: the first error is the kernel's, which
/// does not know the flow. By that the flow is the kernel's for a packet, and the next error is known.
fn one_way_udp_learns(backend: Backend, family: Family) -> Result<()> {
    let lab = cluster(backend, family).build()?;
    forget_soon(&lab)?;
    let agents = start_agents(&lab, &AgentOptions::default())?;
    let (pod, far) = (lab.pod(1, 1), lab.pod(2, 1));
    let to = SocketAddr::new(far.address(), PORT);
    // Somebody listens, and says nothing.
    UdpFlow::to(to)
        .local_port(CLIENT_PORT)
        .packets(10)
        .run(pod, far)?;
    let client = UdpClient::connect_from(pod, CLIENT_PORT, to)?;
    let way = udp(SocketAddr::new(pod.address(), CLIENT_PORT), to);
    ensure!(is_fast(&lab, &way)?, "it isn't fast");

    narrow(&lab, Place::LastHop, Conntrack::HasForgotten)?;
    wait_until_learned(&lab, || {
        // Refused once the sender knows better, by the error that it was told.
        let _ = client.send(&LARGE);
        Ok(())
    })?;
    drop(agents);
    Ok(())
}

/// Files of random size over links of random MTU arrive as they were, both ways at once.
#[test]
fn random_mtu() -> Result<()> {
    const ROUNDS: u64 = 3;
    if !root_or_skip("random_mtu") {
        return Ok(());
    }
    let seed = std::env::var("UNDERPASS_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("random_mtu: UNDERPASS_SEED={seed}");
    with_families(|family| {
        let mut random = Random(seed | 1);
        (0..ROUNDS).try_for_each(|round| {
            files_arrive(family, &mut random)
                .with_context(|| format!("round {round} of UNDERPASS_SEED={seed}"))
        })
    })
}

fn files_arrive(family: Family, random: &mut Random) -> Result<()> {
    // One for all on the segment between the nodes; each pod's link has one of its own, wider or not.
    let segment = random.between(1280, 1500);
    let lab = common::lab().families(family).mtu(segment).build()?;
    let mut said = vec![segment];
    for node in lab.nodes() {
        let (pod, mtu) = (&node.pods()[0], random.between(1280, 1500));
        node.ip(&format!(
            "link set {} mtu {mtu}\nlink set cni0 mtu {mtu}\n",
            pod.node_veth()
        ))?;
        pod.ip(&format!("link set {} mtu {mtu}\n", pod.interface()))?;
        promise_full_segments(node, pod, family)?;
        said.push(mtu);
    }
    let agents = start_agents(&lab, &AgentOptions::default())?;
    let (pod, far) = (lab.pod(1, 1), lab.pod(2, 1));
    let transfer = |from: &Pod, to: &Pod, size: u32| {
        let bulk = Bulk::to(SocketAddr::new(to.address(), PORT)).size(size.into());
        bulk.start(from, to)
    };
    let sizes = [random.between(1, 4 << 20), random.between(1, 4 << 20)];
    let out = transfer(pod, far, sizes[0])?;
    let back = transfer(far, pod, sizes[1])?;
    for (transfer, size) in [(out, sizes[0]), (back, sizes[1])] {
        let report = transfer
            .finish(DEADLINE)
            .with_context(|| format!("MTUs {said:?}"))?;
        ensure!(report.bytes == u64::from(size), "{report:?} of {size}");
    }
    drop(agents);
    Ok(())
}

/// Has a pod ask for segments of 1500 bytes, whatever its own link takes: by what the ends tell each other
/// nobody would ever send too much for the last link.
fn promise_full_segments(node: &Node, pod: &Pod, family: Family) -> Result<()> {
    // Without the headers of IP and TCP.
    let segment = match family {
        Family::V4 => 1500 - 20 - 20,
        Family::V6 => 1500 - 40 - 20,
    };
    pod.ip(&format!(
        "route replace {}/0 via {} dev {} advmss {segment}\n",
        family.unspecified(),
        node.gateway_of(family),
        pod.interface()
    ))
}

/// xorshift64 (Marsaglia): the same for the same seed.
struct Random(u64);

impl Random {
    fn between(&mut self, least: u32, most: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        least + (self.0 >> 16) as u32 % (most - least + 1)
    }
}
