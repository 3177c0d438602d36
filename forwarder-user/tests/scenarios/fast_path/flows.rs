//! Flows of each kind get fast, and as soon as they can.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use underpass_bench::lab::{AgentOptions, Families, Family};
use underpass_bench::root_or_skip;
use underpass_bench::traffic::{Ping, UdpFlow};
use underpass_common::verdict::{Hook, Verdict};

use crate::common::{self, DEADLINE, Datapath, is_fast, start_agents, with_families};
use crate::talk::{Road, Talk};

const PORT: u16 = 5001;

#[test]
fn one_way_udp() -> Result<()> {
    const PACKETS: u64 = 1000;
    if !root_or_skip("one_way_udp") {
        return Ok(());
    }
    with_families(|family| {
        let lab = common::lab().families(family).build()?;
        let agents = start_agents(&lab, &AgentOptions::default())?;
        let (pod, far) = (lab.pod(1, 1), lab.pod(2, 1));
        let target = SocketAddr::new(far.address(), PORT);
        let flow = UdpFlow::to(target).local_port(PORT).rate(5000);
        let report = flow.packets(PACKETS).run(pod, far)?;
        ensure!(report.lost == 0, "{report:?}");

        let way = common::udp(SocketAddr::new(pod.address(), PORT), target);
        ensure!(is_fast(&lab, &way)?, "it isn't fast");
        let back = way.answer();
        for node in lab.nodes() {
            let datapath = Datapath::of(&lab, node)?;
            ensure!(!datapath.sends_fast(&back)? && !datapath.receives_fast(&back)?);
        }
        // Only the first had to show the way.
        for (node, hook) in [(1, Hook::FromPod), (2, Hook::FromWire)] {
            let counts = Datapath::of(&lab, lab.node(node))?.counts()?;
            let verdicts = [Verdict::Unconfirmed, Verdict::Fast].map(|one| counts.of(hook, one));
            assert_eq!(verdicts, [1, PACKETS - 1], "node{node}: {counts:?}");
        }
        drop(agents);
        Ok(())
    })
}

#[test]
fn icmp_echo() -> Result<()> {
    const PINGS: u16 = 20;
    if !root_or_skip("icmp_echo") {
        return Ok(());
    }
    with_families(|family| {
        let lab = common::lab().families(family).build()?;
        let agents = start_agents(&lab, &AgentOptions::default())?;
        let (pod, far) = (lab.pod(1, 1), lab.pod(2, 1));
        let ping = Ping::to(far.address()).identifier(7).timeout(DEADLINE);
        ping.interval(Duration::ZERO).count(PINGS).expect(pod)?;

        let request = common::ping(pod.address(), far.address(), 7);
        ensure!(is_fast(&lab, &request)? && is_fast(&lab, &request.answer())?);
        for node in lab.nodes() {
            let counts = Datapath::of(&lab, node)?.counts()?;
            for hook in [Hook::FromPod, Hook::FromWire] {
                let verdicts =
                    [Verdict::Unconfirmed, Verdict::Fast].map(|one| counts.of(hook, one));
                let expected = [1, u64::from(PINGS) - 1];
                assert_eq!(verdicts, expected, "{} {hook:?}: {counts:?}", node.name());
            }
        }
        drop(agents);
        Ok(())
    })
}

/// Nodes with one family, the other, or both: each flow goes fast whose ends have a family in common.
#[test]
fn dual_stack() -> Result<()> {
    if !root_or_skip("dual_stack") {
        return Ok(());
    }
    let lab = common::lab()
        .nodes(4)
        .families(Families::Dual)
        .node_families(1, Family::V4)
        .node_families(2, Family::V6)
        .build()?;
    let agents = start_agents(&lab, &AgentOptions::default())?;
    for (from, to, family) in [
        (1, 3, Family::V4),
        (3, 1, Family::V4),
        (2, 3, Family::V6),
        (3, 2, Family::V6),
        (3, 4, Family::V4),
        (3, 4, Family::V6),
    ] {
        let talk = Talk::of_family(&lab, family, lab.pod(from, 1), lab.pod(to, 1))?;
        let told = || format!("{family} from node{from} to node{to}");
        talk.wait_for(Road::Fast).with_context(told)?;
    }
    // And nobody knows a way to where there is none.
    for (node, families) in [(1, Families::V4), (2, Families::V6), (3, Families::Dual)] {
        let routes = Datapath::of(&lab, lab.node(node))?.maps.routes()?;
        let led_to: BTreeSet<_> = routes.keys().copied().collect();
        let others = lab.nodes().iter().filter(|other| other.number() != node);
        let expected = others
            .flat_map(|other| other.pod_cidrs())
            .filter(|cidr| families.has(Family::of(cidr.addr())))
            .collect();
        assert_eq!(led_to, expected, "node{node}");
    }
    drop(agents);
    Ok(())
}
