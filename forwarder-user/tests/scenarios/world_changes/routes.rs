//! The kernel's routes: kept by the agent (`--routes manage`), or gone with the link.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use underpass_bench::lab::{AgentOptions, AgentProcess, Family, Node, NodeEntry, names};
use underpass_bench::{Lab, root_or_skip, wait_for};

use super::view::{trie, wait_for_line, wait_for_no_peer, wait_for_peer};
use crate::common::{DEADLINE, lab, no_dad, start_agents, with_families};
use crate::talk::{Road, Talk};

/// How soon a route that was taken away must be back.
const SOON: Duration = Duration::from_secs(1);
/// The route protocol number of Underpass.
const OURS: &str = "85";

/// The routes of a node that carry this protocol number: `10.244.2.0/24 via 192.168.77.2`.
fn routes(node: &Node, protocol: &str) -> Result<BTreeSet<String>> {
    let family = match Family::of(node.address()) {
        Family::V4 => "-4",
        Family::V6 => "-6",
    };
    let shown = node.run(&["ip", family, "-json", "route", "show", "proto", protocol])?;
    let routes: Vec<serde_json::Value> = serde_json::from_str(&shown)?;
    let show = |route: &serde_json::Value| {
        let field = |name| route[name].as_str().unwrap_or("-");
        format!("{} via {}", field("dst"), field("gateway"))
    };
    Ok(routes.iter().map(show).collect())
}

fn route_to(node: &Node) -> String {
    format!("{} via {}", node.pod_cidr(), node.address())
}

/// Waits until the agent's routes on `node` lead to these nodes and nowhere else.
fn wait_for_routes(node: &Node, peers: &[&Node]) -> Result<()> {
    let wanted: BTreeSet<_> = peers.iter().map(|peer| route_to(peer)).collect();
    wait_for(DEADLINE, "the agent's routes are as they should be", || {
        let found = routes(node, OURS)?;
        ensure!(found == wanted, "{found:?} instead of {wanted:?}");
        Ok(())
    })
}

/// Takes routes away in some way, a few times, and sees to it that they come back soon. On a busy
/// machine anything may take long once, but not each time.
fn expect_back_soon(
    node: &Node,
    peers: &[&Node],
    take_away: impl Fn() -> Result<()>,
) -> Result<()> {
    let mut took = Vec::new();
    for _ in 0..5 {
        take_away()?;
        let start = Instant::now();
        wait_for_routes(node, peers)?;
        took.push(start.elapsed());
        if start.elapsed() < SOON {
            return Ok(());
        }
    }
    anyhow::bail!("never back within {SOON:?}: {took:?}")
}

#[test]
fn routes_managed() -> Result<()> {
    if !root_or_skip("routes_managed") {
        return Ok(());
    }
    with_families(routes_are_kept)
}

fn routes_are_kept(family: Family) -> Result<()> {
    let lab = lab().families(family).nodes(3).no_routes().build()?;
    let (here, near, other) = (lab.node(1), lab.node(2), lab.node(3));
    let two = lab.nodes_list().without("node3");
    lab.write_nodes_file(&two)?;
    let options = AgentOptions::default().args(["--routes", "manage"]);
    let mut agents = lab.start_agents(&options, DEADLINE)?;

    // They appear, and all goes fast over them.
    wait_for_routes(here, &[near])?;
    wait_for_routes(near, &[here])?;
    let talk = Talk::new(&lab, lab.pod(1, 1), lab.pod(2, 1))?;
    talk.wait_for(Road::Fast)?;

    // They come back.
    let delete = format!("route del {}", near.pod_cidr());
    expect_back_soon(here, &[near], || here.ip(&delete))?;
    expect_back_soon(here, &[near], || flap(here))?;
    talk.wait_for(Road::Fast)?;

    foreign_route(&lab, &agents[0], [here, near, other])?;
    follow_a_node(&lab, here, near, other)?;
    talk.wait_for(Road::Fast)?;

    // They leave with us, and others' stay.
    let (one, two) = match family {
        Family::V4 => ("10.77.0.0/16", "10.78.0.0/16"),
        Family::V6 => ("fd00:99:1::/64", "fd00:99:2::/64"),
    };
    let [static_route, foreign_route] = [one, two].map(|to| format!("{to} via {}", near.address()));
    here.ip(&format!(
        "route add {static_route} proto static\n\
         route add {foreign_route} proto 86\n"
    ))?;
    ensure!(agents.remove(0).terminate()?.success());
    wait_for_routes(here, &[near])?;
    lab.underpass(here, &["detach"])?;
    wait_for_routes(here, &[])?;
    assert_eq!(routes(here, "static")?, [static_route].into());
    assert_eq!(routes(here, "86")?, [foreign_route].into());
    Ok(())
}

/// Somebody has a route to a new node's podCIDR, and takes it away later.
fn foreign_route(lab: &Lab, agent: &AgentProcess, [here, near, new]: [&Node; 3]) -> Result<()> {
    let foreign = format!("{} via {} proto static", new.pod_cidr(), near.address());
    here.ip(&format!("route add {foreign}"))?;
    lab.write_nodes_file(&lab.nodes_list())?;
    let (cidr, via) = (new.pod_cidr(), near.address());
    let told = format!("kernel route {cidr} via {via} on eth0 is somebody else's");
    wait_for_line(agent, &told)?;
    wait_for_peer(lab, here, "node3", "kernel_routes_elsewhere")?;
    wait_for_routes(here, &[near])?;
    assert_eq!(routes(here, "static")?.len(), 1);

    here.ip(&format!("route del {foreign}"))?;
    wait_for_routes(here, &[near, new])?;
    wait_for_line(agent, "no longer so: kernel route")?;
    Talk::new(lab, lab.pod(1, 1), lab.pod(3, 1))?.wait_for(Road::Fast)
}

/// A node gets another address, and is deleted.
fn follow_a_node(lab: &Lab, here: &Node, near: &Node, moving: &Node) -> Result<()> {
    let family = Family::of(moving.address());
    let new = names::node_address(family, 33);
    let prefix = names::wire_prefix(family);
    moving.ip(&format!(
        "addr add {new}/{prefix} dev eth0 {}",
        no_dad(family)
    ))?;
    let change = |node: &mut NodeEntry| node.internal_ips = vec![new.to_string()];
    lab.write_nodes_file(&lab.nodes_list().changed("node3", change))?;
    let moved = format!("{} via {new}", moving.pod_cidr());
    let wanted = BTreeSet::from([route_to(near), moved]);
    wait_for(DEADLINE, "the route follows its node", || {
        let found = routes(here, OURS)?;
        ensure!(found == wanted, "{found:?}");
        Ok(())
    })?;
    let talk = Talk::new(lab, lab.pod(1, 1), lab.pod(3, 1))?;
    talk.wait_for(Road::Fast)?;

    lab.write_nodes_file(&lab.nodes_list().without("node3"))?;
    wait_for_no_peer(lab, here, "node3")?;
    wait_for_routes(here, &[near])
}

/// Takes the uplink down and up again. Its addresses stay, in the lab those of IPv6 too.
fn flap(node: &Node) -> Result<()> {
    node.ip("link set eth0 down\nlink set eth0 up\n")
}

#[test]
fn uplink_flap() -> Result<()> {
    if !root_or_skip("uplink_flap") {
        return Ok(());
    }
    with_families(the_uplink_flaps)
}

fn the_uplink_flaps(family: Family) -> Result<()> {
    let lab = lab().families(family).build()?;
    let (here, there) = (lab.node(1), lab.node(2));
    let _agents = start_agents(&lab, &AgentOptions::default())?;
    let talk = Talk::new(&lab, lab.pod(1, 1), lab.pod(2, 1))?;
    talk.wait_for(Road::Fast)?;

    // The carrier goes and comes again: the routes stay, the kernel's neighbours don't.
    lab.switch().ip("link set node1 down")?;
    wait_for(DEADLINE, "nothing leads out any more", || {
        let trie = trie(&lab, here)?;
        ensure!(trie.is_empty(), "{trie:?}");
        Ok(())
    })?;
    lab.switch().ip("link set node1 up")?;
    talk.wait_for(Road::Fast)?;

    // The interface itself goes down and comes up again: the CNI puts its routes back when it sees
    // that.
    flap(here)?;
    wait_for_peer(&lab, here, "node2", "kernel_routes_elsewhere")?;
    here.ip(&format!(
        "route add {} via {} dev eth0",
        there.pod_cidr(),
        there.address()
    ))?;
    wait_for_peer(&lab, here, "node2", "ready")?;
    talk.wait_for(Road::Fast)
}
