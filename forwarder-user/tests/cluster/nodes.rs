//! Nodes come, go and move; the API server tells of it.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use underpass_bench::lab::kubernetes::{Assets, ControlPlane};
use underpass_bench::lab::{AgentOptions, Families, Family, Node, NodeEntry, NodesFile, names};
use underpass_bench::{Lab, wait_until};

use crate::cluster::Cluster;
use crate::common::{self, DEADLINE};
use crate::streams::{expect_unharmed, stream};
use crate::talk::{Road, Talk};
use crate::view::{is_kept_fresh, trie, wait_for_no_peer, wait_for_peer};

/// The Node of a lab's node, as its kubelet would register it.
fn node(lab: &Lab, node: &Node) -> Result<String> {
    let others = lab.nodes().iter().filter(|it| it.name() != node.name());
    let only = others.fold(lab.nodes_list(), |list, other| list.without(other.name()));
    only.to_yaml()
}

#[test]
fn nodes_come_and_go() -> Result<()> {
    let Some(assets) = Assets::or_skip("nodes_come_and_go", &ControlPlane::PROGRAMS) else {
        return Ok(());
    };
    let order = common::lab().nodes(3).families(Families::Dual);
    let cluster = Cluster::start(order, &assets)?;
    let lab = &cluster.lab;
    let _agents = cluster.start_agents(&cluster.agents_access()?)?;
    let (here, gone) = (lab.node(1), lab.node(3));
    let talks: Vec<_> = Family::BOTH
        .into_iter()
        .map(|family| Talk::of_family(lab, family, lab.pod(1, 1), lab.pod(3, 1)))
        .collect::<Result<_>>()?;
    talks
        .iter()
        .try_for_each(|talk| talk.wait_for(Road::Fast))?;

    let traffic = stream(lab, 1, 3)?;
    cluster.kubectl(&["delete", "node", "node3"])?;
    for node in [here, lab.node(2)] {
        wait_for_no_peer(lab, node, "node3")?;
        let left = trie(lab, node)?;
        ensure!(
            gone.pod_cidrs().iter().all(|cidr| !left.contains(cidr)),
            "{left:?}"
        );
    }
    wait_until(DEADLINE, "the neighbour is let go", || {
        is_kept_fresh(here, gone.address()).is_ok_and(|kept| !kept)
    })?;
    expect_unharmed(traffic)?;
    talks
        .iter()
        .try_for_each(|talk| talk.wait_for(Road::Kernel))?;

    let traffic = stream(lab, 1, 3)?;
    cluster.create(&node(lab, gone)?)?;
    wait_for_peer(lab, here, "node3", "ready")?;
    let both: BTreeSet<_> = lab.nodes()[1..].iter().flat_map(Node::pod_cidrs).collect();
    assert_eq!(trie(lab, here)?, both);
    expect_unharmed(traffic)?;
    talks.iter().try_for_each(|talk| talk.wait_for(Road::Fast))
}

#[test]
fn a_node_gets_another_address() -> Result<()> {
    let test = "a_node_gets_another_address";
    let Some(assets) = Assets::or_skip(test, &ControlPlane::PROGRAMS) else {
        return Ok(());
    };
    let cluster = Cluster::start(common::lab(), &assets)?;
    let lab = &cluster.lab;
    let _agents = cluster.start_agents(&cluster.agents_access()?)?;
    let (here, moved) = (lab.node(1), lab.node(2));
    let talk = Talk::watched_at(lab, &[here], lab.pod(1, 1), lab.pod(2, 1))?;
    talk.wait_for(Road::Fast)?;
    let (old, new) = (moved.address(), names::node_address(Family::V4, 33));
    moved.sysctl("net.ipv4.conf.eth0.promote_secondaries", "1")?;
    moved.ip(&format!("addr add {new}/24 dev eth0\n"))?;

    let traffic = stream(lab, 1, 2)?;
    cluster.set_addresses("node2", &[new])?;
    // The CNI is behind: the kernel's word counts until it has followed.
    wait_for_peer(lab, here, "node2", "kernel_routes_elsewhere")?;
    let cidr = moved.pod_cidr();
    here.ip(&format!("route replace {cidr} via {new} dev eth0\n"))?;
    let peer = wait_for_peer(lab, here, "node2", "ready")?;
    assert_eq!(peer.address, Some(new));
    wait_until(DEADLINE, "the old address is let go", || {
        is_kept_fresh(here, old).is_ok_and(|kept| !kept)
    })?;
    moved.ip(&format!("addr del {old}/24 dev eth0\n"))?;
    expect_unharmed(traffic)?;
    talk.wait_for(Road::Fast)
}

/// A podCIDR stays with its Node until that is deleted (the API server sees to it); then another may get it.
#[test]
fn a_podcidr_is_passed_to_another_node() -> Result<()> {
    let test = "a_podcidr_is_passed_to_another_node";
    let Some(assets) = Assets::or_skip(test, &ControlPlane::PROGRAMS) else {
        return Ok(());
    };
    let cluster = Cluster::start(common::lab().nodes(3), &assets)?;
    let lab = &cluster.lab;
    let (here, loser, heir) = (lab.node(1), lab.node(2), lab.node(3));
    cluster.kubectl(&["delete", "node", "node3"])?;
    let access = cluster.agents_access()?;
    let mut agent = lab.start_agent(here, &AgentOptions::default().in_pod(&access))?;
    agent.wait_ready(DEADLINE)?;
    let mut talk = Talk::watched_at(lab, &[here], lab.pod(1, 1), lab.pod(2, 1))?;
    talk.wait_for(Road::Fast)?;

    let cidr = loser.pod_cidr();
    cluster.kubectl(&["delete", "node", "node2"])?;
    let new = NodeEntry::new("node3", &cidr.to_string(), &heir.address().to_string());
    cluster.create(&NodesFile::default().with(new).to_yaml()?)?;
    wait_for_peer(lab, here, "node3", "kernel_routes_elsewhere")?;
    wait_for_no_peer(lab, here, "node2")?;
    talk.wait_for(Road::Kernel)?;

    // The CNI follows, and the pod's address is found on the new node.
    let (pod, gateway) = (lab.pod(2, 1).address(), loser.gateway_of(Family::V4));
    heir.ip(&format!(
        "route del {cidr}\n\
         addr add {gateway}/24 dev cni0\n"
    ))?;
    lab.pod(3, 1).ip(&format!(
        "addr flush dev eth0 scope global\n\
         addr add {pod}/24 dev eth0\n\
         route replace default via {gateway}\n"
    ))?;
    let by_heir = format!("route replace {cidr} via {} dev eth0\n", heir.address());
    here.ip(&by_heir)?;
    talk.answer_from(lab.pod(3, 1))?;
    let peer = wait_for_peer(lab, here, "node3", "ready")?;
    assert_eq!(peer.address, Some(heir.address()));
    talk.wait_for(Road::Fast)
}
