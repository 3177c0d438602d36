//! What an agent makes of the world, as its maps and its log tell it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use underpass::inspect::peers::{self, PeerReport};
use underpass_bench::lab::{AgentProcess, Node};
use underpass_bench::{Lab, wait_for, wait_until};

use crate::common::{DEADLINE, Datapath};

/// What became of the node `name`, as `node` sees it; `None`: it knows of no such node.
pub fn peer(lab: &Lab, node: &Node, name: &str) -> Result<Option<PeerReport>> {
    let peers = peers::read(&Datapath::of(lab, node)?.maps)?;
    Ok(peers.into_iter().find(|peer| peer.name == name))
}

/// Waits until `node` sees the node `name` in this state.
pub fn wait_for_peer(lab: &Lab, node: &Node, name: &str, state: &str) -> Result<PeerReport> {
    let what = format!("{} sees {name} as {state}", node.name());
    wait_for(DEADLINE, &what, || {
        let peer = peer(lab, node, name)?.context("it knows of no such node")?;
        ensure!(peer.state == state, "{peer:?}");
        Ok(peer)
    })
}

/// Waits until `node` knows of no node `name`.
pub fn wait_for_no_peer(lab: &Lab, node: &Node, name: &str) -> Result<()> {
    let what = format!("{} has forgotten {name}", node.name());
    wait_for(DEADLINE, &what, || {
        let peer = peer(lab, node, name)?;
        ensure!(peer.is_none(), "{peer:?}");
        Ok(())
    })
}

/// The prefixes of a node's trie that lead to peers.
pub fn trie(lab: &Lab, node: &Node) -> Result<BTreeSet<IpNet>> {
    let routes = Datapath::of(lab, node)?.maps.routes()?;
    let ways = routes.into_iter().filter(|(_, route)| !route.is_kernels());
    Ok(ways.map(|(prefix, _)| prefix).collect())
}

/// True where the kernel of a node is asked to keep this neighbour resolved.
pub fn is_kept_fresh(node: &Node, neighbour: IpAddr) -> Result<bool> {
    let shown = node.run(&["ip", "neigh", "show", "to", &neighbour.to_string()])?;
    Ok(shown.contains(" managed "))
}

/// Waits until an agent has logged a line that holds this text.
pub fn wait_for_line(agent: &AgentProcess, text: &str) -> Result<()> {
    wait_until(DEADLINE, &format!("the agent logs {text:?}"), || {
        agent.log().contains(text)
    })
    .with_context(|| agent.log())
}

/// The lines with this text that an agent has logged since its log was this long, in bytes.
pub fn lines_since(agent: &AgentProcess, length: usize, text: &str) -> Vec<String> {
    let log = agent.log();
    let lines = log[length..].lines().filter(|line| line.contains(text));
    lines.map(str::to_owned).collect()
}
