//! The router's own pods.

use anyhow::{Context as _, Result, ensure};
use underpass_bench::{root_or_skip, wait_for};

use super::{on_both, router, segments, start_router};
use crate::common::{DEADLINE, Datapath, with_families};
use crate::talk::{Road, Talk};

/// They talk to pods on both segments, fast both ways.
#[test]
fn transit_second_uplink_pods() -> Result<()> {
    if !root_or_skip("transit_second_uplink_pods") {
        return Ok(());
    }
    with_families(|family| {
        let lab = segments(family).build()?;
        let agent = start_router(&lab, &on_both())?;
        let (own, node) = (lab.pod(3, 1), router(&lab));
        for other in [lab.pod(1, 1), lab.pod(2, 1)] {
            for (from, to) in [(own, other), (other, own)] {
                let talk = Talk::watched_at(&lab, &[node], from, to)?;
                talk.wait_for(Road::Fast)
                    .with_context(|| format!("{} to {}", from.name(), to.name()))?;
            }
        }
        let peers = lab.underpass_json(node, &["peers"])?;
        for (name, uplink) in [("node1", "eth0"), ("node2", "eth1")] {
            let mut all = peers.as_array().into_iter().flatten();
            let peer = all.find(|peer| peer["name"] == name);
            let peer = peer.with_context(|| format!("{peers}"))?;
            ensure!(peer["state"] == "ready", "{peers}");
            ensure!(peer["families"][0]["uplink"] == uplink, "{peers}");
        }
        let status = lab.underpass_json(node, &["status"])?;
        ensure!(status["uplink"] == "eth0", "{status}");
        ensure!(
            status["uplinks"] == serde_json::json!(["eth0", "eth1"]),
            "{status}"
        );
        ensure!(status["transit"] == true, "{status}");
        drop(agent);
        Ok(())
    })
}

/// Without the second uplink the pods beyond it are the kernel's, and nothing passes the router.
#[test]
fn an_uplink_that_nobody_asked_for_is_the_kernel_s() -> Result<()> {
    if !root_or_skip("an_uplink_that_nobody_asked_for_is_the_kernel_s") {
        return Ok(());
    }
    with_families(|family| {
        let lab = segments(family).build()?;
        let node = router(&lab);
        // Of what is not there no more than a line is made.
        let options = underpass_bench::lab::AgentOptions::default();
        let mut agent = lab.start_agent(node, &options.args(["--extra-iface", "eth7"]))?;
        agent.wait_ready(DEADLINE)?;
        let line = "no extra uplink: no interface named \"eth7\"";
        wait_for(DEADLINE, "the agent tells of it", || {
            let log = agent.log();
            ensure!(log.contains(line), "{log}");
            Ok(())
        })?;
        let (own, near, far) = (lab.pod(3, 1), lab.pod(1, 1), lab.pod(2, 1));
        Talk::watched_at(&lab, &[node], own, near)?.wait_for(Road::Fast)?;
        Talk::watched_at(&lab, &[node], own, far)?.wait_for(Road::Kernel)?;
        let before = Datapath::of(&lab, node)?.counts()?;
        let talk = Talk::watched_at(&lab, &[node], near, far)?;
        for _ in 0..20 {
            talk.exchange()?;
        }
        super::none_fast_since(&Datapath::of(&lab, node)?, &before)?;
        let settings = Datapath::of(&lab, node)?.maps.settings()?;
        ensure!(!settings.has_transit(), "{settings:?}");
        drop(agent);
        Ok(())
    })
}

/// What passes the router is told by what people look at.
#[test]
fn transit_is_told() -> Result<()> {
    if !root_or_skip("transit_is_told") {
        return Ok(());
    }
    with_families(|family| {
        let lab = segments(family).build()?;
        let agent = start_router(&lab, &on_both())?;
        let (node, near, far) = (router(&lab), lab.pod(1, 1), lab.pod(2, 1));
        let (from, to) = (near.address().to_string(), far.address().to_string());
        let trace = || lab.underpass_json(node, &["trace", &to, "--from", &from, "--proto", "udp"]);
        let road = |trace: &serde_json::Value| trace["result"]["road"].clone();

        let before = trace()?;
        ensure!(before["entrance"] == "from_wire", "{before}");
        ensure!(before["exit"] == "to_wire", "{before}");
        ensure!(road(&before) == "kernel", "{before}");
        ensure!(before["result"]["verdict"] == "unconfirmed", "{before}");
        let talk = Talk::watched_at(&lab, &[node], near, far)?;
        for _ in 0..3 {
            talk.exchange()?;
        }
        let after = trace()?;
        ensure!(road(&after) == "fast", "{after}");
        let way_out = &after["result"]["way_out"];
        ensure!(way_out["device"] == "eth1", "{after}");
        ensure!(way_out["peer"] == "node2", "{after}");

        let flows = lab.underpass_json(node, &["flows", "--pod", &from])?;
        ensure!(flows[0]["transit"] == true, "{flows}");
        ensure!(flows[0]["egress"]["device"] == "eth1", "{flows}");
        let screen = lab.underpass(node, &["status"])?;
        let line = "uplinks  eth0 and eth1 (with transit), offload confirmed";
        ensure!(screen.contains(line), "{screen}");
        let text = lab.underpass(node, &["peers"])?;
        ensure!(text.contains(" on eth1 "), "{text}");

        let nodes_file = lab.nodes_file();
        let file = nodes_file.to_str().context("a path that is no text")?;
        let words = [
            "check",
            "--nodes-file",
            file,
            "--node-name",
            "node3",
            "--iface",
            "eth0",
        ];
        let words = [&words[..], &["--extra-iface", "eth1"]].concat();
        let checked = lab.underpass_json(node, &words)?;
        let finding = |name: &str| {
            let mut all = checked.as_array().into_iter().flatten();
            all.find(|finding| finding["name"] == name).cloned()
        };
        for name in ["uplink", "uplink eth1", "peers on the segment"] {
            let finding = finding(name).with_context(|| format!("{checked}"))?;
            ensure!(finding["outcome"] == "pass", "{finding}");
        }
        drop(agent);
        Ok(())
    })
}
