//! A pod that sends with another pod's address gains nothing.

use anyhow::{Context, Result, ensure};
use underpass_bench::lab::rules::Deny;
use underpass_bench::lab::{AgentOptions, Family, names};
use underpass_bench::traffic::FrameSocket;
use underpass_bench::{root_or_skip, wait_for};
use underpass_common::verdict::{Hook, Verdict};

use crate::builder::{ACK, echo_request, tcp, udp};
use crate::common::{
    self, DEADLINE, Datapath, counts, counts_since, is_fast, start_agents, with_families,
};
use crate::inject::Road;

#[test]
fn spoofed_source() -> Result<()> {
    if !root_or_skip("spoofed_source") {
        return Ok(());
    }
    with_families(a_thief_gains_nothing)
}

fn a_thief_gains_nothing(family: Family) -> Result<()> {
    const TIMES: u64 = 20;
    let lab = common::lab().families(family).pods(2).build()?;
    let agents = start_agents(&lab, &AgentOptions::default())?;
    let road = Road::open(&lab)?;
    // What is refused by an ICMP error is the kernel's again.
    road.hush()?;
    let thief = lab.pod(1, 2);
    let thief_sends = FrameSocket::open(thief, thief.interface())?;
    let node = Datapath::of(&lab, lab.node(1))?;

    for packet in [udp(), tcp(ACK), echo_request(7)] {
        let tuple = road.ends(&packet)?;
        wait_for(DEADLINE, "the pod's own packets are fast", || {
            road.pass(&packet)?;
            ensure!(is_fast(&lab, &tuple)?);
            Ok(())
        })?;

        // What the kernel would drop doesn't slip through under the other's name.
        let deny = Deny::all().from(lab.pod(1, 1).address());
        lab.deny(lab.node(1), &deny)?;
        let before = counts(&lab)?;
        let spoofed = packet.clone().macs(names::gateway_mac(1), thief.mac());
        for _ in 0..TIMES {
            thief_sends.send(&road.bytes(&spoofed))?;
        }
        wait_for(DEADLINE, "all that is spoofed has come", || {
            let added = counts_since(&lab, &before)?;
            let by_kernel = added[0].of(Hook::FromPod, Verdict::OtherEntrance);
            ensure!(by_kernel == TIMES, "{:?}", added[0]);
            Ok(())
        })?;
        ensure!(road.arrived(&tuple)?.is_empty(), "it has arrived");

        // And nothing was taken from the pod whose address it is.
        ensure!(
            node.sends_fast(&tuple)?,
            "the pod's own packets are slow now"
        );
        road.pass(&packet)?;
        lab.undeny(lab.node(1), &deny)?;

        // What the kernel lets through teaches nobody a wrong way.
        thief_sends.send(&road.bytes(&spoofed))?;
        road.pass(&packet)
            .context("the pod's own, after the thief's")?;
        road.pass(&packet)?;
        ensure!(is_fast(&lab, &tuple)?, "the pod's own packets stay slow");
    }
    drop(agents);
    Ok(())
}
