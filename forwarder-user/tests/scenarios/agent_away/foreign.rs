//! Programs of others on the same hooks.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use aya::programs::tc::{NlOptions, TcAttachOptions};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use underpass::datapath::attach::Mechanism;
use underpass::datapath::{LoadOptions, Maps, Pins, load};
use underpass_bench::lab::{AgentOptions, Family, Node};
use underpass_bench::traffic::{UdpClient, UdpEcho};
use underpass_bench::{Lab, root_or_skip};
use underpass_common::verdict::{Hook, Verdict};

use crate::common::{DEADLINE, Datapath, NEVER, lab, start_agents, with_families};
use crate::talk::{Road, Talk};

/// A port that somebody's filter on a pod's veth blocks.
const BLOCKED: u16 = 7777;
/// A qdisc for programs of others on both devices, and a filter on the pod's veth: it drops UDP packets
/// to that port and leaves all others to whoever comes next.
fn block(family: Family) -> String {
    // Where the protocol number stands, and the destination port.
    let (protocol, port) = match family {
        Family::V4 => (23, 36),
        Family::V6 => (20, 56),
    };
    format!(
        "tc qdisc add dev eth0 clsact
         tc qdisc add dev vethpod1 clsact
         tc filter add dev vethpod1 ingress bpf direct-action bytecode \
             '6,48 0 0 {protocol},21 0 3 17,40 0 0 {port},21 0 1 {BLOCKED},6 0 0 2,6 0 0 4294967295'"
    )
}

/// Programs of somebody else, which count packets and let them pass: ours, from maps of their own
/// that nobody has switched on.
struct Foreign {
    programs: Ebpf,
    maps: Maps,
}

impl Foreign {
    fn load(lab: &Lab, node: &Node) -> Result<Self> {
        let pins = Pins::new(lab.bpffs(node).with_file_name("foreign"));
        let loaded = load(
            &pins,
            LoadOptions {
                max_flows: 1,
                ..LoadOptions::default()
            },
        )?;
        Ok(Self {
            programs: loaded.ebpf,
            maps: loaded.maps,
        })
    }

    /// Attaches one before all others or after them.
    fn attach(&mut self, node: &Node, device: &str, hook: Hook) -> Result<()> {
        let first = hook.is_entrance();
        let options = match Mechanism::of_this_kernel() {
            Mechanism::Tcx if first => TcAttachOptions::TcxOrder(LinkOrder::first()),
            Mechanism::Tcx => TcAttachOptions::TcxOrder(LinkOrder::last()),
            Mechanism::Clsact => TcAttachOptions::Netlink(NlOptions {
                priority: if first { 1 } else { u16::MAX },
                ..NlOptions::default()
            }),
        };
        let direction = match first {
            true => TcAttachType::Ingress,
            false => TcAttachType::Egress,
        };
        let program = self.programs.program_mut(hook.name());
        let program: &mut SchedClassifier = program.context("no such program")?.try_into()?;
        node.enter(|| Ok(program.attach_with_options(device, direction, options)?))?;
        Ok(())
    }

    /// How many packets the program of a hook has seen.
    fn seen(&self, hook: Hook) -> Result<u64> {
        let counts = self.maps.verdicts()?.into_iter();
        Ok(counts
            .filter(|(at, _, _)| *at == hook)
            .map(|(_, _, count)| count.packets)
            .sum())
    }
}

/// Has the conversation go on, and sees to it that the programs at these hooks see every packet of
/// it.
fn expect_all_seen(foreign: &Foreign, talk: &Talk, hooks: &[Hook]) -> Result<()> {
    const TIMES: u64 = 20;
    let seen = || {
        hooks
            .iter()
            .map(|hook| foreign.seen(*hook))
            .collect::<Result<Vec<_>>>()
    };
    let before = seen()?;
    for _ in 0..TIMES {
        ensure!(talk.road()? == Road::Fast);
    }
    for ((hook, before), after) in hooks.iter().zip(before).zip(seen()?) {
        let new = after - before;
        ensure!(
            new >= TIMES,
            "{}: {new} of {TIMES} packets seen",
            hook.name()
        );
    }
    Ok(())
}

/// Asks at the blocked port until it would be fast, were it not blocked.
fn expect_blocked(lab: &Lab, node: &Node) -> Result<()> {
    let (client, server) = (&node.pods()[0], lab.pod(2, 1));
    let echo = UdpEcho::start(server, BLOCKED)?;
    let target = SocketAddr::new(server.address(), echo.port());
    let client = UdpClient::connect(client, target)?;
    let before = Datapath::of(lab, node)?.counts()?;
    for _ in 0..5 {
        client.send(b"let me in")?;
    }
    ensure!(client.echo(b"let me in", NEVER).is_err());
    ensure!(echo.peers().is_empty());
    let counts = Datapath::of(lab, node)?.counts()?.since(&before);
    ensure!(
        counts.of(Hook::FromPod, Verdict::Unconfirmed) == 6,
        "{counts:?}"
    );
    ensure!(
        counts.of(Hook::ToWire, Verdict::Confirmed) == 0,
        "{counts:?}"
    );
    Ok(())
}

/// Those that come before ours see every packet, and so do those on the way out; what a filter
/// behind ours drops never becomes fast. All are still there when we have gone.
#[test]
fn foreign_programs() -> Result<()> {
    if !root_or_skip("foreign_programs") {
        return Ok(());
    }
    with_families(others_run_before_and_after)
}

fn others_run_before_and_after(family: Family) -> Result<()> {
    let lab = lab().families(family).build()?;
    let node = lab.node(1);
    node.run(&["sh", "-ec", &block(family)])?;
    let mut foreign = Foreign::load(&lab, node)?;
    foreign.attach(node, "vethpod1", Hook::FromPod)?;
    foreign.attach(node, "eth0", Hook::FromWire)?;
    let mut agents = start_agents(&lab, &AgentOptions::default())?;
    // These take the packets' witness away: they may only come after ours.
    foreign.attach(node, "eth0", Hook::ToWire)?;
    foreign.attach(node, "vethpod1", Hook::ToPod)?;

    let talk = Talk::new(&lab, lab.pod(1, 1), lab.pod(2, 1))?;
    talk.wait_for(Road::Fast)?;
    let on_the_way = [Hook::FromPod, Hook::ToWire, Hook::FromWire];
    expect_all_seen(&foreign, &talk, &on_the_way)?;
    expect_blocked(&lab, node)?;

    // Swapping our programs leaves them where they are.
    agents.remove(0).kill()?;
    let mut agent = lab.start_agent(node, &AgentOptions::default())?;
    agent.wait_ready(DEADLINE)?;
    expect_all_seen(&foreign, &talk, &on_the_way)?;

    ensure!(agent.terminate()?.success());
    lab.underpass(node, &["detach"])?;
    let before = [foreign.seen(Hook::ToPod)?, foreign.seen(Hook::FromPod)?];
    talk.exchange()?;
    let after = [foreign.seen(Hook::ToPod)?, foreign.seen(Hook::FromPod)?];
    ensure!(
        after[0] > before[0] && after[1] > before[1],
        "{before:?} -> {after:?}"
    );
    let filters = node.run(&["tc", "filter", "show", "dev", "vethpod1", "ingress"])?;
    ensure!(filters.contains("bpf"), "{filters}");
    Ok(())
}
