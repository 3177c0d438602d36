//! An agent that comes after one of another version: of a layout that it does not know, it takes over
//! nothing but the hooks.

use anyhow::{Result, ensure};
use aya::maps::MapInfo;
use underpass::datapath::{Maps, Pins};
use underpass_bench::lab::{AgentOptions, Family, Node};
use underpass_bench::{Backend, Lab, root_or_skip};
use underpass_common::map_names;
use underpass_common::settings::LAYOUT_VERSION;

use crate::common::{DEADLINE, lab, start_agents, with_families};
use crate::streams::Traffic;
use crate::talk::{Road, Talk};

#[test]
fn agent_upgraded() -> Result<()> {
    if !root_or_skip("agent_upgraded") {
        return Ok(());
    }
    // What this agent meets was made by an older one.
    with_families(|family| meets(family, LAYOUT_VERSION - 1))
}

#[test]
fn agent_downgraded() -> Result<()> {
    if !root_or_skip("agent_downgraded") {
        return Ok(());
    }
    with_families(|family| meets(family, LAYOUT_VERSION + 1))
}

/// Has agents come, under traffic, to maps that say that they are of another version.
fn meets(family: Family, version: u32) -> Result<()> {
    let lab = lab()
        .families(family)
        .kube_proxy_rules(Backend::Iptables)
        .build()?;
    let agents = start_agents(&lab, &AgentOptions::default())?;
    let traffic = Traffic::start(&lab)?;
    traffic.go_on(100)?;
    let ids = flow_tables(&lab, family)?;
    for agent in agents {
        agent.kill()?;
    }
    // The programs don't ask for the version, so that the fast path goes on.
    for node in lab.nodes() {
        let mut maps = Maps::open(&Pins::new(lab.bpffs(node)))?;
        let mut settings = maps.settings()?;
        settings.layout_version = version;
        maps.set_settings(&settings)?;
    }
    traffic.go_on(100)?;

    let agents = lab.start_agents(&AgentOptions::default(), DEADLINE)?;
    traffic.go_on(100)?;
    for agent in &agents {
        let told = format!("its layout version is {version}, ours is {LAYOUT_VERSION}");
        ensure!(agent.log().contains(&told), "{}", agent.log());
    }
    for (old, new) in ids.iter().zip(flow_tables(&lab, family)?) {
        ensure!(*old != new, "the flow table of another version is in use");
    }
    traffic.expect_unharmed()?;
    Talk::new(&lab, lab.pod(1, 1), lab.pod(2, 1))?.wait_for(Road::Fast)?;
    for (agent, node) in agents.into_iter().zip(lab.nodes()) {
        ensure!(agent.terminate()?.success());
        expect_put_back(&lab, node)?;
    }
    Ok(())
}

/// What the first agent has changed on a node is put back, though the maps that it told of it are gone.
fn expect_put_back(lab: &Lab, node: &Node) -> Result<()> {
    let liberal = || node.run(&["sysctl", "-n", "net.netfilter.nf_conntrack_tcp_be_liberal"]);
    ensure!(liberal()?.trim() == "1", "the agent has not set it");
    let said = lab.underpass(node, &["detach"])?;
    ensure!(liberal()?.trim() == "0", "{}: {said}", node.name());
    ensure!(!Pins::new(lab.bpffs(node)).root().exists());
    Ok(())
}

/// The kernel's id of each node's flow table.
fn flow_tables(lab: &Lab, family: Family) -> Result<Vec<u32>> {
    let name = match family {
        Family::V4 => map_names::FLOWS_V4,
        Family::V6 => map_names::FLOWS_V6,
    };
    let of_node = |node| Ok(MapInfo::from_pin(Pins::new(lab.bpffs(node)).map(name))?.id());
    lab.nodes().iter().map(of_node).collect()
}
