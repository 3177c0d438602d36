//! A peer's MAC changes, or nobody answers to its address any more.

use std::panic::resume_unwind;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use underpass_bench::lab::{AgentOptions, Family, Node};
use underpass_bench::traffic::announce;
use underpass_bench::traffic::{FrameSocket, PacketType, Ping};
use underpass_bench::{Lab, root_or_skip, wait_for};
use underpass_common::addr::{Mac, ShowMac};
use underpass_common::route::Route;
use underpass_common::verdict::{Hook, Verdict};

use super::view::wait_for_peer;
use crate::common::{DEADLINE, Datapath, lab, start_agents, with_families};
use crate::inject::is_for;
use crate::talk::{Road, Talk};

/// ICMP type and code (RFC 792, RFC 4443): host, or address, unreachable.
fn unreachable(family: Family) -> (u8, u8) {
    match family {
        Family::V4 => (3, 1),
        Family::V6 => (1, 3),
    }
}

const NEW_MAC: Mac = [0x02, 0x4e, 0, 0, 1, 2];

/// Makes a node soon doubt its neighbours, and soon give them up. What cannot be hastened here is
/// how often the kernel looks after the entries that it is asked to keep: 5 s, for all namespaces.
fn doubt_neighbours_soon(node: &Node, family: Family) -> Result<()> {
    let ip = match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    };
    for (key, value) in [
        ("base_reachable_time_ms", "200"),
        ("delay_first_probe_time", "0"),
        ("retrans_time_ms", "50"),
        ("ucast_solicit", "2"),
        ("mcast_solicit", "3"),
    ] {
        node.sysctl(&format!("net.{ip}.neigh.eth0.{key}"), value)?;
    }
    Ok(())
}

/// The MAC that a node's trie has for another node's pods.
fn route_in_trie(lab: &Lab, node: &Node, peer: &Node) -> Result<Route> {
    let routes = Datapath::of(lab, node)?.maps.routes()?;
    let route = routes.get(&peer.pod_cidr()).copied();
    route.context("the podCIDR isn't in the trie")
}

fn mac_in_trie(lab: &Lab, node: &Node, peer: &Node) -> Result<Mac> {
    Ok(route_in_trie(lab, node, peer)?.peer_mac)
}

fn wait_for_mac_in_trie(lab: &Lab, node: &Node, peer: &Node, mac: Mac) -> Result<()> {
    let what = format!("{} has {} for {}", node.name(), ShowMac(mac), peer.name());
    wait_for(DEADLINE, &what, || {
        let found = mac_in_trie(lab, node, peer)?;
        ensure!(found == mac, "it has {}", ShowMac(found));
        Ok(())
    })
}

/// A node whose own MAC has changed has lost its neighbours by that, and its packets are the kernel's until it has
/// found them again: waits until its agent has seen both.
fn wait_for_own_mac_in_trie(lab: &Lab, node: &Node, peer: &Node, mac: Mac) -> Result<()> {
    let what = format!("{} has {} for its own", node.name(), ShowMac(mac));
    wait_for(DEADLINE, &what, || {
        let route = route_in_trie(lab, node, peer)?;
        let own = ShowMac(route.own_mac);
        ensure!(route.own_mac == mac && !route.is_kernels(), "it has {own}");
        Ok(())
    })
}

/// Has the conversation go on, and looks at the frames it makes on a node's uplink.
fn expect_macs(talk: &Talk, node: &Node, to: Mac, from: Mac) -> Result<()> {
    let wire = FrameSocket::open(node, node.uplink())?;
    ensure!(talk.road()? == Road::Fast);
    let frame = wire.expect(Duration::from_secs(5), "a question leaves", |frame| {
        frame.packet_type == PacketType::Outgoing && is_for(&frame.bytes, talk.far())
    })?;
    assert_eq!(
        ShowMac(to).to_string(),
        ShowMac(frame.bytes[..6].try_into()?).to_string()
    );
    assert_eq!(
        ShowMac(from).to_string(),
        ShowMac(frame.bytes[6..12].try_into()?).to_string()
    );
    Ok(())
}

#[test]
fn peer_mac_changed() -> Result<()> {
    if !root_or_skip("peer_mac_changed") {
        return Ok(());
    }
    with_families(|family| {
        thread::scope(|threads| {
            let silent = threads.spawn(|| silent(family));
            announced(family).context("with a gratuitous ARP or an unsolicited advertisement")?;
            let silent = silent.join().unwrap_or_else(|cause| resume_unwind(cause));
            silent.context("without one")
        })
    })
}

fn announced(family: Family) -> Result<()> {
    let lab = lab().families(family).build()?;
    let _agents = start_agents(&lab, &AgentOptions::default())?;
    let (here, there) = (lab.node(1), lab.node(2));
    let talk = Talk::new(&lab, lab.pod(1, 1), lab.pod(2, 1))?;
    talk.wait_for(Road::Fast)?;
    expect_macs(&talk, here, there.mac(), here.mac())?;

    there.ip(&format!("link set eth0 address {}", ShowMac(NEW_MAC)))?;
    announce(there, "eth0", there.address(), NEW_MAC)?;

    wait_for_mac_in_trie(&lab, here, there, NEW_MAC)?;
    wait_for_own_mac_in_trie(&lab, there, here, NEW_MAC)?;
    talk.wait_for(Road::Fast)?;
    expect_macs(&talk, here, NEW_MAC, here.mac())?;
    // And the node itself sends with the MAC that it has now.
    let back = Talk::new(&lab, lab.pod(2, 1), lab.pod(1, 1))?;
    back.wait_for(Road::Fast)?;
    expect_macs(&back, there, here.mac(), NEW_MAC)
}

/// The peer is a node without an agent and with a fixed neighbour entry: it never asks for anything
/// by ARP, from which one could learn where it is now.
fn silent(family: Family) -> Result<()> {
    let lab = lab().families(family).build()?;
    let (here, there) = (lab.node(1), lab.node(2));
    let fixed = format!(
        "neigh replace {} lladdr {} dev eth0 nud permanent\n",
        here.address(),
        ShowMac(here.mac())
    );
    there.ip(&fixed)?;
    doubt_neighbours_soon(here, family)?;
    let mut agent = lab.start_agent(here, &AgentOptions::default())?;
    agent.wait_ready(DEADLINE)?;
    let talk = Talk::watched_at(&lab, &[here], lab.pod(1, 1), lab.pod(2, 1))?;
    talk.wait_for(Road::Fast)?;
    assert_eq!(mac_in_trie(&lab, here, there)?, there.mac());

    // A change of MAC empties the neighbour table, of fixed entries too.
    there.ip(&format!(
        "link set eth0 address {}\n{fixed}",
        ShowMac(NEW_MAC)
    ))?;

    // Nothing goes by the kernel, so nothing but the agent's wish makes the kernel look.
    talk.wait_for(Road::Fast)?;
    assert_eq!(mac_in_trie(&lab, here, there)?, NEW_MAC);
    expect_macs(&talk, here, NEW_MAC, here.mac())
}

#[test]
fn neighbour_failed() -> Result<()> {
    if !root_or_skip("neighbour_failed") {
        return Ok(());
    }
    with_families(a_neighbour_fails)
}

fn a_neighbour_fails(family: Family) -> Result<()> {
    let lab = lab().families(family).nodes(3).build()?;
    let here = lab.node(1);
    doubt_neighbours_soon(here, family)?;
    let _agents = start_agents(&lab, &AgentOptions::default())?;
    let talk = Talk::new(&lab, lab.pod(1, 1), lab.pod(2, 1))?;
    let beside = Talk::new(&lab, lab.pod(1, 1), lab.pod(3, 1))?;
    talk.wait_for(Road::Fast)?;
    beside.wait_for(Road::Fast)?;

    lab.switch().ip("link set node2 down")?;
    wait_for_peer(&lab, here, "node2", "waiting_for_neighbour")?;
    assert!(mac_in_trie(&lab, here, lab.node(2)).is_err());
    assert_eq!(beside.road()?, Road::Fast);
    // The kernel has the packets of the flow now, confirmed or not.
    let datapath = Datapath::of(&lab, here)?;
    let before = datapath.counts()?;
    for _ in 0..5 {
        talk.ask()?;
    }
    wait_for(DEADLINE, "the questions come in", || {
        let counts = datapath.counts()?.since(&before);
        ensure!(
            counts.of(Hook::FromPod, Verdict::NoRoute) == 5,
            "{counts:?}"
        );
        Ok(())
    })?;
    // It tells the pod that nobody is there.
    let ping = Ping::to(lab.pod(2, 1).address()).timeout(DEADLINE);
    let told = ping.run(lab.pod(1, 1))?.errors;
    let told: Vec<_> = told.iter().map(|error| (error.kind, error.code)).collect();
    assert_eq!(told, [unreachable(family)]);

    lab.switch().ip("link set node2 up")?;
    wait_for_peer(&lab, here, "node2", "ready")?;
    talk.wait_for(Road::Fast)?;
    assert_eq!(beside.road()?, Road::Fast);
    Ok(())
}
