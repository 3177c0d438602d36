//! A token expires; a kubelet puts another one in its place in time, or too late.

use std::time::Duration;

use anyhow::{Result, ensure};
use underpass_bench::lab::AgentOptions;
use underpass_bench::lab::kubernetes::{Assets, ControlPlane};
use underpass_bench::wait_for;

use crate::cluster::{ACCOUNT, Cluster, NAMESPACE};
use crate::common::{self, DEADLINE};
use crate::news::{
    Traffic, expect_all_routes, sign, wait_for_error, wait_for_no_error, wait_for_peers,
};
use crate::view::lines_since;

/// Long enough for two agents to start, and then hardly longer.
const GOOD_FOR: Duration = Duration::from_secs(15);
/// Until the API server takes a token no more, and has forgotten that it did.
const EXPIRY: Duration = Duration::from_secs(60);

/// The first node's agent is given another token in time, the second one's only after it was missed.
#[test]
fn an_expired_token_costs_news_only() -> Result<()> {
    let test = "an_expired_token_costs_news_only";
    let Some(assets) = Assets::or_skip(test, &ControlPlane::PROGRAMS) else {
        return Ok(());
    };
    let mut cluster = Cluster::start(common::lab(), &assets)?;
    let short = cluster.short_token(NAMESPACE, ACCOUNT, GOOD_FOR)?;
    let (mut accesses, mut agents) = (Vec::new(), Vec::new());
    for node in cluster.lab.nodes() {
        let access = cluster.pod_access(node.name(), NAMESPACE, &short)?;
        let options = AgentOptions::default().in_pod(&access);
        agents.push(cluster.lab.start_agent(node, &options)?);
        accesses.push(access);
    }
    for agent in &mut agents {
        agent.wait_ready(DEADLINE)?;
    }
    let traffic = Traffic::start(&cluster.lab)?;
    let since = agents[0].log().len();
    accesses[0].set_token(&cluster.request_token(NAMESPACE, ACCOUNT)?)?;
    wait_for(EXPIRY, "the token has expired", || {
        let answer = cluster.kubectl_as(&short, &["get", "nodes"]);
        let refused = answer.is_err_and(|error| format!("{error:#}").contains("Unauthorized"));
        ensure!(refused, "it is still good");
        Ok(())
    })?;

    // A watch goes on for as long as its connection does, whatever becomes of the token.
    cluster.control_plane.stop_api_server()?;
    cluster.control_plane.start_api_server()?;
    cluster.create(&sign()?)?;
    let lab = &cluster.lab;
    wait_for_error(lab, lab.node(2), "401 Unauthorized (who are we?")?;
    wait_for_peers(lab, lab.node(1), &["node2", "sign"])?;
    wait_for_peers(lab, lab.node(2), &["node1"])?;
    wait_for_no_error(lab, lab.node(1))?;
    let refused = lines_since(&agents[0], since, "401 Unauthorized");
    ensure!(refused.is_empty(), "{refused:#?}");
    expect_all_routes(lab)?;
    traffic.go_on(500)?;

    accesses[1].set_token(&cluster.request_token(NAMESPACE, ACCOUNT)?)?;
    wait_for_peers(lab, lab.node(2), &["node1", "sign"])?;
    wait_for_no_error(lab, lab.node(2))?;
    expect_all_routes(lab)?;
    traffic.expect_unharmed()
}
