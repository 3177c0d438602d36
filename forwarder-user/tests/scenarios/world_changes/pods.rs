//! A pod goes, and another comes in its place: with its address, with its veth's name or index.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use underpass_bench::lab::{AgentOptions, Family, Node, Pod, PodPlan};
use underpass_bench::traffic::{Frame, FrameSocket, PacketType};
use underpass_bench::{Lab, root_or_skip, wait_for, wait_until};
use underpass_common::pod::PodState;
use underpass_common::verdict::Hook;

use crate::common::{DEADLINE, Datapath, lab, start_agents, with_families};
use crate::inject::is_for;
use crate::talk::{Road, Talk};

/// Sees what reaches a pod that is meant for another.
struct Bystander {
    socket: FrameSocket,
    meant_for: IpAddr,
}

impl Bystander {
    fn new(pod: &Pod, meant_for: IpAddr) -> Result<Self> {
        Ok(Self {
            socket: FrameSocket::open(pod, pod.interface())?,
            meant_for,
        })
    }

    /// A bridge floods frames for a MAC that it doesn't know; these are for another host, as the
    /// pod sees, and the kernel's doing. What was redirected into the pod is taken for its own.
    fn expect_nothing(&self) -> Result<()> {
        let is_misled = |frame: &Frame| {
            frame.packet_type == PacketType::Host && is_for(&frame.bytes, self.meant_for)
        };
        let misled = self.socket.drain(is_misled)?;
        ensure!(
            misled.is_empty(),
            "{} packets for another pod, the first: {:02x?}",
            misled.len(),
            misled[0].bytes
        );
        Ok(())
    }
}

fn veth_index(node: &Node, pod: &Pod) -> Result<u32> {
    node.enter(|| Ok(nix::net::if_::if_nametoindex(pod.node_veth())?))
}

/// Waits until the agent has attached to a pod's veth.
fn wait_until_attached(lab: &Lab, node: &Node, pod: &Pod) -> Result<()> {
    let index = veth_index(node, pod)?;
    let datapath = Datapath::of(lab, node)?;
    wait_for(DEADLINE, &format!("{} is found", pod.name()), || {
        let pods = datapath.maps.pods()?;
        let found = pods.get(&index).context("the veth isn't known")?;
        let is_it = found.mac == pod.mac() && found.state == PodState::Attached as u8;
        ensure!(is_it, "{found:?}");
        Ok(())
    })
}

/// Waits until the agent has forgotten where a pod's address was.
fn wait_until_forgotten(lab: &Lab, node: &Node, pod: &Pod) -> Result<()> {
    let datapath = Datapath::of(lab, node)?;
    wait_for(DEADLINE, &format!("{} is forgotten", pod.name()), || {
        let endpoint = datapath.maps.endpoints()?.remove(&pod.address());
        ensure!(endpoint.is_none(), "{endpoint:?}");
        Ok(())
    })
}

/// Sends packets of a flow, and waits until the node has had them all.
fn ask_many_times(lab: &Lab, node: &Node, talk: &Talk) -> Result<()> {
    const MANY: u64 = 100;
    let datapath = Datapath::of(lab, node)?;
    let before = datapath.counts()?;
    for _ in 0..MANY {
        talk.ask()?;
    }
    wait_until(DEADLINE, "the questions come in", || {
        let now = datapath.counts();
        now.is_ok_and(|now| now.since(&before).at(Hook::FromWire) >= MANY)
    })
}

#[test]
fn pod_recreated() -> Result<()> {
    if !root_or_skip("pod_recreated") {
        return Ok(());
    }
    with_families(nobody_gets_what_is_meant_for_another)
}

fn nobody_gets_what_is_meant_for_another(family: Family) -> Result<()> {
    let lab = lab().families(family).pods(2).build()?;
    let node = lab.node(1);
    let mut agents = start_agents(&lab, &AgentOptions::default())?;
    let mut pod = lab.pod(1, 1).clone();
    let bystander = Bystander::new(lab.pod(1, 2), pod.address())?;
    let mut talk = Talk::new(&lab, lab.pod(2, 1), &pod)?;
    talk.wait_for(Road::Fast)?;

    // The same address, each time on another veth.
    let first_index = veth_index(node, &pod)?;
    let again = || PodPlan::new(1, 1);
    let other_mac = |last| [0x02, 0x50, 0, 1, 1, last];
    for (what, plan) in [
        ("another veth", again().mac(other_mac(1)).veth("vethnew")),
        ("the name of an earlier veth", again().mac(other_mac(2))),
        (
            "an earlier veth's index",
            again().mac(other_mac(3)).veth_ifindex(first_index),
        ),
        ("all as before", again().veth_ifindex(first_index)),
    ] {
        talk.fall_silent();
        lab.remove_pod(&pod)?;
        talk.ask()?;
        pod = lab.add_pod(plan)?;
        talk.answer_from(&pod)?;
        talk.wait_for(Road::Fast).context(what)?;
        bystander.expect_nothing().context(what)?;
    }

    // Its index goes to another pod, as soon as everybody could know that it is free.
    talk.fall_silent();
    lab.remove_pod(&pod)?;
    wait_until_forgotten(&lab, node, &pod)?;
    let heir = lab.add_pod(PodPlan::new(1, 3).veth_ifindex(first_index))?;
    let at_heir = Bystander::new(&heir, pod.address())?;
    wait_until_attached(&lab, node, &heir)?;
    ask_many_times(&lab, node, &talk)?;
    at_heir.expect_nothing()?;
    Talk::new(&lab, lab.pod(2, 1), &heir)?.wait_for(Road::Fast)?;

    // And again while the agent is away.
    pod = lab.add_pod(again())?;
    talk.answer_from(&pod)?;
    talk.wait_for(Road::Fast)?;
    let index = veth_index(node, &pod)?;
    agents.remove(0).kill()?;
    talk.fall_silent();
    lab.remove_pod(&pod)?;
    let heir = lab.add_pod(PodPlan::new(1, 4).veth_ifindex(index))?;
    let mut agent = lab.start_agent(node, &AgentOptions::default())?;
    agent.wait_ready(DEADLINE)?;
    let at_heir = Bystander::new(&heir, pod.address())?;
    ask_many_times(&lab, node, &talk)?;
    at_heir.expect_nothing()?;
    Talk::new(&lab, lab.pod(2, 1), &heir)?.wait_for(Road::Fast)?;
    bystander.expect_nothing()
}
