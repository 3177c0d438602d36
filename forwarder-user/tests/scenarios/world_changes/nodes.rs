//! Nodes come, go and move; the nodes file tells of it.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use underpass_bench::lab::{AgentOptions, Family, Node, NodeEntry, names};
use underpass_bench::traffic::{Frame, FrameSocket, PacketType};
use underpass_bench::{Lab, root_or_skip, wait_until};

use super::addresses::add_address;
use super::view::{is_kept_fresh, peer, trie, wait_for_no_peer, wait_for_peer};
use crate::common::{DEADLINE, lab, no_dad, start_agents, with_families};
use crate::inject::is_for;
use crate::streams::{expect_unharmed, stream};
use crate::talk::{Road, Talk};

#[test]
fn node_added() -> Result<()> {
    if !root_or_skip("node_added") {
        return Ok(());
    }
    with_families(a_node_comes)
}

fn a_node_comes(family: Family) -> Result<()> {
    let lab = lab().families(family).nodes(3).build()?;
    let (here, new) = (lab.node(1), lab.node(3));
    lab.write_nodes_file(&lab.nodes_list().without("node3"))?;
    let _agents = lab.start_agents(&AgentOptions::default(), DEADLINE)?;
    let old = Talk::new(&lab, lab.pod(1, 1), lab.pod(2, 1))?;
    old.wait_for(Road::Fast)?;
    let talk = Talk::new(&lab, lab.pod(1, 1), lab.pod(3, 1))?;
    for _ in 0..3 {
        assert_eq!(talk.road()?, Road::Kernel);
    }

    let stream = stream(&lab, 1, 2)?;
    lab.write_nodes_file(&lab.nodes_list())?;
    // Only at the new node is there nothing beside the conversation.
    Talk::watched_at(&lab, &[new], lab.pod(1, 1), lab.pod(3, 1))?.wait_for(Road::Fast)?;
    expect_unharmed(stream)?;
    wait_for_peer(&lab, here, "node3", "ready")?;
    talk.wait_for(Road::Fast)?;
    assert_eq!(old.road()?, Road::Fast);
    Ok(())
}

#[test]
fn node_deleted() -> Result<()> {
    if !root_or_skip("node_deleted") {
        return Ok(());
    }
    with_families(a_node_goes)
}

fn a_node_goes(family: Family) -> Result<()> {
    let lab = lab().families(family).nodes(3).build()?;
    let (here, gone) = (lab.node(1), lab.node(3));
    let _agents = start_agents(&lab, &AgentOptions::default())?;
    let talk = Talk::new(&lab, lab.pod(1, 1), lab.pod(3, 1))?;
    let beside = Talk::new(&lab, lab.pod(1, 1), lab.pod(2, 1))?;
    talk.wait_for(Road::Fast)?;
    beside.wait_for(Road::Fast)?;
    assert!(is_kept_fresh(here, gone.address())?);

    let stream = stream(&lab, 1, 3)?;
    lab.write_nodes_file(&lab.nodes_list().without("node3"))?;
    for node in [here, lab.node(2)] {
        wait_for_no_peer(&lab, node, "node3")?;
        assert!(!trie(&lab, node)?.contains(&gone.pod_cidr()));
    }
    wait_until(DEADLINE, "the neighbour is let go", || {
        is_kept_fresh(here, gone.address()).is_ok_and(|kept| !kept)
    })?;
    expect_unharmed(stream)?;
    talk.wait_for(Road::Kernel)?;
    assert_eq!(beside.road()?, Road::Fast);

    lab.write_nodes_file(&lab.nodes_list())?;
    talk.wait_for(Road::Fast)
}

#[test]
fn node_ip_changed() -> Result<()> {
    if !root_or_skip("node_ip_changed") {
        return Ok(());
    }
    with_families(a_node_moves)
}

fn a_node_moves(family: Family) -> Result<()> {
    let lab = lab().families(family).nodes(3).build()?;
    let (here, moved) = (lab.node(1), lab.node(3));
    let _agents = start_agents(&lab, &AgentOptions::default())?;
    let talk = Talk::new(&lab, lab.pod(1, 1), lab.pod(3, 1))?;
    talk.wait_for(Road::Fast)?;
    let (old, new) = (moved.address(), names::node_address(family, 33));
    let prefix = names::wire_prefix(family);
    let lead_to = |address: IpAddr| -> Result<()> {
        let cidr = moved.pod_cidr();
        let route = format!("route replace {cidr} via {address} dev eth0\n");
        [here, lab.node(2)]
            .iter()
            .try_for_each(|node| node.ip(&route))
    };
    let claim = |address: IpAddr| {
        let change = |node: &mut NodeEntry| node.internal_ips = vec![address.to_string()];
        lab.write_nodes_file(&lab.nodes_list().changed("node3", change))
    };
    let expect_moved = |from: IpAddr, to: IpAddr| -> Result<()> {
        let peer = wait_for_peer(&lab, here, "node3", "ready")?;
        assert_eq!(peer.address, Some(to));
        assert!(is_kept_fresh(here, to)?);
        wait_until(DEADLINE, "the old address is let go", || {
            is_kept_fresh(here, from).is_ok_and(|kept| !kept)
        })
    };
    // The second address outlives the first one.
    if family == Family::V4 {
        moved.sysctl("net.ipv4.conf.eth0.promote_secondaries", "1")?;
    }

    // There, the CNI being ahead of us; and back, the CNI being behind.
    add_address(moved, new)?;
    let there = stream(&lab, 1, 3)?;
    lead_to(new)?;
    wait_for_peer(&lab, here, "node3", "kernel_routes_elsewhere")?;
    claim(new)?;
    expect_moved(old, new)?;
    moved.ip(&format!("addr del {old}/{prefix} dev eth0"))?;
    expect_unharmed(there)?;
    talk.wait_for(Road::Fast)?;

    add_address(moved, old)?;
    let back = stream(&lab, 1, 3)?;
    claim(old)?;
    wait_for_peer(&lab, here, "node3", "kernel_routes_elsewhere")?;
    lead_to(old)?;
    expect_moved(new, old)?;
    moved.ip(&format!("addr del {new}/{prefix} dev eth0"))?;
    expect_unharmed(back)?;
    talk.wait_for(Road::Fast)
}

/// Gives the podCIDR of one node, and the address of its first pod, to another.
fn take_over(lab: &Lab, family: Family, loser: &Node, heir: &Node) -> Result<()> {
    let (pod, cidr) = (lab.pod(loser.number(), 1), loser.pod_cidr());
    let (gateway, prefix) = (loser.gateway_of(family), cidr.prefix_len());
    let no_dad = no_dad(family);
    heir.ip(&format!(
        "route del {cidr}\n\
         addr add {gateway}/{prefix} dev cni0 {no_dad}\n"
    ))?;
    lab.pod(heir.number(), 1).ip(&format!(
        "addr flush dev eth0 scope global\n\
         addr add {}/{prefix} dev eth0 {no_dad}\n\
         route replace default via {gateway}\n",
        pod.address()
    ))
}

#[test]
fn podcidr_reused() -> Result<()> {
    if !root_or_skip("podcidr_reused") {
        return Ok(());
    }
    with_families(a_podcidr_is_handed_on)
}

fn a_podcidr_is_handed_on(family: Family) -> Result<()> {
    let lab = lab().families(family).nodes(3).build()?;
    let (here, loser, heir) = (lab.node(1), lab.node(2), lab.node(3));
    let nodes = lab.nodes_list().without("node3");
    lab.write_nodes_file(&nodes)?;
    let mut agent = lab.start_agent(here, &AgentOptions::default())?;
    agent.wait_ready(DEADLINE)?;
    let mut talk = Talk::watched_at(&lab, &[here], lab.pod(1, 1), lab.pod(2, 1))?;
    talk.wait_for(Road::Fast)?;
    let address = lab.pod(2, 1).address();
    let at_loser = FrameSocket::open(loser, loser.uplink())?;
    let is_misled =
        |frame: &Frame| frame.packet_type == PacketType::Host && is_for(&frame.bytes, address);

    // One node is gone and another has its podCIDR; the CNI hasn't heard of it yet.
    take_over(&lab, family, loser, heir)?;
    let cidr = loser.pod_cidr().to_string();
    let new = NodeEntry::new("new", &cidr, &heir.address().to_string());
    lab.write_nodes_file(&nodes.without("node2").with(new))?;
    wait_for_peer(&lab, here, "new", "kernel_routes_elsewhere")?;
    assert!(peer(&lab, here, "node2")?.is_none());
    assert_eq!(talk.road()?, Road::Kernel);

    here.ip(&format!(
        "route replace {cidr} via {} dev eth0",
        heir.address()
    ))?;
    talk.answer_from(lab.pod(3, 1))?;
    wait_for_peer(&lab, here, "new", "ready")?;
    at_loser.drain(is_misled)?;
    talk.wait_for(Road::Fast)?;
    let misled = at_loser.drain(is_misled)?;
    ensure!(
        misled.is_empty(),
        "{} packets to the old node",
        misled.len()
    );
    Ok(())
}
