//! Nodes that claim what isn't theirs, or what makes no sense, as far as the API server takes it.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use underpass_bench::lab::kubernetes::{Assets, ControlPlane};
use underpass_bench::lab::{AgentOptions, NodeEntry, NodesFile};
use underpass_bench::wait_for;

use crate::cluster::Cluster;
use crate::common::{self, DEADLINE};
use crate::streams::{expect_unharmed, stream};
use crate::talk::{Road, Talk};
use crate::view::{trie, wait_for_line, wait_for_peer};

/// Nodes that nobody should believe, and that the API server takes all the same: name, podCIDR, address, and
/// what must be said of them where the cluster CIDR is 10.244.0.0/16.
const HOSTILE: [(&str, &str, &str, &str); 9] = [
    (
        "all",
        "0.0.0.0/0",
        "10.99.0.1",
        r#""0.0.0.0/0" is too large"#,
    ),
    (
        "half",
        "128.0.0.0/1",
        "10.99.0.1",
        r#""128.0.0.0/1" is too large"#,
    ),
    ("loop", "127.0.0.0/24", "10.99.0.1", "no range for pods"),
    (
        "far",
        "172.16.9.0/24",
        "10.99.0.1",
        "lies outside the cluster",
    ),
    (
        "wire",
        "192.168.77.0/24",
        "10.99.0.1",
        "lies outside the cluster",
    ),
    (
        "own",
        "10.244.1.128/25",
        "10.99.0.1",
        "overlaps this node's own",
    ),
    ("name", "10.244.9.0/24", "rack-three", "is not an IP"),
    ("local", "10.244.9.0/24", "127.0.0.1", "is no node's"),
    (
        "me",
        "10.244.9.0/24",
        "192.168.77.1",
        "192.168.77.1 is also",
    ),
];

#[test]
fn hostile_nodes_are_not_believed() -> Result<()> {
    let test = "hostile_nodes_are_not_believed";
    let Some(assets) = Assets::or_skip(test, &ControlPlane::PROGRAMS) else {
        return Ok(());
    };
    let cluster = Cluster::start(common::lab(), &assets)?;
    let lab = &cluster.lab;
    let (here, good) = (lab.node(1), lab.node(2));
    let access = cluster.agents_access()?;
    let options = AgentOptions::default().in_pod(&access);
    let options = options.args(["--cluster-cidr", "10.244.0.0/16"]);
    let mut agents = common::start_agents(lab, &options)?;
    let talk = Talk::watched_at(lab, &[here], lab.pod(1, 1), lab.pod(2, 1))?;
    talk.wait_for(Road::Fast)?;
    let traffic = stream(lab, 1, 2)?;

    let hostile = HOSTILE.map(|(name, cidr, address, _)| NodeEntry::new(name, cidr, address));
    let hostile = hostile
        .into_iter()
        .fold(NodesFile::default(), NodesFile::with);
    cluster.create(&hostile.to_yaml()?)?;
    for (name, _, _, why) in HOSTILE {
        let what = format!("a line that tells of {name} that it {why}");
        wait_for(DEADLINE, &what, || {
            let log = agents[0].log();
            let told = |line: &str| {
                line.contains("WARN")
                    && line.contains(&format!("node {name}: "))
                    && line.contains(why)
            };
            ensure!(log.lines().any(told), "{log}");
            Ok(())
        })?;
    }
    assert_eq!(trie(lab, here)?, [good.pod_cidr()].into());
    expect_unharmed(traffic)?;
    assert_eq!(talk.road()?, Road::Fast);
    for agent in &mut agents {
        ensure!(agent.is_running());
        assert_eq!(agent.get("/readyz")?.0, 200);
    }
    // Whoever looks at such a Node is told by the API, too: once, whichever agent was the first.
    for name in ["all", "far"] {
        let event = wait_for(DEADLINE, &format!("an Event about {name}"), || {
            event_about(&cluster, name)?.context("there is none")
        })?;
        assert_eq!(event["reason"], "PodCIDRRefused");
        assert_eq!(event["reportingComponent"], "underpass");
    }
    Ok(())
}

/// The Event about a Node; an error where there are several.
fn event_about(cluster: &Cluster, node: &str) -> Result<Option<Value>> {
    let selector = format!("--field-selector=involvedObject.name={node}");
    let list = cluster.kubectl(&["get", "events", "-n=default", &selector, "-o=json"])?;
    let list: Value = serde_json::from_str(&list)?;
    let events = list["items"].as_array().context("no list")?;
    ensure!(events.len() <= 1, "{events:#?}");
    Ok(events.first().cloned())
}

#[test]
fn two_nodes_that_claim_one_podcidr_are_left_to_the_kernel() -> Result<()> {
    let test = "two_nodes_that_claim_one_podcidr_are_left_to_the_kernel";
    let Some(assets) = Assets::or_skip(test, &ControlPlane::PROGRAMS) else {
        return Ok(());
    };
    let cluster = Cluster::start(common::lab(), &assets)?;
    let lab = &cluster.lab;
    let (here, robbed) = (lab.node(1), lab.node(2));
    let agents = cluster.start_agents(&cluster.agents_access()?)?;
    let talk = Talk::watched_at(lab, &[here], lab.pod(1, 1), lab.pod(2, 1))?;
    talk.wait_for(Road::Fast)?;
    let traffic = stream(lab, 1, 2)?;
    let robber = NodeEntry::new("robber", &robbed.pod_cidr().to_string(), "10.99.0.1");
    cluster.create(&NodesFile::default().with(robber).to_yaml()?)?;
    for name in ["node2", "robber"] {
        let refused = wait_for_peer(lab, here, name, "refused")?;
        assert_eq!(refused.refusal, Some("the podCIDR overlaps another node's"));
    }
    wait_for_line(&agents[0], "of node robber")?;
    assert_eq!(trie(lab, here)?, [].into());
    expect_unharmed(traffic)?;
    assert_eq!(talk.road()?, Road::Kernel);

    cluster.kubectl(&["delete", "node", "robber"])?;
    wait_for_peer(lab, here, "node2", "ready")?;
    talk.wait_for(Road::Fast)
}

/// Whoever registers a Node may write any address into it: even one that is nobody's changes nothing but that the
/// kernel is left to itself.
#[test]
fn addresses_that_make_no_sense_cost_the_fast_path_only() -> Result<()> {
    let test = "addresses_that_make_no_sense_cost_the_fast_path_only";
    let Some(assets) = Assets::or_skip(test, &ControlPlane::PROGRAMS) else {
        return Ok(());
    };
    let cluster = Cluster::start(common::lab(), &assets)?;
    let lab = &cluster.lab;
    let here = lab.node(1);
    let _agents = cluster.start_agents(&cluster.agents_access()?)?;
    let talk = Talk::watched_at(lab, &[here], lab.pod(1, 1), lab.pod(2, 1))?;
    talk.wait_for(Road::Fast)?;
    let traffic = stream(lab, 1, 2)?;
    for nonsense in [
        vec![],
        vec![json!("")],
        vec![json!("255.255.255.255"), json!("::")],
    ] {
        let of = |address| json!({"type": "InternalIP", "address": address});
        let addresses: Vec<_> = nonsense.into_iter().map(of).collect();
        let patch = json!({"status": {"addresses": addresses}}).to_string();
        let arguments = [
            "patch",
            "node",
            "node2",
            "--subresource=status",
            "--type=merge",
        ];
        cluster.kubectl(&[&arguments[..], &["--patch", &patch]].concat())?;
        wait_for(DEADLINE, &format!("{patch} is refused"), || {
            let left = trie(lab, here)?;
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })?;
        assert_eq!(talk.road()?, Road::Kernel);
        let right: IpAddr = lab.node(2).address();
        cluster.set_addresses("node2", &[right])?;
        talk.wait_for(Road::Fast)?;
    }
    expect_unharmed(traffic)
}
