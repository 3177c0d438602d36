//! Whether the agents hear news of the API server, and what becomes of traffic meanwhile.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use underpass_bench::lab::{Node, NodeEntry, NodesFile};
use underpass_bench::traffic::UdpStream;
use underpass_bench::{Lab, wait_for};

use crate::common::DEADLINE;
use crate::streams::{expect_unharmed, stream};
use crate::view::trie;

/// How long an agent may take to come back to a server: its pauses grow up to half a minute.
const BACK: Duration = Duration::from_secs(60);

/// A Node that nobody can reach, as a sign that news arrive: how it is seen is none of the traffic's business.
pub fn sign() -> Result<String> {
    let node = NodeEntry::new("sign", "10.244.99.0/24", "192.168.77.99");
    NodesFile::default().with(node).to_yaml()
}

/// A stream each way between the pods of the first two nodes: it leaves the machine to the API server.
pub struct Traffic([UdpStream; 2]);

impl Traffic {
    pub fn start(lab: &Lab) -> Result<Self> {
        Ok(Self([stream(lab, 1, 2)?, stream(lab, 2, 1)?]))
    }

    /// Waits until each stream has brought this many packets more.
    pub fn go_on(&self, packets: u64) -> Result<()> {
        let mut streams = self.0.iter();
        streams.try_for_each(|stream| stream.wait_for_more(packets, DEADLINE))
    }

    /// No packet is lost.
    pub fn expect_unharmed(self) -> Result<()> {
        self.0.into_iter().try_for_each(expect_unharmed)
    }
}

/// Waits until a node knows of exactly these other nodes.
pub fn wait_for_peers(lab: &Lab, node: &Node, names: &[&str]) -> Result<()> {
    let what = format!("{} knows of {names:?}", node.name());
    wait_for(BACK, &what, || {
        let peers = lab.underpass_json(node, &["peers"])?;
        let peers = peers.as_array().context("no list of peers")?;
        let known: Vec<_> = peers
            .iter()
            .filter_map(|peer| peer["name"].as_str())
            .collect();
        ensure!(known == names, "it knows of {known:?}");
        Ok(())
    })
}

/// What a node's status says is wrong with the source of nodes.
pub fn error_told(lab: &Lab, node: &Node) -> Result<Option<String>> {
    let status = lab.underpass_json(node, &["status"])?;
    Ok(status["nodes_error"].as_str().map(str::to_owned))
}

/// Waits until a node's status says that this is wrong, in these words.
pub fn wait_for_error(lab: &Lab, node: &Node, words: &str) -> Result<()> {
    wait_for(BACK, &format!("the status tells of {words:?}"), || {
        let error = error_told(lab, node)?.context("it tells of nothing")?;
        ensure!(error.contains(words), "it tells: {error}");
        Ok(())
    })
}

/// Waits until nothing is wrong any more.
pub fn wait_for_no_error(lab: &Lab, node: &Node) -> Result<()> {
    wait_for(BACK, "the status tells of no error", || {
        let error = error_told(lab, node)?;
        ensure!(error.is_none(), "it tells: {error:?}");
        Ok(())
    })
}

/// The routes that nodes of the lab have to all others of it.
fn all_routes(lab: &Lab, node: &Node) -> Vec<IpNet> {
    let others = lab.nodes().iter().filter(|it| it.name() != node.name());
    others.flat_map(Node::pod_cidrs).collect()
}

pub fn expect_all_routes(lab: &Lab) -> Result<()> {
    lab.nodes().iter().try_for_each(|node| {
        let (routes, wanted) = (trie(lab, node)?, all_routes(lab, node));
        let missing = wanted.iter().find(|&cidr| !routes.contains(cidr));
        ensure!(missing.is_none(), "{}: {routes:?}", node.name());
        Ok(())
    })
}
