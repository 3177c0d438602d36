//! A pod whose veth has a queueing discipline that limits it keeps its limit.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use underpass_bench::lab::{AgentOptions, Family};
use underpass_bench::traffic::Bulk;
use underpass_bench::{Lab, root_or_skip, wait_for};
use underpass_common::pod::PodState;

use crate::common::{self, DEADLINE, Datapath, is_fast, start_agents, tcp, with_families_in_turn};

const PORT: u16 = 5001;
const SIZE: u64 = 2 << 20;
/// What the transfer takes at the limit of 20 Mbit/s is 0.84 s; some of it passes unhindered.
const AT_LEAST: Duration = Duration::from_millis(700);

#[test]
fn shaped_pod() -> Result<()> {
    if !root_or_skip("shaped_pod") {
        return Ok(());
    }
    // In turn: what is measured is a time.
    with_families_in_turn(a_limit_is_kept)
}

/// Shaped before the agent comes, shaped while its flows are fast, and shaped no more.
fn a_limit_is_kept(family: Family) -> Result<()> {
    let lab = common::lab().families(family).build()?;
    shape(&lab, "add")?;
    let agents = start_agents(&lab, &AgentOptions::default())?;
    ensure!(transfer(&lab)? >= AT_LEAST, "too fast at first");

    shape(&lab, "del")?;
    wait_for_state(&lab, PodState::Attached)?;
    ensure!(transfer(&lab)? < AT_LEAST, "nothing was shaped at all");
    let (from, to) = ends(&lab);
    ensure!(
        is_fast(&lab, &tcp(from, to))?,
        "not fast, though not shaped"
    );

    shape(&lab, "add")?;
    wait_for_state(&lab, PodState::Shaped)?;
    ensure!(transfer(&lab)? >= AT_LEAST, "too fast later on");
    drop(agents);
    Ok(())
}

/// What a pod sends is led through an `ifb` that limits it, as CNI's bandwidth plugin does it, with
/// the filter on `clsact`: a program on TCX is run before it, and would jump over it.
#[test]
fn shaped_pod_by_a_filter() -> Result<()> {
    if !root_or_skip("shaped_pod_by_a_filter") {
        return Ok(());
    }
    with_families_in_turn(a_limit_by_a_filter_is_kept)
}

fn a_limit_by_a_filter_is_kept(family: Family) -> Result<()> {
    let lab = common::lab().families(family).build()?;
    let node = lab.node(1);
    let veth = node.pods()[0].node_veth();
    let _agents = start_agents(&lab, &AgentOptions::default())?;
    let (from, to) = ends(&lab);
    ensure!(transfer(&lab)? < AT_LEAST, "limited before anything limits");
    ensure!(is_fast(&lab, &tcp(from, to))?, "not fast");

    node.run(&["sh", "-ec", &LIMIT_BY_IFB.replace("VETH", veth)])?;
    wait_for_state_on(&lab, 1, PodState::Shaped)?;
    // The programs go a moment after the word of it.
    wait_for(DEADLINE, "the limit holds", || {
        ensure!(transfer(&lab)? >= AT_LEAST, "the filter was jumped over");
        Ok(())
    })?;

    node.run(&["tc", "qdisc", "del", "dev", veth, "clsact"])?;
    wait_for_state_on(&lab, 1, PodState::Attached)?;
    // The programs come a moment after the word of it.
    wait_for(DEADLINE, "the pod is fast again", || {
        ensure!(transfer(&lab)? < AT_LEAST, "limited still");
        ensure!(is_fast(&lab, &tcp(from, to))?, "not fast again");
        Ok(())
    })
}

const LIMIT_BY_IFB: &str = "
    ip link add ifb0 type ifb
    ip link set ifb0 up
    tc qdisc add dev ifb0 root tbf rate 20mbit burst 64kb latency 50ms
    tc qdisc add dev VETH clsact
    tc filter add dev VETH ingress protocol all \
        u32 match u32 0 0 action mirred egress redirect dev ifb0";

/// Changes what pod 1 of node 2 may receive.
fn shape(lab: &Lab, action: &str) -> Result<()> {
    let node = lab.node(2);
    let veth = node.pods()[0].node_veth();
    let mut command = vec!["tc", "qdisc", action, "dev", veth, "root"];
    if action == "add" {
        command.extend(["tbf", "rate", "20mbit", "burst", "64kb", "latency", "50ms"]);
    }
    node.run(&command).map(drop)
}

fn ends(lab: &Lab) -> (SocketAddr, SocketAddr) {
    (
        SocketAddr::new(lab.pod(1, 1).address(), PORT),
        SocketAddr::new(lab.pod(2, 1).address(), PORT),
    )
}

fn transfer(lab: &Lab) -> Result<Duration> {
    let (from, to) = ends(lab);
    let bulk = Bulk::to(to).local_port(from.port()).size(SIZE);
    let report = bulk.run(lab.pod(1, 1), lab.pod(2, 1), DEADLINE)?;
    Ok(report.elapsed)
}

fn wait_for_state(lab: &Lab, wanted: PodState) -> Result<()> {
    wait_for_state_on(lab, 2, wanted)
}

fn wait_for_state_on(lab: &Lab, node: usize, wanted: PodState) -> Result<()> {
    let datapath = Datapath::of(lab, lab.node(node))?;
    wait_for(DEADLINE, &format!("the pod is {}", wanted.name()), || {
        let pods = datapath.maps.pods()?;
        let states: Vec<_> = pods.values().map(|pod| pod.state).collect();
        ensure!(states == [wanted as u8], "{states:?}");
        Ok(())
    })
}
