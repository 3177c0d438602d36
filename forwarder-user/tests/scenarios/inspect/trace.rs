//! What `underpass trace` says of a packet is what becomes of it.

use std::net::SocketAddr;
use std::process::Output;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use underpass_bench::lab::rules::{Protocol, Service};
use underpass_bench::lab::{AgentOptions, Family, Node, names};
use underpass_bench::traffic::{UdpClient, UdpEcho};
use underpass_bench::{Backend, Lab, root_or_skip, wait_for};
use underpass_common::addr::{Mac, ShowMac};

use crate::common::{self, DEADLINE, start_agents, with_families};

const PORT: u16 = 5001;
const ELSEWHERE: Mac = [0x02, 0x4e, 0, 0, 0, 0x99];

/// A UDP packet, and how `trace` is asked about it.
struct Asked {
    from: SocketAddr,
    to: SocketAddr,
    /// Open for as long as answers may come: nobody is to be told that they are not wanted.
    client: UdpClient,
}

impl Asked {
    /// From pod 1 of node 1 to pod 1 of node 2.
    fn new(lab: &Lab, from_port: u16) -> Result<Self> {
        Self::to(
            lab,
            SocketAddr::new(lab.pod(2, 1).address(), PORT),
            from_port,
        )
    }

    /// From pod 1 of node 1.
    fn to(lab: &Lab, to: SocketAddr, from_port: u16) -> Result<Self> {
        let pod = lab.pod(1, 1);
        Ok(Self {
            from: SocketAddr::new(pod.address(), from_port),
            to,
            client: UdpClient::connect_from(pod, from_port, to)?,
        })
    }

    fn trace(&self, lab: &Lab, node: &Node) -> Result<Value> {
        let (to, from) = (self.to.ip().to_string(), self.from.ip().to_string());
        let [port, from_port] = [self.to, self.from].map(|end| end.port().to_string());
        let ports = ["--port", &port, "--from-port", &from_port];
        let packet = ["trace", &to, "--from", &from, "--proto", "udp"];
        lab.underpass_json(node, &[&packet[..], &ports].concat())
    }

    /// Asks about the packet, sends it, and sees it counted at the node as it was said.
    fn said_and_done(&self, lab: &Lab, node: &Node) -> Result<Value> {
        let said = self.trace(lab, node)?;
        let before = Counted::at(lab, node)?;
        self.client.send(b"whither?")?;
        let mut expected = vec![(&said["entrance"], &said["result"]["verdict"])];
        if said["result"]["exit_verdict"].is_string() {
            expected.push((&said["exit"], &said["result"]["exit_verdict"]));
        }
        wait_for(DEADLINE, "the packet is counted as it was said", || {
            let now = Counted::at(lab, node)?;
            for (hook, verdict) in &expected {
                let added = now.of(hook, verdict)? - before.of(hook, verdict)?;
                ensure!(added == 1, "{added} at {hook} are {verdict}: {said:#}");
            }
            Ok(())
        })?;
        Ok(said)
    }
}

/// What `underpass status -o json` counts.
struct Counted(Value);

impl Counted {
    fn at(lab: &Lab, node: &Node) -> Result<Self> {
        let mut status = lab.underpass_json(node, &["status"])?;
        Ok(Self(status["verdicts"].take()))
    }

    fn of(&self, hook: &Value, verdict: &Value) -> Result<u64> {
        let counts = self.0.as_array().context("status has no verdicts")?;
        // What XDP has carried is counted where it was.
        let by_xdp = (*hook == "from_wire").then_some("from_wire_xdp");
        let is_at = |count: &Value| {
            count["hook"] == *hook || by_xdp.is_some_and(|name| count["hook"] == name)
        };
        let those = counts
            .iter()
            .filter(|count| is_at(count) && count["verdict"] == *verdict);
        Ok(those.filter_map(|count| count["packets"].as_u64()).sum())
    }
}

/// Road, verdict at the entrance, verdict at the exit.
fn ends_in(said: &Value) -> [&str; 3] {
    let result = &said["result"];
    ["road", "verdict", "exit_verdict"].map(|name| result[name].as_str().unwrap_or("-"))
}

fn step<'a>(said: &'a Value, name: &str) -> Result<&'a Value> {
    let steps = said["steps"].as_array().context("a trace has no steps")?;
    let found = steps.iter().find(|step| step["step"] == name);
    found.with_context(|| format!("no step {name} in {said:#}"))
}

const BY_THE_KERNEL: [&str; 3] = ["kernel", "unconfirmed", "confirmed"];
const FAST: [&str; 3] = ["fast", "fast", "-"];

#[test]
fn trace_says_what_becomes_of_a_packet() -> Result<()> {
    if !root_or_skip("trace_says_what_becomes_of_a_packet") {
        return Ok(());
    }
    with_families(|family| {
        let lab = common::lab().families(family).build()?;
        let agents = start_agents(&lab, &AgentOptions::default())?;
        let (here, there) = (lab.node(1), lab.node(2));
        let _server = UdpEcho::start(lab.pod(2, 1), PORT)?;
        // Neither end is known at the nodes yet: one of the pods' is enough.
        ensure!(
            lab.underpass(here, &["trace", &lab.pod(2, 1).address().to_string()])?
                .contains("kernel: verdict `unconfirmed`")
        );

        let sent = Asked::new(&lab, 41_001)?;
        let received = Asked::new(&lab, 41_002)?;
        assert_eq!(ends_in(&sent.said_and_done(&lab, here)?), BY_THE_KERNEL);
        assert_eq!(
            ends_in(&received.said_and_done(&lab, there)?),
            BY_THE_KERNEL
        );

        let said = sent.said_and_done(&lab, here)?;
        assert_eq!(ends_in(&said), FAST);
        let way_out = &said["result"]["way_out"];
        assert_eq!(way_out["device"], here.uplink());
        assert_eq!(way_out["dst_mac"], ShowMac(there.mac()).to_string());
        assert_eq!(way_out["peer"], "node2");
        let said = received.said_and_done(&lab, there)?;
        assert_eq!(ends_in(&said), FAST);
        assert_eq!(
            said["result"]["way_out"]["device"],
            lab.pod(2, 1).node_veth()
        );
        for name in ["agreement", "programs", "kernel_route", "neighbour"] {
            assert_eq!(step(&said, name)?["outcome"], "ok", "{said:#}");
        }

        // No agent, and the same.
        for agent in agents {
            ensure!(agent.terminate()?.success());
        }
        assert_eq!(ends_in(&sent.said_and_done(&lab, here)?), FAST);
        Ok(())
    })
}

#[test]
fn trace_to_a_service() -> Result<()> {
    if !root_or_skip("trace_to_a_service") {
        return Ok(());
    }
    with_families(|family| {
        let lab = common::lab()
            .families(family)
            .kube_proxy_rules(Backend::Iptables);
        let lab = lab.build()?;
        let _agents = start_agents(&lab, &AgentOptions::default())?;
        let far = lab.pod(2, 1);
        let vip = SocketAddr::new(names::service_address(family, 10), 80);
        let service = Service::new("far", Protocol::Udp, vip);
        lab.add_service(&service.backend(far.address(), PORT))?;
        let _server = UdpEcho::start(far, PORT)?;
        let asked = Asked::to(&lab, vip, 41_001)?;
        for _ in 0..3 {
            let said = asked.trace(&lab, lab.node(1))?;
            assert_eq!(ends_in(&said)[..2], ["kernel", "unconfirmed"]);
            let remedy = said["result"]["to_be_fast"].as_str().unwrap_or_default();
            ensure!(remedy.contains("a Service's address"), "{said:#}");
            let before = Counted::at(&lab, lab.node(1))?;
            asked.client.echo(b"hello", DEADLINE)?;
            let now = Counted::at(&lab, lab.node(1))?;
            let added = |hook: &str, verdict: &str| {
                let (hook, verdict) = (hook.into(), verdict.into());
                anyhow::Ok(now.of(&hook, &verdict)? - before.of(&hook, &verdict)?)
            };
            assert_eq!(added("from_pod", "unconfirmed")?, 1);
            assert_eq!(added("from_pod", "fast")?, 0);
            // The kernel has made another packet of it.
            assert_eq!(added("to_wire", "unwitnessed")?, 1);
        }
        Ok(())
    })
}

#[test]
fn trace_tells_where_trie_and_kernel_disagree() -> Result<()> {
    if !root_or_skip("trace_tells_where_trie_and_kernel_disagree") {
        return Ok(());
    }
    with_families(they_disagree)
}

fn they_disagree(family: Family) -> Result<()> {
    let lab = common::lab().families(family).nodes(3).build()?;
    let agents = start_agents(&lab, &AgentOptions::default())?;
    let (here, far) = (lab.node(1), lab.pod(2, 1).address());
    let by_third = format!("{far} via {}", names::node_address(family, 3));
    let _server = UdpEcho::start(lab.pod(2, 1), PORT)?;

    // An agent that runs carves it out of the trie.
    here.ip(&format!("route add {by_third}"))?;
    let asked = Asked::new(&lab, 41_000)?;
    wait_for(DEADLINE, "the agent leaves it to the kernel", || {
        let said = asked.trace(&lab, here)?;
        ensure!(ends_in(&said)[2] == "no_route", "{said:#}");
        Ok(())
    })?;
    let said = asked.said_and_done(&lab, here)?;
    let found = step(&said, "route")?["found"].as_str().unwrap_or_default();
    ensure!(found.contains("is left to the kernel"), "{said:#}");
    here.ip(&format!("route del {by_third}"))?;
    let known = Asked::new(&lab, 41_001)?;
    wait_for(DEADLINE, "the flow goes fast", || {
        known.client.send(b"whither?")?;
        let said = known.trace(&lab, here)?;
        ensure!(ends_in(&said) == FAST, "{said:#}");
        Ok(())
    })?;

    // Without one the trie stays as it is, and the kernel wins.
    for agent in agents {
        ensure!(agent.terminate()?.success());
    }
    here.ip(&format!("route add {by_third}"))?;
    expect_disagreement(&lab, 41_002, lab.node(3).mac())?;
    // What was confirmed before goes on as it was, and it is said what is wrong.
    let said = known.said_and_done(&lab, here)?;
    assert_eq!(ends_in(&said), FAST);
    assert_eq!(step(&said, "agreement")?["outcome"], "kernel");
    here.ip(&format!("route del {by_third}"))?;

    let fixed = format!(
        "{} lladdr {} dev eth0",
        lab.node(2).address(),
        ShowMac(ELSEWHERE)
    );
    here.ip(&format!("neigh replace {fixed} nud permanent"))?;
    expect_disagreement(&lab, 41_003, ELSEWHERE)
}

/// A new flow of this port is never confirmed, for the kernel sends it to that MAC.
fn expect_disagreement(lab: &Lab, from_port: u16, mac: Mac) -> Result<()> {
    let asked = Asked::new(lab, from_port)?;
    for _ in 0..2 {
        let said = asked.said_and_done(lab, lab.node(1))?;
        assert_eq!(ends_in(&said), ["kernel", "unconfirmed", "other_next_hop"]);
        let step = step(&said, "agreement")?;
        assert_eq!(step["outcome"], "kernel");
        let found = step["found"].as_str().unwrap_or_default();
        let told = format!(
            "the kernel sends {} -> {}",
            ShowMac(lab.node(1).mac()),
            ShowMac(mac)
        );
        ensure!(found.contains(&told), "{found}");
    }
    Ok(())
}

#[test]
fn trace_refuses_what_cannot_be() -> Result<()> {
    if !root_or_skip("trace_refuses_what_cannot_be") {
        return Ok(());
    }
    let lab = common::lab().nodes(1).build()?;
    let node = lab.node(1);
    let said = |arguments: &[&str]| -> Result<String> {
        let pins = lab.bpffs(node).display().to_string();
        let command = [
            &[env!("CARGO_BIN_EXE_underpass")][..],
            arguments,
            &["--bpffs", &pins],
        ];
        let Output { status, stderr, .. } = node.output(&command.concat())?;
        ensure!(!status.success(), "{arguments:?} went well");
        Ok(String::from_utf8(stderr)?)
    };
    let nothing = said(&["trace", "10.244.2.11"])?;
    ensure!(nothing.contains("no agent has run here"), "{nothing}");
    assert_eq!(nothing, said(&["status"])?);

    let _agents = lab.start_agents(&AgentOptions::default(), DEADLINE)?;
    let families = said(&["trace", "10.244.2.11", "--from", "fd00::1"])?;
    ensure!(families.contains("they are of two families"), "{families}");
    let peer = said(&["flows", "--peer", "node9"])?;
    ensure!(peer.contains("there is no peer node9"), "{peer}");
    Ok(())
}
