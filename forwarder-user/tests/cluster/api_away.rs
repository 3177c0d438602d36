//! The API server is away, forgetful or slow: traffic does not notice, and the state is right afterwards.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use underpass_bench::lab::kubernetes::{Assets, ControlPlane};
use underpass_bench::lab::{AgentOptions, AgentProcess, Node, NodeEntry, NodesFile};
use underpass_bench::traffic::UdpStream;
use underpass_bench::{Lab, wait_for};

use crate::cluster::Cluster;
use crate::common::{self, DEADLINE};
use crate::streams::{expect_unharmed, stream};
use crate::talk::{Road, Talk};
use crate::view::{trie, wait_for_line};

/// How long an agent may take to come back to a server: its pauses grow up to half a minute.
const BACK: Duration = Duration::from_secs(60);

/// A Node that nobody can reach, as a sign that news arrive: how it is seen is none of the traffic's business.
fn sign(name: &str) -> Result<String> {
    let node = NodeEntry::new(name, "10.244.99.0/24", "192.168.77.99");
    NodesFile::default().with(node).to_yaml()
}

/// A stream each way between the pods of the first two nodes: it leaves the machine to the API server.
struct Traffic([UdpStream; 2]);

impl Traffic {
    fn start(lab: &Lab) -> Result<Self> {
        Ok(Self([stream(lab, 1, 2)?, stream(lab, 2, 1)?]))
    }

    /// Waits until each stream has brought this many packets more.
    fn go_on(&self, packets: u64) -> Result<()> {
        let mut streams = self.0.iter();
        streams.try_for_each(|stream| stream.wait_for_more(packets, DEADLINE))
    }

    /// No packet is lost.
    fn expect_unharmed(self) -> Result<()> {
        self.0.into_iter().try_for_each(expect_unharmed)
    }
}

/// Waits until a node knows of exactly these other nodes.
fn wait_for_peers(lab: &Lab, node: &Node, names: &[&str]) -> Result<()> {
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
fn error_told(lab: &Lab, node: &Node) -> Result<Option<String>> {
    let status = lab.underpass_json(node, &["status"])?;
    Ok(status["nodes_error"].as_str().map(str::to_owned))
}

/// Waits until a node's status says that this is wrong, in these words.
fn wait_for_error(lab: &Lab, node: &Node, words: &str) -> Result<()> {
    wait_for(BACK, &format!("the status tells of {words:?}"), || {
        let error = error_told(lab, node)?.context("it tells of nothing")?;
        ensure!(error.contains(words), "it tells: {error}");
        Ok(())
    })
}

/// Waits until nothing is wrong any more.
fn wait_for_no_error(lab: &Lab, node: &Node) -> Result<()> {
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

fn expect_all_routes(lab: &Lab) -> Result<()> {
    lab.nodes().iter().try_for_each(|node| {
        let (routes, wanted) = (trie(lab, node)?, all_routes(lab, node));
        let missing = wanted.iter().find(|&cidr| !routes.contains(cidr));
        ensure!(missing.is_none(), "{}: {routes:?}", node.name());
        Ok(())
    })
}

#[test]
fn an_api_server_that_goes_away_comes_back() -> Result<()> {
    let test = "an_api_server_that_goes_away_comes_back";
    let Some(assets) = Assets::or_skip(test, &ControlPlane::PROGRAMS) else {
        return Ok(());
    };
    let mut cluster = Cluster::start(common::lab(), &assets)?;
    let mut agents = cluster.start_agents(&cluster.agents_access()?)?;
    let traffic = Traffic::start(&cluster.lab)?;
    cluster.control_plane.stop_api_server()?;
    let lab = &cluster.lab;
    for node in lab.nodes() {
        wait_for_error(lab, node, "Kubernetes API https://192.168.77.253:6443: ")?;
    }
    expect_all_routes(lab)?;
    traffic.go_on(500)?;
    // Ready is who carries traffic as he should, whether there are news or not.
    agents
        .iter_mut()
        .try_for_each(|agent| agent.wait_ready(DEADLINE))?;

    cluster.control_plane.start_api_server()?;
    cluster.create(&sign("sign")?)?;
    let lab = &cluster.lab;
    wait_for_peers(lab, lab.node(1), &["node2", "sign"])?;
    wait_for_peers(lab, lab.node(2), &["node1", "sign"])?;
    for node in lab.nodes() {
        wait_for_no_error(lab, node)?;
    }
    expect_all_routes(lab)?;
    traffic.expect_unharmed()
}

/// Nodes change, and the history of it is thrown away, while nobody can watch: a watch from where it ended is
/// answered by 410.
#[test]
fn a_compacted_watch_begins_anew() -> Result<()> {
    let test = "a_compacted_watch_begins_anew";
    let Some(assets) = Assets::or_skip(test, &ControlPlane::PROGRAMS) else {
        return Ok(());
    };
    let mut cluster = Cluster::start(common::lab().nodes(3), &assets)?;
    let agents = cluster.start_agents(&cluster.agents_access()?)?;
    let traffic = Traffic::start(&cluster.lab)?;
    cluster.control_plane.stop_api_server()?;
    let sign = sign("sign")?;
    cluster.control_plane.behind_the_back(|kubectl| {
        kubectl(&["delete", "node", "node3"], "")?;
        kubectl(&["create", "--validate=false", "-f", "-"], &sign).map(drop)
    })?;
    cluster.compact()?;
    traffic.go_on(500)?;
    cluster.control_plane.start_api_server()?;

    let lab = &cluster.lab;
    wait_for_peers(lab, lab.node(1), &["node2", "sign"])?;
    wait_for_peers(lab, lab.node(2), &["node1", "sign"])?;
    assert_eq!(trie(lab, lab.node(1))?, [lab.node(2).pod_cidr()].into());
    for agent in &agents {
        expect_listed_again(agent)?;
    }
    for node in lab.nodes() {
        wait_for_no_error(lab, node)?;
    }
    traffic.expect_unharmed()
}

/// The agent was told that it is too late for a watch, and asked for everything.
fn expect_listed_again(agent: &AgentProcess) -> Result<()> {
    wait_for_line(agent, "listing the nodes again: ")?;
    let log = agent.log();
    let line = log
        .lines()
        .find(|line| line.contains("listing the nodes again"));
    ensure!(
        line.is_some_and(|line| line.contains("too old resource version")),
        "{log}"
    );
    Ok(())
}

/// Connections stay, and nothing comes; then all of it at once.
#[test]
fn an_api_server_that_stands_still_is_waited_for() -> Result<()> {
    let test = "an_api_server_that_stands_still_is_waited_for";
    let Some(assets) = Assets::or_skip(test, &ControlPlane::PROGRAMS) else {
        return Ok(());
    };
    let mut cluster = Cluster::start(common::lab(), &assets)?;
    let access = cluster.agents_access()?;
    let mut agents = cluster.start_agents(&access)?;
    let traffic = Traffic::start(&cluster.lab)?;
    cluster.control_plane.pause_api_server()?;
    traffic.go_on(500)?;
    // An agent that starts now has no nodes yet; what it finds in the maps stays.
    let first = agents.remove(0);
    first.terminate()?;
    let lab = &cluster.lab;
    let options = AgentOptions::default().in_pod(&access);
    let mut agent = lab.start_agent(lab.node(1), &options)?;
    wait_for(DEADLINE, "the agent has started", || {
        let (status, body) = agent.get("/readyz")?;
        ensure!(status == 503, "it answers {status}: {body}");
        Ok(())
    })?;
    traffic.go_on(500)?;
    expect_all_routes(lab)?;

    cluster.control_plane.resume_api_server()?;
    cluster.create(&sign("sign")?)?;
    let lab = &cluster.lab;
    wait_for_peers(lab, lab.node(1), &["node2", "sign"])?;
    wait_for_peers(lab, lab.node(2), &["node1", "sign"])?;
    agent.wait_ready(DEADLINE)?;
    expect_all_routes(lab)?;
    traffic.expect_unharmed()
}

#[test]
fn a_slow_api_server_is_followed() -> Result<()> {
    let test = "a_slow_api_server_is_followed";
    let Some(assets) = Assets::or_skip(test, &ControlPlane::PROGRAMS) else {
        return Ok(());
    };
    let cluster = Cluster::start(common::lab(), &assets)?;
    let access = cluster.agents_access()?;
    // A handshake of TLS and a list of two Nodes take a second or two so.
    cluster.throttle_answers(32)?;
    let _agents = cluster.start_agents(&access)?;
    let lab = &cluster.lab;
    let talk = Talk::new(lab, lab.pod(1, 1), lab.pod(2, 1))?;
    talk.wait_for(Road::Fast)?;
    let traffic = Traffic::start(lab)?;
    cluster.create(&sign("sign")?)?;
    wait_for_peers(lab, lab.node(1), &["node2", "sign"])?;
    cluster.kubectl(&["delete", "node", "sign"])?;
    wait_for_peers(lab, lab.node(1), &["node2"])?;
    expect_all_routes(lab)?;
    assert_eq!(error_told(lab, lab.node(1))?, None);
    traffic.expect_unharmed()
}
