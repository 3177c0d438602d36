//! A pod whose veth has a queueing discipline that limits it keeps its limit.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use underpass_bench::lab::AgentOptions;
use underpass_bench::traffic::Bulk;
use underpass_bench::{Lab, root_or_skip, wait_for};
use underpass_common::pod::PodState;

use crate::common::{self, DEADLINE, Datapath, is_fast, start_agents, tcp};

const PORT: u16 = 5001;
const SIZE: u64 = 2 << 20;
/// What the transfer takes at the limit of 20 Mbit/s is 0.84 s; some of it passes unhindered.
const AT_LEAST: Duration = Duration::from_millis(700);

#[test]
fn shaped_pod() -> Result<()> {
    if !root_or_skip("shaped_pod") {
        return Ok(());
    }
    // Shaped before the agent comes, shaped while its flows are fast, and shaped no more.
    let lab = common::lab().build()?;
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
    let datapath = Datapath::of(lab, lab.node(2))?;
    wait_for(DEADLINE, &format!("the pod is {}", wanted.name()), || {
        let pods = datapath.maps.pods()?;
        let states: Vec<_> = pods.values().map(|pod| pod.state).collect();
        ensure!(states == [wanted as u8], "{states:?}");
        Ok(())
    })
}
