//! Packets that are always the kernel's, beside a flow that is fast.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use underpass_bench::lab::{AgentOptions, Family};
use underpass_bench::traffic::{Ping, UdpClient, UdpEcho};
use underpass_bench::{Lab, root_or_skip};
use underpass_common::verdict::{Hook, Verdict};

use crate::builder::{ACK, Packet, tcp, udp};
use crate::common::{
    self, Counts, DEADLINE, counts, counts_since, is_fast, make_fast, start_agents, with_families,
};
use crate::inject::{Passed, Road};

const PORT: u16 = 5001;

#[test]
fn fragments() -> Result<()> {
    if !root_or_skip("fragments") {
        return Ok(());
    }
    with_families(|family| {
        // With connection tracking the kernel puts fragments together, and takes them apart again.
        [false, true].into_iter().try_for_each(|conntrack| {
            between_fragments(family, conntrack).with_context(|| format!("conntrack: {conntrack}"))
        })
    })
}

fn between_fragments(family: Family, conntrack: bool) -> Result<()> {
    let lab = common::lab()
        .families(family)
        .conntrack(conntrack)
        .build()?;
    let agents = start_agents(&lab, &AgentOptions::default())?;
    let (pod, far) = (lab.pod(1, 1), lab.pod(2, 1));
    let to = SocketAddr::new(far.address(), PORT);
    let _server = UdpEcho::start(far, PORT)?;
    let client = UdpClient::connect_from(pod, PORT, to)?;
    let ask = |question: &[u8]| client.echo(question, DEADLINE).map(drop);
    let small = common::udp(SocketAddr::new(pod.address(), PORT), to);
    make_fast(&lab, &small, || ask(b"small"))?;

    // Three fragments each.
    let large: Vec<u8> = (0..4000_u16).map(|n| n as u8).collect();
    let before = counts(&lab)?;
    for _ in 0..5 {
        ask(&large)?;
        ask(b"small")?;
    }
    for added in counts_since(&lab, &before)? {
        for hook in [Hook::FromPod, Hook::FromWire] {
            let seen = [Verdict::Fragment, Verdict::Fast].map(|verdict| added.of(hook, verdict));
            assert_eq!(seen, [5 * 3, 5], "{hook:?}: {added:?}");
        }
    }
    drop(agents);
    Ok(())
}

#[test]
fn ip_options() -> Result<()> {
    if !root_or_skip("ip_options") {
        return Ok(());
    }
    const NOTHING: [u8; 4] = [1, 1, 1, 0];
    const ROUTER_ALERT: [u8; 4] = [148, 4, 0, 0];
    // Room for three addresses, which the routers on the way write theirs into (RFC 791).
    const RECORD_ROUTE: [u8; 16] = [7, 15, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let lab = common::lab().build()?;
    let road = Road::open(&lab)?;
    let with_options = [&NOTHING[..], &ROUTER_ALERT, &RECORD_ROUTE].map(|one| udp().options(one));
    let golden: Result<Vec<_>> = with_options.iter().map(|one| road.pass(one)).collect();

    let agents = start_agents(&lab, &AgentOptions::default())?;
    let plain = goes_fast(&lab, &road, udp())?;
    for (packet, golden) in with_options.iter().zip(golden?) {
        let before = counts(&lab)?;
        assert_eq!(road.pass(packet)?, golden, "{packet:?}");
        assert_left_to_the_kernel(&lab, &before, Verdict::IpOptions)?;
        ensure!(is_fast(&lab, &plain)?, "its flow is slow now");
    }
    drop(agents);
    Ok(())
}

/// Both entrances left one packet to the kernel, for this reason.
fn assert_left_to_the_kernel(lab: &Lab, before: &[Counts], why: Verdict) -> Result<()> {
    let entrances = [Hook::FromPod, Hook::FromWire];
    for (added, hook) in counts_since(lab, before)?.iter().zip(entrances) {
        assert_eq!(added.of(hook, why), 1, "{hook:?}: {added:?}");
        assert_eq!(added.of(hook, Verdict::Fast), 0, "{hook:?}: {added:?}");
    }
    Ok(())
}

/// What a traceroute shows, and what arrives of its last packets.
#[derive(Debug, PartialEq, Eq)]
struct Trace {
    /// Who says that a packet lived too short, by the TTL that it began with.
    hops: Vec<Vec<IpAddr>>,
    arrived: Vec<Passed>,
}

#[test]
fn ttl() -> Result<()> {
    if !root_or_skip("ttl") {
        return Ok(());
    }
    with_families(traceroute_shows_the_same)
}

fn traceroute_shows_the_same(family: Family) -> Result<()> {
    let lab = common::lab().families(family).build()?;
    for node in lab.nodes() {
        // All are asked for more errors than a kernel sends in so short a time.
        let limit = match family {
            Family::V4 => "net.ipv4.icmp_ratelimit",
            Family::V6 => "net.ipv6.icmp.ratelimit",
        };
        node.sysctl(limit, "0")?;
    }
    let road = Road::open(&lab)?;
    // Nothing comes back in the flows of UDP and TCP: an error about them is the kernel's.
    road.hush()?;
    let by_kernel = trace(&lab, &road)?;
    let routers = [lab.node(1).gateway_of(family), lab.node(2).address()];
    assert_eq!(by_kernel.hops, routers.map(|router| vec![router; 3]));

    let agents = start_agents(&lab, &AgentOptions::default())?;
    for packet in traced() {
        goes_fast(&lab, &road, packet)?;
    }
    let (pod, far) = (lab.pod(1, 1), lab.pod(2, 1));
    let ping = common::ping(pod.address(), far.address(), PING);
    make_fast(&lab, &ping, || pinged(&lab).expect(pod).map(drop))?;
    let before = counts(&lab)?;
    assert_eq!(trace(&lab, &road)?, by_kernel);

    // What ended at node 2 was fast at node 1, and so was what arrived.
    let added = counts_since(&lab, &before)?;
    let of = |node: usize, hook| {
        [Verdict::TtlExpired, Verdict::Fast].map(|verdict| added[node - 1].of(hook, verdict))
    };
    // But for two: after an error about a flow of one way the next packet is the kernel's, too.
    assert_eq!(of(1, Hook::FromPod), [3, 4], "{:?}", added[0]);
    assert_eq!(of(2, Hook::FromWire), [3, 3], "{:?}", added[1]);
    drop(agents);
    Ok(())
}

const PING: u16 = 4711;

fn pinged(lab: &Lab) -> Ping {
    let far = lab.pod(2, 1).address();
    Ping::to(far).identifier(PING).timeout(DEADLINE)
}

fn traced() -> [Packet; 2] {
    [udp(), tcp(ACK)]
}

/// Sends with TTL 1, 2 and 3: two routers are on the way.
fn trace(lab: &Lab, road: &Road) -> Result<Trace> {
    let mut trace = Trace {
        hops: Vec::new(),
        arrived: Vec::new(),
    };
    for ttl in 1..3 {
        let pinged = pinged(lab).ttl(ttl).run(lab.pod(1, 1))?;
        let mut routers: Vec<_> = pinged.errors.iter().map(|error| error.from).collect();
        for packet in traced() {
            routers.push(road.expires_at(&packet.ttl(ttl))?);
        }
        trace.hops.push(routers);
    }
    pinged(lab).ttl(3).expect(lab.pod(1, 1))?;
    for packet in traced() {
        trace.arrived.push(road.pass(&packet.ttl(3))?);
    }
    Ok(trace)
}

/// Sends a packet until its way is fast; names it.
fn goes_fast(lab: &Lab, road: &Road, packet: Packet) -> Result<common::Ends> {
    let ends = road.ends(&packet)?;
    underpass_bench::wait_for(DEADLINE, "the packet goes fast", || {
        road.pass(&packet)?;
        ensure!(is_fast(lab, &ends)?, "it isn't fast");
        Ok(())
    })?;
    Ok(ends)
}
