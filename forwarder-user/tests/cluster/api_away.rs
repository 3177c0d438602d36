//! The API server is away, forgetful or slow: traffic does not notice, and the state is right afterwards.

use anyhow::{Result, ensure};
use underpass_bench::lab::AgentOptions;
use underpass_bench::lab::AgentProcess;
use underpass_bench::lab::kubernetes::{Assets, ControlPlane};
use underpass_bench::wait_for;

use crate::cluster::Cluster;
use crate::common::{self, DEADLINE};
use crate::news::{
    Traffic, error_told, expect_all_routes, sign, wait_for_error, wait_for_no_error, wait_for_peers,
};
use crate::talk::{Road, Talk};
use crate::view::{trie, wait_for_line};

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
    cluster.create(&sign()?)?;
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
    // Its memory would not reach back either, whatever etcd remembers.
    cluster.control_plane.forgo_watch_cache();
    let sign = sign()?;
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
        line.is_some_and(|line| line.contains(" is too old")),
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
    cluster.create(&sign()?)?;
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
    cluster.create(&sign()?)?;
    wait_for_peers(lab, lab.node(1), &["node2", "sign"])?;
    cluster.kubectl(&["delete", "node", "sign"])?;
    wait_for_peers(lab, lab.node(1), &["node2"])?;
    expect_all_routes(lab)?;
    assert_eq!(error_told(lab, lab.node(1))?, None);
    ensure!(cluster.has_throttled()?, "the line wasn't thin at all");
    traffic.expect_unharmed()
}
