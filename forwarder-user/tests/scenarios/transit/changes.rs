//! What happens to traffic in transit when the router's agent or an uplink goes and comes again.

use anyhow::{Result, ensure};
use underpass_bench::lab::Family;
use underpass_bench::{Lab, root_or_skip, wait_for};
use underpass_common::verdict::{Hook, Verdict};

use super::{on_both, router, segments, start_router, wait_for_routes};
use crate::common::{self, DEADLINE, Datapath, with_families};
use crate::streams::Traffic;
use crate::talk::{Road, Talk};

/// Packets of flows that the router has left to the kernel.
fn by_the_kernel(at: &Datapath) -> Result<u64> {
    let counts = at.counts()?;
    let verdicts = [
        Verdict::Unconfirmed,
        Verdict::OtherEntrance,
        Verdict::NoRoute,
        Verdict::Off,
    ];
    let each = verdicts.map(|verdict| counts.of(Hook::FromWire, verdict));
    Ok(each.iter().sum())
}

#[test]
fn transit_agent_restarted() -> Result<()> {
    if !root_or_skip("transit_agent_restarted") {
        return Ok(());
    }
    with_families(nothing_is_lost)
}

fn nothing_is_lost(family: Family) -> Result<()> {
    let lab = segments(family).build()?;
    let mut agent = start_router(&lab, &on_both())?;
    let datapath = Datapath::of(&lab, router(&lab))?;
    let traffic = Traffic::start(&lab)?;
    let before = by_the_kernel(&datapath)?;
    for round in 0..4 {
        match round % 2 {
            0 => agent.kill()?,
            _ => ensure!(agent.terminate()?.success()),
        }
        traffic.go_on(50)?;
        agent = lab.start_agent(router(&lab), &on_both())?;
        agent.wait_ready(DEADLINE)?;
        traffic.go_on(50)?;
    }
    let after = by_the_kernel(&datapath)?;
    ensure!(after == before, "by the kernel: {before} -> {after}");
    traffic.expect_unharmed()?;
    drop(agent);
    Ok(())
}

/// With another uplink and without it, taken out and put back: whatever goes on meanwhile loses nothing.
#[test]
fn transit_begins_and_ends() -> Result<()> {
    if !root_or_skip("transit_begins_and_ends") {
        return Ok(());
    }
    with_families(|family| {
        let lab = segments(family).build()?;
        let traffic = Traffic::start(&lab)?;
        for _ in 0..2 {
            let agent = start_router(&lab, &on_both())?;
            traffic.go_on(100)?;
            ensure!(fast(&lab)? > 0, "nothing passes the router fast");
            drop(agent);
            // The same node without transit.
            let mut agent = lab.start_agent(router(&lab), &Default::default())?;
            agent.wait_ready(DEADLINE)?;
            wait_for(DEADLINE, "the second uplink has no program", || {
                let status = lab.underpass_json(router(&lab), &["status"])?;
                ensure!(status["uplinks"] == serde_json::json!(["eth0"]), "{status}");
                Ok(())
            })?;
            traffic.go_on(50)?;
            let before = fast(&lab)?;
            traffic.go_on(100)?;
            ensure!(fast(&lab)? == before, "still fast");
            drop(agent);
            lab.underpass(router(&lab), &["detach"])?;
            traffic.go_on(50)?;
        }
        traffic.expect_unharmed()
    })
}

fn fast(lab: &Lab) -> Result<u64> {
    let counts = Datapath::of(lab, router(lab))?.counts()?;
    Ok(counts.of(Hook::FromWire, Verdict::Fast))
}

#[test]
fn transit_uplink_flap() -> Result<()> {
    if !root_or_skip("transit_uplink_flap") {
        return Ok(());
    }
    with_families(|family| {
        let lab = segments(family).build()?;
        let (node, own) = (router(&lab), lab.pod(3, 1));
        let agent = start_router(&lab, &on_both())?;
        let across = Talk::watched_at(&lab, &[node], lab.pod(1, 1), lab.pod(2, 1))?;
        let near = Talk::watched_at(&lab, &[node], own, lab.pod(1, 1))?;
        near.wait_for(Road::Fast)?;
        let passes = || -> Result<()> {
            let before = fast(&lab)?;
            across.exchange()?;
            ensure!(fast(&lab)? == before + 2, "not fast both ways");
            Ok(())
        };
        wait_for(DEADLINE, "packets in transit are fast", passes)?;

        let routes = kept_routes(&lab, family)?;
        node.ip("link set eth1 down\n")?;
        let line = "the uplink eth1 (chosen by --extra-iface) is down";
        wait_for(DEADLINE, "the agent tells that it is down", || {
            let log = agent.log();
            ensure!(log.contains(line), "{log}");
            Ok(())
        })?;
        // The other one goes on.
        near.wait_for(Road::Fast)?;
        node.ip("link set eth1 up\n")?;
        node.ip(&routes)?;
        wait_for_routes(&lab)?;
        wait_for(DEADLINE, "packets in transit are fast again", passes)?;
        let log = agent.log();
        ensure!(log.contains(&format!("no longer so: {line}")), "{log}");
        drop(agent);
        Ok(())
    })
}

/// What the kernel forgets of a link that goes down, as lines of `ip`.
fn kept_routes(lab: &Lab, family: Family) -> Result<String> {
    use underpass_bench::lab::Segment;
    let far = lab.node(2);
    let via = far.address_on(Segment::Second, family);
    let mut lines = String::new();
    if family == Family::V6 {
        // An interface that goes down loses its IPv6 addresses.
        let own = router(lab).address_on(Segment::Second, family);
        let prefix = underpass_bench::lab::names::wire_prefix(family);
        let no_dad = common::no_dad(family);
        lines += &format!("addr replace {own}/{prefix} dev eth1 {no_dad}\n");
    }
    lines += &format!("route replace {} via {via} dev eth1\n", far.pod_cidr());
    Ok(lines)
}
