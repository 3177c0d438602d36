//! This node's own address on the uplink changes, and events that the agent cannot all hear.

use std::net::IpAddr;

use anyhow::{Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use underpass_bench::lab::{AgentOptions, Family, Node, NodeEntry, names};
use underpass_bench::{Lab, root_or_skip, wait_for};

use super::addresses::add_address;
use super::view::{trie, wait_for_line, wait_for_peer};
use crate::common::{DEADLINE, Datapath, lab, start_agents, with_families};
use crate::streams::{expect_unharmed, stream};
use crate::talk::{Road, Talk};

#[test]
fn uplink_address_changed() -> Result<()> {
    if !root_or_skip("uplink_address_changed") {
        return Ok(());
    }
    with_families(this_node_moves)
}

fn this_node_moves(family: Family) -> Result<()> {
    let lab = lab().families(family).build()?;
    let (here, there) = (lab.node(1), lab.node(2));
    let agents = start_agents(&lab, &AgentOptions::default())?;
    let talk = Talk::new(&lab, lab.pod(1, 1), lab.pod(2, 1))?;
    talk.wait_for(Road::Fast)?;
    let out = stream(&lab, 1, 2)?;
    let back = stream(&lab, 2, 1)?;

    // As by DHCP or renumbering: the new one first, then the kubelet tells, the CNI follows, and the old
    // one goes.
    let (old, new) = (here.address(), names::node_address(family, 101));
    let prefix = names::wire_prefix(family);
    if family == Family::V4 {
        here.sysctl("net.ipv4.conf.eth0.promote_secondaries", "1")?;
    }
    add_address(here, new)?;
    let change = |node: &mut NodeEntry| node.internal_ips = vec![new.to_string()];
    lab.write_nodes_file(&lab.nodes_list().changed("node1", change))?;
    there.ip(&format!(
        "route replace {} via {new} dev eth0\n",
        here.pod_cidr()
    ))?;
    let peer = wait_for_peer(&lab, there, "node1", "ready")?;
    wait_for(DEADLINE, "the other node knows the new address", || {
        let peer = wait_for_peer(&lab, there, "node1", "ready")?;
        ensure!(peer.address == Some(new), "{peer:?}");
        Ok(())
    })?;
    drop(peer);
    delete_address(here, old, prefix)?;
    expect_unharmed(out)?;
    expect_unharmed(back)?;

    talk.wait_for(Road::Fast)?;
    Talk::new(&lab, lab.pod(2, 1), lab.pod(1, 1))?.wait_for(Road::Fast)?;
    for (agent, node) in agents.iter().zip(lab.nodes()) {
        ensure!(
            !agent.log().contains("no uplink"),
            "{}: {}",
            node.name(),
            agent.log()
        );
    }
    Ok(())
}

fn delete_address(node: &Node, address: IpAddr, prefix: u8) -> Result<()> {
    node.ip(&format!("addr del {address}/{prefix} dev eth0\n"))
}

#[test]
fn netlink_overflow() -> Result<()> {
    if !root_or_skip("netlink_overflow") {
        return Ok(());
    }
    with_families(more_happens_than_is_heard)
}

fn more_happens_than_is_heard(family: Family) -> Result<()> {
    let lab = lab().families(family).nodes(3).build()?;
    let node = lab.node(1);
    let agents = start_agents(&lab, &AgentOptions::default())?;
    let talk = Talk::new(&lab, lab.pod(1, 1), lab.pod(2, 1))?;
    talk.wait_for(Road::Fast)?;
    let whole = trie(&lab, node)?;
    let generation =
        || Ok::<_, anyhow::Error>(Datapath::of(&lab, node)?.maps.settings()?.generation);
    let before = generation()?;
    let stream = stream(&lab, 1, 2)?;

    // It hears nothing for a while in which more happens than a socket keeps; the last of it matters.
    let pid = Pid::from_raw(agents[0].pid().try_into()?);
    kill(pid, Signal::SIGSTOP)?;
    let flood = flood(&lab, node).and_then(|()| {
        node.ip(&format!(
            "route replace blackhole {}\n",
            lab.pod(3, 1).address()
        ))
    });
    kill(pid, Signal::SIGCONT)?;
    flood?;
    wait_for_line(&agents[0], "events were lost")?;

    let exception = lab.pod(3, 1).address();
    wait_for(DEADLINE, "what was not heard of is known", || {
        let routes = Datapath::of(&lab, node)?.maps.routes()?;
        let found = routes.get(&exception.into());
        ensure!(found.is_some_and(|route| route.is_kernels()), "{routes:?}");
        Ok(())
    })?;
    // And nothing else has changed: no way was taken out and put back.
    assert_eq!(trie(&lab, node)?, whole);
    ensure!(generation()? <= before + 1, "{before} -> {}", generation()?);
    expect_unharmed(stream)?;
    talk.wait_for(Road::Fast)
}

/// Routes that have nothing to do with pods come and go, until a socket can take no more of it.
fn flood(lab: &Lab, node: &Node) -> Result<()> {
    const ROUTES: usize = 4000;
    const ROUNDS: usize = 40;
    let family = Family::of(node.address());
    let via = lab.node(2).address();
    for _ in 0..ROUNDS {
        for action in ["add", "del"] {
            let lines: String = (0..ROUTES)
                .map(|n| match family {
                    Family::V4 => {
                        format!(
                            "route {action} 10.77.{}.{}/32 via {via}\n",
                            n / 256,
                            n % 256
                        )
                    }
                    Family::V6 => format!("route {action} fd00:99::{n:x}/128 via {via}\n"),
                })
                .collect();
            node.ip(&lines)?;
        }
        if has_dropped_events(node)? {
            return Ok(());
        }
    }
    bail!("{ROUNDS} times {} events were not too many", 2 * ROUTES)
}

/// True where a netlink socket in the node's namespace has lost something.
fn has_dropped_events(node: &Node) -> Result<bool> {
    const DROPS: usize = 8;
    let sockets = node.enter(|| Ok(std::fs::read_to_string("/proc/thread-self/net/netlink")?))?;
    let mut sockets = sockets.lines().skip(1);
    Ok(sockets.any(|line| {
        line.split_whitespace()
            .nth(DROPS)
            .is_some_and(|drops| drops != "0")
    }))
}
