//! What the kernel never forwarded never takes the fast path.

use anyhow::{Context, Result, ensure};
use underpass_bench::lab::rules::Deny;
use underpass_bench::lab::{AgentOptions, Family};
use underpass_bench::{Lab, root_or_skip};
use underpass_common::verdict::{Hook, Verdict};

use crate::builder::{ACK, PSH, Packet, SYN, echo_request, tcp, udp};
use crate::common::{self, DEADLINE, Datapath, start_agents, with_families};
use crate::inject::Road;

#[test]
fn no_fast_without_kernel() -> Result<()> {
    if !root_or_skip("no_fast_without_kernel") {
        return Ok(());
    }
    // At the node that the packets come from, and at the one that they go to.
    with_families(|family| {
        for closed_at in [1, 2] {
            for closed_by in [ClosedBy::Sysctl, ClosedBy::Rule] {
                nothing_is_fast(family, closed_at, closed_by)
                    .with_context(|| format!("closed at node{closed_at} by {closed_by:?}"))?;
            }
        }
        Ok(())
    })
}

#[derive(Clone, Copy, Debug)]
enum ClosedBy {
    Sysctl,
    Rule,
}

fn nothing_is_fast(family: Family, closed_at: usize, closed_by: ClosedBy) -> Result<()> {
    let lab = common::lab().families(family).build()?;
    let (node, forwarding) = (lab.node(closed_at), family.forwarding());
    let deny = Deny::all().to(lab.pod(2, 1).address());
    match closed_by {
        ClosedBy::Sysctl => node.sysctl(forwarding, "0")?,
        ClosedBy::Rule => lab.deny(node, &deny)?,
    }
    let agents = start_agents(&lab, &AgentOptions::default())?;
    let road = Road::open(&lab)?;
    for packet in &packets() {
        stays_out(&lab, closed_at, &road, packet).with_context(|| format!("{packet:?}"))?;
    }

    // It was the kernel that had to begin, and nothing else that was missing. Nobody says a word against
    // it: what is refused by an ICMP error is the kernel's again.
    road.hush()?;
    match closed_by {
        ClosedBy::Sysctl => node.sysctl(forwarding, "1")?,
        ClosedBy::Rule => lab.undeny(node, &deny)?,
    }
    for packet in &packets()[1..] {
        road.pass(packet)?;
        let tuple = road.ends(packet)?;
        ensure!(common::is_fast(&lab, &tuple)?, "{packet:?} isn't fast now");
    }
    drop(agents);
    Ok(())
}

fn packets() -> [Packet; 4] {
    [tcp(SYN), tcp(ACK | PSH), udp(), echo_request(7)]
}

/// However often it is sent.
fn stays_out(lab: &Lab, closed_at: usize, road: &Road, packet: &Packet) -> Result<()> {
    const TIMES: u64 = 20;
    let tuple = road.ends(packet)?;
    let hook = [Hook::FromPod, Hook::FromWire][closed_at - 1];
    let datapath = Datapath::of(lab, lab.node(closed_at))?;
    let before = datapath.counts()?;
    for _ in 0..TIMES {
        road.send(packet)?;
    }
    let added = || anyhow::Ok(datapath.counts()?.since(&before));
    underpass_bench::wait_for(DEADLINE, "all have come", || {
        ensure!(added()?.of_traffic(hook) >= TIMES);
        Ok(())
    })?;
    let added = added()?;
    ensure!(added.of(hook, Verdict::Fast) == 0, "fast: {added:?}");
    ensure!(!datapath.sends_fast(&tuple)? && !datapath.receives_fast(&tuple)?);
    ensure!(road.arrived(&tuple)?.is_empty(), "it has arrived");
    Ok(())
}
