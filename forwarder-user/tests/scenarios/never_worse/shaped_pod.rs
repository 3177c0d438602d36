//! A pod whose veth has a queueing discipline that limits it keeps its limit: what the limiter has counted
//! went by it. Times would tell less: they depend on what else the machine does.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use underpass_bench::lab::{AgentOptions, Family, Host};
use underpass_bench::traffic::Bulk;
use underpass_bench::{Lab, root_or_skip, wait_for};
use underpass_common::pod::PodState;
use underpass_common::verdict::{Hook, Verdict};

use crate::common::{self, DEADLINE, Datapath, is_fast, start_agents, tcp, with_families};

const PORT: u16 = 5001;
/// Bytes of a transfer: at the limit of 50 Mbit/s a sixth of a second's.
const SIZE: u64 = 1 << 20;

#[test]
fn shaped_pod() -> Result<()> {
    if !root_or_skip("shaped_pod") {
        return Ok(());
    }
    with_families(a_limit_is_kept)
}

/// Shaped before the agent comes, shaped while its flows are fast, and shaped no more.
fn a_limit_is_kept(family: Family) -> Result<()> {
    let lab = common::lab().families(family).build()?;
    let (node, veth) = (lab.node(2), lab.pod(2, 1).node_veth());
    shape(&lab, "add")?;
    let agents = start_agents(&lab, &AgentOptions::default())?;
    wait_for_state_on(&lab, 2, PodState::Shaped)?;
    let at_first = by_the_limiter(node, veth, || transfer(&lab))?;
    ensure!(
        at_first.is_whole(),
        "past the limiter at first: {at_first:?}"
    );

    shape(&lab, "del")?;
    wait_for_state_on(&lab, 2, PodState::Attached)?;
    wait_for(DEADLINE, "the pod is fast", || transfer_is_fast(&lab))?;

    // A transfer that is fast when the limit comes.
    let (from, to) = ends(&lab);
    let running = Bulk::to(to).local_port(from.port());
    let running = running.start(lab.pod(1, 1), lab.pod(2, 1))?;
    running.wait_for_more(SIZE, DEADLINE)?;
    ensure!(is_fast(&lab, &tcp(from, to))?, "not fast though not shaped");
    shape(&lab, "add")?;
    wait_for_state_on(&lab, 2, PodState::Shaped)?;
    // The programs go a moment after the word of it.
    wait_for(DEADLINE, "all of the transfer is limited", || {
        let before = fast_into_pods(&lab)?;
        let seen = by_the_limiter(node, veth, || running.wait_for_more(SIZE / 4, DEADLINE))?;
        let fast = fast_into_pods(&lab)? - before;
        ensure!(fast == 0 && seen.bytes > 0, "{fast} fast, {seen:?}");
        Ok(())
    })?;
    running.stop(DEADLINE)?;
    let later = by_the_limiter(node, veth, || transfer(&lab))?;
    ensure!(later.is_whole(), "past the limiter later on: {later:?}");
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
    with_families(a_limit_by_a_filter_is_kept)
}

fn a_limit_by_a_filter_is_kept(family: Family) -> Result<()> {
    let lab = common::lab().families(family).build()?;
    let node = lab.node(1);
    let veth = node.pods()[0].node_veth();
    let _agents = start_agents(&lab, &AgentOptions::default())?;
    transfer_is_fast(&lab).context("before anything limits")?;

    node.run(&["sh", "-ec", &LIMIT_BY_IFB.replace("VETH", veth)])?;
    wait_for_state_on(&lab, 1, PodState::Shaped)?;
    // The programs go a moment after the word of it.
    wait_for(DEADLINE, "the limit holds", || {
        let seen = by_the_limiter(node, "ifb0", || transfer(&lab))?;
        ensure!(seen.is_whole(), "the filter was jumped over: {seen:?}");
        Ok(())
    })?;

    node.run(&["tc", "qdisc", "del", "dev", veth, "clsact"])?;
    wait_for_state_on(&lab, 1, PodState::Attached)?;
    // The programs come a moment after the word of it.
    wait_for(DEADLINE, "the pod is fast again", || transfer_is_fast(&lab))
}

const LIMIT_BY_IFB: &str = "
    ip link add ifb0 type ifb
    ip link set ifb0 up
    tc qdisc add dev ifb0 root tbf rate 50mbit burst 64kb latency 50ms
    tc qdisc add dev VETH clsact
    tc filter add dev VETH ingress protocol all \
        u32 match u32 0 0 action mirred egress redirect dev ifb0";

/// Changes what pod 1 of node 2 may receive.
fn shape(lab: &Lab, action: &str) -> Result<()> {
    let node = lab.node(2);
    let veth = node.pods()[0].node_veth();
    let mut command = vec!["tc", "qdisc", action, "dev", veth, "root"];
    if action == "add" {
        command.extend(["tbf", "rate", "50mbit", "burst", "64kb", "latency", "50ms"]);
    }
    node.run(&command).map(drop)
}

/// What a limiter has let through, and how often it had to hold something back.
#[derive(Clone, Copy, Debug)]
struct Limited {
    bytes: u64,
    overlimits: u64,
}

impl Limited {
    /// As its qdisc on this interface has counted so far.
    fn so_far(host: &Host, interface: &str) -> Result<Self> {
        let shown = host.run(&["tc", "-s", "-j", "qdisc", "show", "dev", interface])?;
        let qdiscs: serde_json::Value = serde_json::from_str(&shown)?;
        let mut qdiscs = qdiscs.as_array().into_iter().flatten();
        let limiter = qdiscs.find(|qdisc| qdisc["kind"] == "tbf");
        let count = |name: &str| limiter.and_then(|qdisc| qdisc[name].as_u64());
        let counted = count("bytes").zip(count("overlimits"));
        let (bytes, overlimits) = counted.with_context(|| format!("no limiter in {shown}"))?;
        Ok(Self { bytes, overlimits })
    }

    /// All of a transfer went by it, and faster than it would let it.
    fn is_whole(&self) -> bool {
        self.bytes >= SIZE && self.overlimits > 0
    }
}

/// What of something goes by the limiter of an interface.
fn by_the_limiter(
    host: &Host,
    interface: &str,
    something: impl FnOnce() -> Result<()>,
) -> Result<Limited> {
    let before = Limited::so_far(host, interface)?;
    something()?;
    let after = Limited::so_far(host, interface)?;
    Ok(Limited {
        bytes: after.bytes - before.bytes,
        overlimits: after.overlimits - before.overlimits,
    })
}

fn ends(lab: &Lab) -> (SocketAddr, SocketAddr) {
    (
        SocketAddr::new(lab.pod(1, 1).address(), PORT),
        SocketAddr::new(lab.pod(2, 1).address(), PORT),
    )
}

fn transfer(lab: &Lab) -> Result<()> {
    let (from, to) = ends(lab);
    let bulk = Bulk::to(to).local_port(from.port()).size(SIZE);
    bulk.run(lab.pod(1, 1), lab.pod(2, 1), DEADLINE).map(drop)
}

/// Most of it: how it begins and ends is the kernel's.
fn transfer_is_fast(lab: &Lab) -> Result<()> {
    let before = fast_into_pods(lab)?;
    transfer(lab)?;
    let (from, to) = ends(lab);
    ensure!(is_fast(lab, &tcp(from, to))?, "not fast");
    ensure!(
        fast_into_pods(lab)? - before >= SIZE,
        "partly by the kernel"
    );
    Ok(())
}

/// Bytes that node 2 has brought to its pod past the kernel.
fn fast_into_pods(lab: &Lab) -> Result<u64> {
    let counts = Datapath::of(lab, lab.node(2))?.maps.verdicts()?;
    let into_pods = [Hook::FromWire, Hook::FromWireXdp];
    let fast = counts
        .into_iter()
        .filter(|(hook, verdict, _)| into_pods.contains(hook) && *verdict == Verdict::Fast);
    Ok(fast.map(|(_, _, count)| count.bytes).sum())
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
