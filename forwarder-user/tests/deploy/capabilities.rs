//! The DaemonSet's capabilities: they are enough, and each is needed.

use std::fs;

use anyhow::{Context as _, Result, bail, ensure};
use caps::{CapSet, Capability, CapsHashSet};
use serde_json::Value;
use underpass::datapath::{LoadOptions, Pins, load};
use underpass::world::netlink::xdp_features;
use underpass_bench::lab::{AgentProcess, Families, Family, container};
use underpass_bench::{Lab, root_or_skip, skip, wait_for, wait_until};

use crate::common::{DEADLINE, Datapath, lab};
use crate::container::OnNode;
use crate::manifest::{self, AGENT, DETACH, PREFLIGHT, PodSpec};
use crate::talk::{Road, Talk};

const LIBERAL: &str = "net.netfilter.nf_conntrack_tcp_be_liberal";

/// Starts the DaemonSet's container on every node, and waits until each knows the way to the other.
pub fn start_agents(lab: &Lab) -> Result<Vec<AgentProcess>> {
    let pod = PodSpec::of_file(AGENT)?;
    let mut agents = Vec::new();
    for node in lab.nodes() {
        agents.push(OnNode::new(lab, node, &pod, &pod.containers[0])?.start_agent()?);
    }
    for (agent, node) in agents.iter_mut().zip(lab.nodes()) {
        agent.wait_ready(DEADLINE)?;
        wait_for(
            DEADLINE,
            "routes to the other node, in both families",
            || {
                let routes = Datapath::of(lab, node)?.maps.routes()?;
                ensure!(routes.values().filter(|route| route.ifindex != 0).count() == 2);
                Ok(())
            },
        )?;
    }
    Ok(agents)
}

/// The effective capabilities of a process.
fn effective(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    Ok(u64::from_str_radix(line.context("no CapEff")?.trim(), 16)?)
}

#[test]
fn the_daemonset_may_do_all_that_it_must() -> Result<()> {
    if !root_or_skip("the_daemonset_may_do_all_that_it_must") {
        return Ok(());
    }
    let lab = lab().families(Families::Dual).conntrack(true).build()?;
    for node in lab.nodes() {
        node.sysctl(LIBERAL, "0")?;
    }
    let agents = start_agents(&lab)?;
    let pod = PodSpec::of_file(AGENT)?;
    let node = lab.node(1);
    let given = container::mask(&pod.containers[0].capabilities()?);
    ensure!(effective(agents[0].pid())? == given);

    // Programs are attached to uplink and pods, whose far ends were read in their own namespaces, …
    for family in Family::BOTH {
        Talk::of_family(&lab, family, lab.pod(1, 1), lab.pod(2, 1))?.wait_for(Road::Fast)?;
    }
    // … neighbours are the kernel's to keep fresh, and conntrack is lenient.
    for family in ["-4", "-6"] {
        let neighbours = node.run(&["ip", family, "neigh", "show", "dev", node.uplink()])?;
        ensure!(neighbours.contains(" managed "), "{neighbours}");
    }
    ensure!(node.read_sysctl(LIBERAL)? == "1", "{}", agents[0].log());
    ensure!(
        !agents[0].log().contains("WARN"),
        "it complains: {}",
        agents[0].log()
    );

    let exec = OnNode::new(&lab, node, &pod, &pod.containers[0])?;
    for command in ["status", "peers", "pods", "flows", "check"] {
        exec.exec(&[command])?;
    }
    detach_everywhere(&lab, agents)
}

/// What the DaemonSet for it does: not beside the agents, and thoroughly after them.
fn detach_everywhere(lab: &Lab, agents: Vec<AgentProcess>) -> Result<()> {
    let pod = PodSpec::of_file(DETACH)?;
    let detach = |node| OnNode::new(lab, lab.node(node), &pod, &pod.init_containers[0]);
    let refused = detach(1)?
        .run()
        .expect_err("it detaches what an agent uses");
    ensure!(
        format!("{refused:#}").contains("another agent is at work"),
        "{refused:#}"
    );
    for agent in agents {
        ensure!(agent.terminate()?.success());
    }
    for node in lab.nodes() {
        let said = detach(node.number())?.run()?;
        ensure!(!lab.bpffs(node).exists(), "{said}");
        ensure!(node.read_sysctl(LIBERAL)? == "0", "{said}");
        let left = node.run(&["sh", "-ec", "ip neigh show; bpftool net show"])?;
        ensure!(
            !left.contains("managed") && !left.contains("from_") && !left.contains("to_"),
            "{left}"
        );
    }
    // The container that stays finds nothing to do.
    let said = detach(1)?.run()?;
    ensure!(said.contains("nothing to take out"), "{said}");
    Ok(())
}

/// Before any agent is there, with the rights of its DaemonSet; the lab has no API to ask.
#[test]
fn the_preflight_finds_the_nodes_fit() -> Result<()> {
    if !root_or_skip("the_preflight_finds_the_nodes_fit") {
        return Ok(());
    }
    let lab = lab().families(Families::Dual).build()?;
    let pod = PodSpec::of_file(PREFLIGHT)?;
    for node in lab.nodes() {
        let place = OnNode::new(&lab, node, &pod, &pod.init_containers[0])?;
        let words = ["check", "--nodes-file", "/nodes.yaml", "-o", "json"];
        let findings: Value = serde_json::from_str(&place.exec(&words)?)?;
        for name in [
            "BPF features",
            "TCX",
            "bpffs",
            "capabilities",
            "peers on the segment",
        ] {
            let all = findings.as_array().context("no list")?;
            let found = all.iter().find(|one| one["name"] == name);
            ensure!(
                found.is_some_and(|one| one["outcome"] != "fail"),
                "{findings}"
            );
        }
        let asked = findings.to_string().contains("all 2 addresses answer");
        ensure!(asked, "it may not ask: {findings}");
        ensure!(
            !findings.to_string().contains("cannot be tried"),
            "{findings}"
        );
    }
    Ok(())
}

#[test]
fn an_agent_without_one_of_its_capabilities_says_so() -> Result<()> {
    if !root_or_skip("an_agent_without_one_of_its_capabilities_says_so") {
        return Ok(());
    }
    let lab = lab().build()?;
    let pod = PodSpec::of_file(AGENT)?;
    let all = pod.containers[0].capabilities()?;
    for &lacking in &all {
        let rest = without(&all, lacking);
        let mut agent = OnNode::new(&lab, lab.node(1), &pod, &pod.containers[0])?
            .capabilities(&rest)
            .start_agent()?;
        let status = agent.wait(DEADLINE)?;
        let said = agent.log();
        ensure!(status.code() == Some(1), "{status}: {said}");
        let sentence = format!("underpass: this process lacks {lacking}:");
        ensure!(
            said.starts_with(&sentence) && said.lines().count() == 1,
            "{said}"
        );
    }
    Ok(())
}

/// What enters pods' namespaces is no part of the manifest: whoever asks for it without is told, and TC does the work.
#[test]
fn pod_gro_takes_sys_admin() -> Result<()> {
    const TEST: &str = "pod_gro_takes_sys_admin";
    if !root_or_skip(TEST) {
        return Ok(());
    }
    if xdp_features()?.is_none() {
        let why = "this kernel does not tell who takes frames from XDP: Linux 6.3 brought that";
        skip(TEST, why);
        return Ok(());
    }
    let lab = lab().whole_frames(true).pod_gro(false).build()?;
    let pod = PodSpec::of_file(AGENT)?;
    let given = pod.containers[0].capabilities()?;
    let more = [&given[..], &[Capability::CAP_SYS_ADMIN]].concat();
    let set = ["--ingress", "xdp", "--pod-gro", "set"];
    let lacks = "--pod-gro set: this process lacks CAP_SYS_ADMIN";
    for (capabilities, may) in [(given, false), (more, true)] {
        let place = |node| -> Result<OnNode> {
            let place = OnNode::new(&lab, node, &pod, &pod.containers[0])?;
            place.capabilities(&capabilities).with_namespaces()
        };
        let mut agents = Vec::new();
        for node in lab.nodes() {
            let words = [&["--nodes-file", "/nodes.yaml"], &set[..]].concat();
            let mut agent = place(node)?.start_agent_with(&words)?;
            agent.wait_ready(DEADLINE)?;
            agents.push(agent);
        }
        let node = lab.node(2);
        let (ingress, told) = match may {
            true => ("xdp", "GRO is on now at the pod's end of vethpod1"),
            false => ("tc_no_gro", lacks),
        };
        wait_for(DEADLINE, told, || {
            let log = agents[1].log();
            ensure!(log.matches(told).count() == 1, "{log}");
            let pods = lab.underpass_json(node, &["pods"])?;
            ensure!(pods[0]["ingress"] == ingress, "{pods}");
            Ok(())
        })?;
        ensure!(agents[1].log().contains(lacks) != may);
        Talk::new(&lab, lab.pod(1, 1), lab.pod(2, 1))?.wait_for(Road::Fast)?;
        // The check says the same beforehand.
        let words = [&["check", "-o", "json"], &set[..]].concat();
        let findings: Value = serde_json::from_str(&place(node)?.exec(&words)?)?;
        let all = findings.as_array().context("no list")?;
        let found = all.iter().find(|one| one["name"] == "--pod-gro set");
        let found = found.context("nobody looks at it")?;
        let (outcome, words) = match may {
            true => ("pass", "can be entered"),
            false => ("warn", "CAP_SYS_ADMIN is missing"),
        };
        let detail = found["detail"].as_str().unwrap_or_default();
        ensure!(
            found["outcome"] == outcome && detail.contains(words),
            "{found}"
        );
        for agent in agents {
            ensure!(agent.terminate()?.success());
        }
    }
    Ok(())
}

/// A container's own `/proc/sys` is read-only: hence the mount. Whoever leaves it out is told.
#[test]
fn a_read_only_proc_sys_is_told() -> Result<()> {
    if !root_or_skip("a_read_only_proc_sys_is_told") {
        return Ok(());
    }
    let lab = lab().conntrack(true).build()?;
    let node = lab.node(1);
    node.sysctl(LIBERAL, "0")?;
    let pod = PodSpec::of_file(AGENT)?;
    let mut agent = OnNode::new(&lab, node, &pod, &pod.containers[0])?
        .env("UNDERPASS_PROC_SYS", "/proc/sys")
        .start_agent()?;
    agent.wait_ready(DEADLINE)?;
    let told = "mount the node's /proc/sys/net elsewhere, and name that place with --proc-sys";
    wait_until(DEADLINE, told, || agent.log().contains(told))?;
    ensure!(node.read_sysctl(LIBERAL)? == "0");
    Ok(())
}

/// The unit for hosts without Kubernetes gives the same.
#[test]
fn the_systemd_unit_bounds_the_same_capabilities() -> Result<()> {
    let unit = fs::read_to_string(manifest::deploy("systemd/underpass.service"))?;
    let bound = unit
        .lines()
        .find_map(|line| line.strip_prefix("CapabilityBoundingSet="))
        .context("it bounds none")?;
    let bound: Result<CapsHashSet, _> = bound.split_whitespace().map(str::parse).collect();
    let given = PodSpec::of_file(AGENT)?.containers[0].capabilities()?;
    assert_eq!(bound?, given.into_iter().collect());
    Ok(())
}

/// The agent's own check comes first; here is what the kernel says to an agent that has none.
#[test]
fn the_kernel_refuses_for_want_of_each_capability() -> Result<()> {
    if !root_or_skip("the_kernel_refuses_for_want_of_each_capability") {
        return Ok(());
    }
    let lab = lab().build()?;
    let all = PodSpec::of_file(AGENT)?.containers[0].capabilities()?;
    let pins = Pins::new(lab.bpffs(lab.node(1)));
    // With all of them first: what the kernel has to offer is found out once in a process.
    lab.node(1).enter(|| load_with(&pins, &all))?;
    for &lacking in &all {
        let rest = without(&all, lacking);
        let Err(refusal) = lab.node(1).enter(|| load_with(&pins, &rest)) else {
            bail!("the kernel takes everything without {lacking}");
        };
        let refusal = format!("{refusal:#}");
        let expected = match lacking {
            // A devmap takes the right over the network besides (map_create() of kernel/bpf/syscall.c).
            Capability::CAP_BPF | Capability::CAP_NET_ADMIN => "does not take the BPF maps",
            _ => "does not take the program",
        };
        ensure!(refusal.contains(expected), "without {lacking}: {refusal}");
    }
    Ok(())
}

/// Loads programs and maps afresh, on a thread that has these capabilities and no others.
fn load_with(pins: &Pins, capabilities: &[Capability]) -> Result<()> {
    pins.remove_all()?;
    let only = capabilities.iter().copied().collect();
    caps::set(None, CapSet::Effective, &only)?;
    load(
        pins,
        LoadOptions {
            max_flows: 1024,
            ..LoadOptions::default()
        },
    )
    .map(drop)
}

fn without(all: &[Capability], one: Capability) -> Vec<Capability> {
    all.iter().copied().filter(|other| *other != one).collect()
}
