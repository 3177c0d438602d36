//! `underpass detach`: nothing of ours is left, and nothing of anybody else's is gone.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use aya::programs::{ProgramInfo, SchedClassifier, TcAttachType, loaded_programs};
use underpass::datapath::Pins;
use underpass::datapath::attach::Mechanism;
use underpass_bench::lab::{AgentOptions, Family, Node, names};
use underpass_bench::{Backend, root_or_skip, wait_until};
use underpass_common::verdict::Hook;

use crate::common::{DEADLINE, lab, start_agents, with_families};
use crate::streams::Traffic;

/// What others have on a node, each of a kind that we have too. The filter leaves every packet to
/// whoever comes next.
fn others(family: Family) -> String {
    let [route, permanent] = [250, 251].map(|number| names::node_address(family, number));
    let elsewhere = match family {
        Family::V4 => "10.99.0.0/16",
        Family::V6 => "fd00:99::/64",
    };
    format!(
        "tc qdisc add dev vethpod1 clsact
         tc filter add dev vethpod1 ingress bpf direct-action bytecode '1,6 0 0 4294967295'
         ip route add {elsewhere} via {route} proto 84
         ip neigh add {route} dev eth0 managed protocol 84
         ip neigh add {permanent} lladdr 02:00:00:00:00:01 dev eth0 nud permanent"
    )
}

/// Tells what a node's network looks like. Counters, and what else changes by itself, is left out:
/// of a neighbour only its address and what others want of it.
const LOOK: &str = "
    ip link show
    ip -4 route show table all
    ip -6 route show table all
    ip -4 rule show
    ip -6 rule show
    ip neigh show | sed -nE 's/ (INCOMPLETE|FAILED|STALE|DELAY|PROBE)//; /managed|PERMANENT/p'
    iptables -S
    iptables -t nat -S
    ip6tables -S
    ip6tables -t nat -S
    tc qdisc show
    for device in eth0 vethpod1; do
        tc filter show dev $device ingress
        tc filter show dev $device egress
    done
    sysctl --all --pattern ^net | grep -v nf_conntrack_count
";

fn network_of(node: &Node) -> Result<BTreeSet<String>> {
    let seen = node.run(&["sh", "-ec", LOOK])?;
    let mut network: BTreeSet<_> = seen.lines().map(str::to_owned).collect();
    if Mechanism::of_this_kernel() == Mechanism::Tcx {
        for device in ["eth0", "vethpod1"] {
            network.insert(format!(
                "programs on {device}: {:?}",
                programs_on(node, device)?
            ));
        }
    }
    Ok(network)
}

fn programs_on(node: &Node, device: &str) -> Result<Vec<u32>> {
    node.enter(|| {
        let mut ids = Vec::new();
        for attach_type in [TcAttachType::Ingress, TcAttachType::Egress] {
            let (_, programs) = SchedClassifier::query_tcx(device, attach_type)?;
            ids.extend(programs.iter().map(ProgramInfo::id));
        }
        Ok(ids)
    })
}

/// The kernel's ids of our programs.
fn our_programs(pins: &Pins) -> Result<Vec<u32>> {
    let hooks = Hook::TC.iter();
    hooks
        .map(|hook| Ok(ProgramInfo::from_pin(pins.program(*hook))?.id()))
        .collect()
}

/// In a cluster whose rules drop what connection tracking calls INVALID.
#[test]
fn detach() -> Result<()> {
    if !root_or_skip("detach") {
        return Ok(());
    }
    with_families(nothing_is_left)
}

fn nothing_is_left(family: Family) -> Result<()> {
    let lab = lab()
        .families(family)
        .flannel_rules(true)
        .kube_proxy_rules(Backend::Iptables)
        .build()?;
    let mut networks = Vec::new();
    for node in lab.nodes() {
        node.run(&["sh", "-ec", &others(family)])?;
        networks.push(network_of(node)?);
    }
    let agents = start_agents(&lab, &AgentOptions::default())?;
    let traffic = Traffic::start(&lab)?;

    for ((agent, node), before) in agents.into_iter().zip(lab.nodes()).zip(networks) {
        ensure!(network_of(node)? != before);
        let refused = lab.underpass(node, &["detach"]).expect_err("an agent runs");
        ensure!(
            format!("{refused:#}").contains("another agent is at work"),
            "{refused:#}"
        );
        match node.number() {
            1 => ensure!(agent.terminate()?.success()),
            _ => agent.kill()?,
        }
        let pins = Pins::new(lab.bpffs(node));
        let ours = our_programs(&pins)?;

        lab.underpass(node, &["detach"])?;
        traffic.go_on(100)?;
        let after = network_of(node)?;
        let (gone, left) = (&before - &after, &after - &before);
        ensure!(
            gone.is_empty() && left.is_empty(),
            "gone: {gone:#?}\nleft: {left:#?}"
        );
        ensure!(!pins.root().exists());
        wait_until(DEADLINE, "the programs are gone", || {
            let mut loaded = loaded_programs().flatten();
            !loaded.any(|program| ours.contains(&program.id()))
        })?;
        let said = lab.underpass(node, &["detach"])?;
        ensure!(said.contains("nothing to take out"), "{said}");
    }
    traffic.expect_unharmed()
}
