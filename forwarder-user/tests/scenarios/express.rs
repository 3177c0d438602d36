//! `--ingress xdp`: an XDP program before the uplink's entrance.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use underpass::datapath::attach::{Device, Mechanism};
use underpass::datapath::{Attachments, LoadOptions, Loaded, Maps, Pins, load, query};
use underpass::xdp::XdpMode;
use underpass_bench::lab::{AgentOptions, Family, Node, Pod};
use underpass_bench::traffic::{Bulk, UdpFlow};
use underpass_bench::{Backend, Lab, root_or_skip, wait_for};
use underpass_common::verdict::Hook;

use crate::carried::{Carried, PINGS, ping};
use crate::common::{self, DEADLINE, Datapath, start_agents, with_families};
use crate::streams::Traffic;
use crate::talk::{Road, Talk};

const PORT: u16 = 5001;
fn by_xdp() -> AgentOptions {
    AgentOptions::default().args(["--ingress", "xdp"])
}

/// A lab as XDP likes it: whole frames, and pods that take them.
fn lab(family: Family) -> Result<Lab> {
    common::lab()
        .families(family)
        .whole_frames(true)
        .pod_gro(true)
        .kube_proxy_rules(Backend::Iptables)
        .build()
}

/// How packets reach the pod of a node, as `underpass pods` has it.
fn ingress(lab: &Lab, node: &Node) -> Result<String> {
    let pods = lab.underpass_json(node, &["pods"])?;
    let ingress = pods[0]["ingress"].as_str();
    Ok(ingress.with_context(|| format!("{pods}"))?.to_owned())
}

fn wait_for_ingress(lab: &Lab, node: &Node, wanted: &str) -> Result<()> {
    wait_for(
        DEADLINE,
        &format!("packets reach the pod by {wanted}"),
        || {
            let found = ingress(lab, node)?;
            ensure!(found == wanted, "they do by {found}");
            Ok(())
        },
    )
}

fn set_gro(pod: &Pod, to: &str) -> Result<()> {
    pod.run(&["ethtool", "-K", pod.interface(), "gro", to])
        .map(drop)
}

#[test]
fn xdp_carries_confirmed_flows() -> Result<()> {
    if !root_or_skip("xdp_carries_confirmed_flows") {
        return Ok(());
    }
    with_families(|family| {
        const PACKETS: u64 = 1000;
        let lab = lab(family)?;
        let agents = start_agents(&lab, &by_xdp())?;
        let (pod, far) = (lab.pod(1, 1), lab.pod(2, 1));
        wait_for_ingress(&lab, lab.node(2), "xdp")?;

        // The first shows the way.
        let fast = u64::from(PINGS) - 1;
        let carried = ping(&lab, lab.node(2))?;
        ensure!(
            carried
                == Carried {
                    by_xdp: fast,
                    by_tc: 0
                },
            "pings: {carried:?}"
        );

        let datapath = Datapath::of(&lab, lab.node(2))?;
        let before = datapath.carried()?;
        let target = SocketAddr::new(far.address(), PORT);
        let flow = UdpFlow::to(target).local_port(PORT).rate(5000);
        let report = flow.packets(PACKETS).run(pod, far)?;
        ensure!(report.lost == 0, "{report:?}");
        let carried = datapath.carried()?.since(before);
        ensure!(
            carried.by_xdp + carried.by_tc == PACKETS - 1,
            "UDP: {carried:?}"
        );
        // One checksum in 65,536 looks like none.
        ensure!(carried.by_tc <= 3, "UDP: {carried:?}");

        let before = datapath.carried()?;
        let bulk = Bulk::to(SocketAddr::new(far.address(), PORT + 1));
        bulk.size(4 << 20).run(pod, far, DEADLINE)?;
        let carried = datapath.carried()?.since(before);
        ensure!(carried.by_xdp > 2000, "TCP: {carried:?}");
        ensure!(carried.by_tc * 100 < carried.by_xdp, "TCP: {carried:?}");

        let status = lab.underpass_json(lab.node(2), &["status"])?;
        ensure!(status["ingress"] == "xdp", "{status}");
        ensure!(status.get("xdp_error").is_none(), "{status}");
        let shown = lab
            .node(2)
            .run(&["ip", "link", "show", "dev", lab.node(2).uplink()])?;
        ensure!(shown.contains("name from_wire_xdp"), "{shown}");
        drop(agents);
        Ok(())
    })
}

/// Native XDP carries packets on older kernels, too, though these tell nobody which pods take frames: here the test says
/// so in the agent's place.
#[test]
fn xdp_carries_where_somebody_says_that_pods_take_frames() -> Result<()> {
    if !root_or_skip("xdp_carries_where_somebody_says_that_pods_take_frames") {
        return Ok(());
    }
    with_families(|family| {
        let lab = lab(family)?;
        let agents = start_agents(&lab, &by_xdp())?;
        let (node, veth) = (lab.node(2), lab.pod(2, 1).node_veth());
        let pins = Pins::new(lab.bpffs(node));
        // The index is one of the namespace that it is said in.
        let say = || {
            let ifindex = nix::net::if_::if_nametoindex(veth)?;
            Maps::open(&pins)?.add_xdp_pod(ifindex)
        };
        wait_for(DEADLINE, "XDP carries packets to the pod", || {
            // The agent takes it out again whenever it applies something.
            node.enter(say)?;
            let carried = ping(&lab, lab.node(2))?;
            ensure!(carried.by_xdp > u64::from(PINGS) / 2, "{carried:?}");
            Ok(())
        })?;
        let there = node.enter(|| query::xdp(nix::net::if_::if_nametoindex(node.uplink())?))?;
        let modes: Vec<_> = there.iter().map(|one| one.mode).collect();
        ensure!(modes == [Some(XdpMode::Native)], "{there:?}");
        drop(agents);
        Ok(())
    })
}

#[test]
fn a_pod_without_gro_stays_with_tc() -> Result<()> {
    if !root_or_skip("a_pod_without_gro_stays_with_tc") {
        return Ok(());
    }
    with_families(|family| {
        let lab = lab(family)?;
        set_gro(lab.pod(2, 1), "off")?;
        let agents = start_agents(&lab, &by_xdp())?;
        wait_for_ingress(&lab, lab.node(2), "tc_no_gro")?;
        let carried = ping(&lab, lab.node(2))?;
        ensure!(carried.by_xdp == 0 && carried.by_tc > 0, "{carried:?}");
        let status = lab.underpass(lab.node(2), &["status"])?;
        ensure!(status.contains("--pod-gro set"), "{status}");

        for (gro, wanted) in [("on", "xdp"), ("off", "tc_no_gro")] {
            set_gro(lab.pod(2, 1), gro)?;
            wait_for_ingress(&lab, lab.node(2), wanted)?;
            let carried = ping(&lab, lab.node(2))?;
            ensure!(
                (carried.by_xdp > 0) == (gro == "on"),
                "GRO {gro}: {carried:?}"
            );
        }
        drop(agents);
        Ok(())
    })
}

#[test]
fn pod_gro_is_switched_on_where_that_is_asked_for() -> Result<()> {
    if !root_or_skip("pod_gro_is_switched_on_where_that_is_asked_for") {
        return Ok(());
    }
    with_families(|family| {
        let lab = lab(family)?;
        let pod = lab.pod(2, 1);
        set_gro(pod, "off")?;
        let options = by_xdp().args(["--pod-gro", "set"]);
        let agents = start_agents(&lab, &options)?;
        wait_for_ingress(&lab, lab.node(2), "xdp")?;
        ensure!(ping(&lab, lab.node(2))?.by_xdp > 0);
        let log = agents[1].log();
        ensure!(
            log.contains("GRO is on now at the pod's end of vethpod1"),
            "{log}"
        );

        // Who switches it off again means it.
        set_gro(pod, "off")?;
        wait_for_ingress(&lab, lab.node(2), "tc_no_gro")?;
        ensure!(ping(&lab, lab.node(2))?.by_xdp == 0);
        Ok(())
    })
}

/// XDP would lose what the kernel notes beside a packet whose checksum nobody has made.
#[test]
fn partial_checksums_get_there() -> Result<()> {
    if !root_or_skip("partial_checksums_get_there") {
        return Ok(());
    }
    with_families(|family| {
        const PACKETS: u64 = 500;
        let lab = common::lab()
            .families(family)
            .whole_frames(false)
            .pod_gro(true)
            .build()?;
        let agents = start_agents(&lab, &by_xdp())?;
        let (pod, far) = (lab.pod(1, 1), lab.pod(2, 1));
        wait_for_ingress(&lab, lab.node(2), "xdp")?;
        let datapath = Datapath::of(&lab, lab.node(2))?;
        let before = datapath.carried()?;
        let target = SocketAddr::new(far.address(), PORT);
        let report = UdpFlow::to(target).packets(PACKETS).run(pod, far)?;
        ensure!(report.lost == 0, "{report:?}");
        let bulk = Bulk::to(SocketAddr::new(far.address(), PORT + 1));
        bulk.size(16 << 20).run(pod, far, DEADLINE)?;
        let carried = datapath.carried()?.since(before);
        ensure!(
            carried.by_xdp == 0 && carried.by_tc > PACKETS,
            "{carried:?}"
        );
        let errors = far.run(&[
            "sh",
            "-c",
            "nstat -asz | awk '/InCsumErrors/ { sum += $2 } END { print sum + 0 }'",
        ])?;
        ensure!(errors.trim() == "0", "{errors} wrong checksums");
        // The hook works all the same: what ICMP sends is whole.
        ensure!(ping(&lab, lab.node(2))?.by_xdp > 0);
        drop(agents);
        Ok(())
    })
}

/// An XDP program of somebody else on a node's uplink: ours, from maps of their own that nobody has
/// switched on.
fn take_the_hook(lab: &Lab, node: &Node) -> Result<(Loaded, Pins)> {
    let pins = Pins::new(lab.bpffs(node).with_file_name("foreign"));
    let options = LoadOptions {
        max_flows: 1,
        xdp: true,
        ..LoadOptions::default()
    };
    let mut loaded = load(&pins, options)?;
    let theirs = pins.clone();
    node.enter(|| {
        let name = node.uplink();
        let ifindex = nix::net::if_::if_nametoindex(name)?;
        let attachments = Attachments::new(theirs, Mechanism::of_this_kernel());
        attachments.attach(
            &mut loaded.ebpf,
            Hook::FromWireXdp,
            Device { ifindex, name },
        )
    })?;
    Ok((loaded, pins))
}

fn program_on(node: &Node) -> Result<Option<u32>> {
    node.enter(|| {
        let ifindex = nix::net::if_::if_nametoindex(node.uplink())?;
        Ok(query::xdp(ifindex)?.first().map(|there| there.program))
    })
}

#[test]
fn an_xdp_hook_that_is_taken_is_left_alone() -> Result<()> {
    if !root_or_skip("an_xdp_hook_that_is_taken_is_left_alone") {
        return Ok(());
    }
    with_families(|family| {
        let lab = lab(family)?;
        let node = lab.node(2);
        let (theirs, pins) = take_the_hook(&lab, node)?;
        let before = program_on(node)?;
        ensure!(before.is_some());
        let agents = start_agents(&lab, &by_xdp())?;
        // Everything works, by TC.
        Talk::new(&lab, lab.pod(1, 1), lab.pod(2, 1))?.wait_for(Road::Fast)?;
        let carried = ping(&lab, lab.node(2))?;
        ensure!(carried.by_xdp == 0 && carried.by_tc > 0, "{carried:?}");
        ensure!(program_on(node)? == before, "theirs has been replaced");

        let status = lab.underpass_json(node, &["status"])?;
        let error = status["xdp_error"].as_str().context("no error is told")?;
        ensure!(
            error.contains("somebody else") && error.contains("left alone"),
            "{error}"
        );
        ensure!(
            agents[1].log().contains("somebody else"),
            "{}",
            agents[1].log()
        );
        let check = node.output(&[
            "sh",
            "-c",
            &format!(
                "{} check --bpffs {}",
                env!("CARGO_BIN_EXE_underpass"),
                lab.bpffs(node).display()
            ),
        ])?;
        let check = String::from_utf8_lossy(&check.stdout).into_owned();
        ensure!(check.contains("XDP program from_wire_xdp"), "{check}");

        // Nor does taking ours out touch it.
        for agent in agents {
            ensure!(agent.terminate()?.success());
        }
        lab.underpass(node, &["detach"])?;
        ensure!(program_on(node)? == before);
        let attachments = Attachments::new(pins.clone(), Mechanism::of_this_kernel());
        node.enter(|| attachments.detach_all())?;
        drop(theirs);
        pins.remove_all()
    })
}

/// Programs of others at TC's hook of the uplink would not see what XDP carries.
#[test]
fn xdp_hides_nothing_from_the_programs_of_others() -> Result<()> {
    if !root_or_skip("xdp_hides_nothing_from_the_programs_of_others") {
        return Ok(());
    }
    with_families(|family| {
        let lab = lab(family)?;
        let node = lab.node(2);
        let agents = start_agents(&lab, &by_xdp())?;
        wait_for_ingress(&lab, node, "xdp")?;
        ensure!(ping(&lab, lab.node(2))?.by_xdp > 0);
        let add = "tc qdisc add dev eth0 clsact
                   tc filter add dev eth0 ingress bpf direct-action bytecode '1,6 0 0 4294967295'";
        node.run(&["sh", "-ec", add])?;
        wait_for(DEADLINE, "XDP is gone from the uplink", || {
            ensure!(program_on(node)?.is_none());
            let status = lab.underpass_json(node, &["status"])?;
            let error = status["xdp_error"].as_str().context("no error is told")?;
            ensure!(
                error.contains("programs of others on what comes in by eth0"),
                "{error}"
            );
            Ok(())
        })?;
        let carried = ping(&lab, lab.node(2))?;
        ensure!(carried.by_xdp == 0 && carried.by_tc > 0, "{carried:?}");
        node.run(&["tc", "qdisc", "del", "dev", "eth0", "clsact"])?;
        wait_for(DEADLINE, "XDP is back", || {
            ensure!(ping(&lab, lab.node(2))?.by_xdp > 0);
            Ok(())
        })?;
        drop(agents);
        Ok(())
    })
}

#[test]
fn xdp_comes_and_goes_without_a_loss() -> Result<()> {
    if !root_or_skip("xdp_comes_and_goes_without_a_loss") {
        return Ok(());
    }
    with_families(|family| {
        let lab = lab(family)?;
        let node = lab.node(2);
        let mut agents = start_agents(&lab, &by_xdp())?;
        wait_for_ingress(&lab, node, "xdp")?;
        let traffic = Traffic::start(&lab)?;
        let tc = AgentOptions::default().args(["--ingress", "tc"]);
        let generic = by_xdp().args(["--xdp-mode", "generic"]);
        for (options, is_there) in [
            (by_xdp(), true),
            (tc, false),
            (by_xdp(), true),
            (generic, true),
            (by_xdp(), true),
        ] {
            let before = program_on(node)?;
            for agent in agents {
                agent.kill()?;
            }
            traffic.go_on(50)?;
            agents = lab.start_agents(&options, DEADLINE)?;
            traffic.go_on(50)?;
            let after = program_on(node)?;
            ensure!(after.is_some() == is_there, "{options:?}: {after:?}");
            ensure!(
                after.is_none() || after != before,
                "the program has not been swapped"
            );
        }
        traffic.expect_unharmed()?;
        // An upgrade has not brought more than one program, and all of them go.
        for agent in agents {
            ensure!(agent.terminate()?.success());
        }
        lab.underpass(node, &["detach"])?;
        ensure!(program_on(node)?.is_none());
        Ok(())
    })
}

/// Nobody looks any longer whether pods take what XDP hands them.
#[test]
fn without_an_agent_tc_takes_over() -> Result<()> {
    if !root_or_skip("without_an_agent_tc_takes_over") {
        return Ok(());
    }
    with_families(|family| {
        let lab = lab(family)?;
        let agents = start_agents(&lab, &by_xdp())?;
        wait_for_ingress(&lab, lab.node(2), "xdp")?;
        ensure!(ping(&lab, lab.node(2))?.by_xdp > 0);
        for agent in agents {
            agent.kill()?;
        }
        // All of these are answered, whoever carries them.
        wait_for(DEADLINE, "TC carries what XDP has carried", || {
            let carried = ping(&lab, lab.node(2))?;
            ensure!(carried.by_xdp == 0 && carried.by_tc > 0, "{carried:?}");
            Ok(())
        })?;
        let agents = start_agents(&lab, &by_xdp())?;
        ensure!(ping(&lab, lab.node(2))?.by_xdp > 0);
        drop(agents);
        Ok(())
    })
}

/// A bridge as the uplink: its driver has no XDP of its own.
#[test]
fn a_driver_without_xdp_is_told_and_tc_does_the_work() -> Result<()> {
    if !root_or_skip("a_driver_without_xdp_is_told_and_tc_does_the_work") {
        return Ok(());
    }
    with_families(|family| {
        let lab = lab(family)?;
        let node = lab.node(2);
        let agent = lab.start_agent(node, &by_xdp().iface("cni0"))?;
        wait_for(DEADLINE, "the agent tells", || {
            let log = agent.log();
            ensure!(log.contains("no native XDP"), "{log}");
            ensure!(log.contains("TC does its work"), "{log}");
            Ok(())
        })
    })
}
