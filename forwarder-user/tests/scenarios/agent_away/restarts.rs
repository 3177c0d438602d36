//! Agents that are killed and started again.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use aya::maps::MapInfo;
use aya::programs::{ProgramInfo, SchedClassifier, TcAttachType};
use underpass::datapath::attach::Mechanism;
use underpass::datapath::{Pins, load};
use underpass::inspect::status;
use underpass_bench::lab::{AgentOptions, Family, Node};
use underpass_bench::{Backend, Lab, root_or_skip};
use underpass_common::verdict::{Hook, Verdict};

use crate::common::{DEADLINE, counts, lab, start_agents, with_families};
use crate::streams::Traffic;
use crate::talk::{Road, Talk};

/// Packets of flows past the kernel, and by it because they were not confirmed, at all nodes. What pods'
/// neighbours say to one another is no flow.
fn roads(lab: &Lab) -> Result<(u64, u64)> {
    let mut sum = (0, 0);
    for counts in counts(lab)? {
        for hook in [Hook::FromPod, Hook::FromWire] {
            sum.0 += counts.of(hook, Verdict::Fast);
            sum.1 += counts.of(hook, Verdict::Unconfirmed) + counts.of(hook, Verdict::NoRoute);
            sum.1 += counts.of(hook, Verdict::NoEndpoint) + counts.of(hook, Verdict::Off);
        }
    }
    Ok(sum)
}

#[test]
fn agent_killed() -> Result<()> {
    if !root_or_skip("agent_killed") {
        return Ok(());
    }
    with_families(the_fast_path_goes_on)
}

fn the_fast_path_goes_on(family: Family) -> Result<()> {
    let lab = lab()
        .families(family)
        .kube_proxy_rules(Backend::Iptables)
        .build()?;
    let agents = start_agents(&lab, &AgentOptions::default())?;
    let traffic = Traffic::start(&lab)?;
    let before = roads(&lab)?;
    for agent in agents {
        agent.kill()?;
    }
    for node in lab.nodes() {
        assert!(!status::read(&Pins::new(lab.bpffs(node)))?.agent_running);
    }
    traffic.go_on(500)?;
    let after = roads(&lab)?;
    // Two streams, each at both nodes.
    ensure!(after.0 - before.0 >= 2000, "fast: {before:?} -> {after:?}");
    ensure!(
        after.1 == before.1,
        "by the kernel: {before:?} -> {after:?}"
    );
    traffic.expect_unharmed()?;
    // What begins now goes fast as well.
    Talk::new(&lab, lab.pod(1, 1), lab.pod(2, 1))?.wait_for(Road::Fast)
}

/// The kernel's id of every map.
fn map_ids(pins: &Pins) -> Result<BTreeMap<String, u32>> {
    let names = load::map_names()?.into_iter();
    names
        .map(|name| {
            let id = MapInfo::from_pin(pins.map(&name))?.id();
            Ok((name, id))
        })
        .collect()
}

/// The kernel's id of the program that runs on a node's uplink, and of the one that is pinned.
fn program_ids(node: &Node, pins: &Pins) -> Result<(Vec<u32>, u32)> {
    let pinned = ProgramInfo::from_pin(pins.program(Hook::FromWire))?.id();
    let running = node.enter(|| {
        let (_, programs) = SchedClassifier::query_tcx(node.uplink(), TcAttachType::Ingress)?;
        Ok(programs.iter().map(ProgramInfo::id).collect())
    })?;
    Ok((running, pinned))
}

#[test]
fn agent_restarted() -> Result<()> {
    if !root_or_skip("agent_restarted") {
        return Ok(());
    }
    with_families(nothing_is_flushed)
}

fn nothing_is_flushed(family: Family) -> Result<()> {
    let lab = lab()
        .families(family)
        .kube_proxy_rules(Backend::Iptables)
        .build()?;
    let node = lab.node(1);
    let pins = Pins::new(lab.bpffs(node));
    let mut agents = start_agents(&lab, &AgentOptions::default())?;
    let traffic = Traffic::start(&lab)?;
    let (before, maps) = (roads(&lab)?, map_ids(&pins)?);

    for round in 0..4 {
        let program = ProgramInfo::from_pin(pins.program(Hook::FromWire))?.id();
        for agent in agents {
            // Killed as by a crash, and now and then in good order.
            match round % 2 {
                0 => agent.kill()?,
                _ => ensure!(agent.terminate()?.success()),
            }
        }
        traffic.go_on(50)?;
        agents = lab.start_agents(&AgentOptions::default(), DEADLINE)?;
        traffic.go_on(50)?;

        assert_eq!(map_ids(&pins)?, maps);
        if Mechanism::of_this_kernel() == Mechanism::Tcx {
            let (running, pinned) = program_ids(node, &pins)?;
            assert_ne!(pinned, program);
            assert_eq!(running, [pinned]);
        }
    }
    let after = roads(&lab)?;
    ensure!(
        after.1 == before.1,
        "by the kernel: {before:?} -> {after:?}"
    );
    traffic.expect_unharmed()
}
