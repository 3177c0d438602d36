//! Flows of each kind get fast, and as soon as they can.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use underpass_bench::lab::AgentOptions;
use underpass_bench::root_or_skip;
use underpass_bench::traffic::{Ping, UdpFlow};
use underpass_common::verdict::{Hook, Verdict};

use crate::common::{self, DEADLINE, Datapath, answer_to, is_fast, start_agents};

const PORT: u16 = 5001;

#[test]
fn one_way_udp() -> Result<()> {
    const PACKETS: u64 = 1000;
    if !root_or_skip("one_way_udp") {
        return Ok(());
    }
    let lab = common::lab().build()?;
    let agents = start_agents(&lab, &AgentOptions::default())?;
    let (pod, far) = (lab.pod(1, 1), lab.pod(2, 1));
    let target = SocketAddr::new(far.address(), PORT);
    let flow = UdpFlow::to(target).local_port(PORT).rate(5000);
    let report = flow.packets(PACKETS).run(pod, far)?;
    ensure!(report.lost == 0, "{report:?}");

    let way = common::udp(SocketAddr::new(pod.address(), PORT), target);
    ensure!(is_fast(&lab, &way)?, "it isn't fast");
    let back = answer_to(&way);
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
}

#[test]
fn icmp_echo() -> Result<()> {
    const PINGS: u16 = 20;
    if !root_or_skip("icmp_echo") {
        return Ok(());
    }
    let lab = common::lab().build()?;
    let agents = start_agents(&lab, &AgentOptions::default())?;
    let (pod, far) = (lab.pod(1, 1), lab.pod(2, 1));
    let ping = Ping::to(far.address()).identifier(7).timeout(DEADLINE);
    ping.interval(Duration::ZERO).count(PINGS).expect(pod)?;

    let request = common::ping(pod.address(), far.address(), 7);
    ensure!(is_fast(&lab, &request)? && is_fast(&lab, &answer_to(&request))?);
    for node in lab.nodes() {
        let counts = Datapath::of(&lab, node)?.counts()?;
        for hook in [Hook::FromPod, Hook::FromWire] {
            let verdicts = [Verdict::Unconfirmed, Verdict::Fast].map(|one| counts.of(hook, one));
            let expected = [1, u64::from(PINGS) - 1];
            assert_eq!(verdicts, expected, "{} {hook:?}: {counts:?}", node.name());
        }
    }
    drop(agents);
    Ok(())
}
