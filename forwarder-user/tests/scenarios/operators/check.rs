//! `underpass check` on nodes of a lab.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use underpass::datapath::attach::Mechanism;
use underpass_bench::api_server::ApiServer;
use underpass_bench::lab::{AgentOptions, Families, Node};
use underpass_bench::{Lab, root_or_skip};

use crate::common::{lab, start_agents};
use crate::xdp_pass;

/// What a check says, and its exit code.
struct Said {
    findings: Value,
    code: Option<i32>,
}

impl Said {
    fn of(lab: &Lab, node: &Node, bpffs: &str, more: &[&str]) -> Result<Self> {
        let bpffs = lab.bpffs(node).with_file_name(bpffs);
        let bpffs = bpffs.to_string_lossy();
        let program = env!("CARGO_BIN_EXE_underpass");
        let words = [program, "check", "-o", "json", "--bpffs", &bpffs];
        let output = node.output(&[&words[..], more].concat())?;
        let text = String::from_utf8_lossy(&output.stdout);
        let said = String::from_utf8_lossy(&output.stderr);
        Ok(Self {
            findings: serde_json::from_str(&text).with_context(|| format!("{text}{said}"))?,
            code: output.status.code(),
        })
    }

    /// With the nodes of the lab's file, before any agent.
    fn by_file(lab: &Lab) -> Result<Self> {
        let file = lab.nodes_file();
        let more = ["--nodes-file", &file.to_string_lossy()];
        Self::of(lab, lab.node(1), "unused", &more)
    }

    /// Expects an outcome, and some words of what was found.
    fn expect(&self, name: &str, outcome: &str, words: &str) -> Result<()> {
        let findings = self.findings.as_array().context("no list")?;
        let found = findings.iter().find(|one| one["name"] == name);
        let found = found.with_context(|| format!("nobody looks at {name}"))?;
        let told = found["detail"].as_str().context("nothing found")?;
        ensure!(
            found["outcome"] == outcome && told.contains(words),
            "{found}"
        );
        ensure!(found["fix"].is_null() == (outcome == "pass"), "{found}");
        Ok(())
    }
}

const SEGMENT: &str = "peers on the segment";
const OTHERS: &str = "programs of others";

/// Takes the links of these nodes away, and has node 1 forget what it knew of them.
fn silence(lab: &Lab, nodes: &[usize]) -> Result<()> {
    for &number in nodes {
        let node = lab.node(number);
        node.run(&["ip", "link", "set", node.uplink(), "down"])?;
    }
    lab.node(1).run(&["ip", "neigh", "flush", "all"]).map(drop)
}

#[test]
fn check_before_an_agent() -> Result<()> {
    if !root_or_skip("check_before_an_agent") {
        return Ok(());
    }
    let lab = lab().nodes(3).pods(2).families(Families::Dual).build()?;
    let node = lab.node(1);

    // All is found out from the nodes file and the kernel.
    let said = Said::by_file(&lab)?;
    said.expect(SEGMENT, "pass", "all 4 addresses answer")?;
    said.expect("uplink", "pass", node.uplink())?;
    said.expect("pods", "pass", "2 veths: vethpod1, vethpod2")?;
    said.expect(OTHERS, "pass", "none")?;
    ensure!(said.code == Some(0), "{}", said.findings);

    // Nobody tells of the nodes.
    let said = Said::of(&lab, node, "unused", &[])?;
    said.expect("nodes", "warn", "nobody tells of other nodes")?;
    ensure!(said.code == Some(0), "{}", said.findings);

    // An uplink that is not there, and a file that is not there.
    let said = Said::of(&lab, node, "unused", &["--iface", "eth77"])?;
    said.expect("uplink", "fail", "eth77")?;
    ensure!(said.code == Some(1), "{}", said.findings);
    let said = Said::of(&lab, node, "unused", &["--nodes-file", "/nowhere"])?;
    said.expect("nodes", "fail", "/nowhere")?;
    ensure!(said.code == Some(1), "{}", said.findings);

    // A node that is away, and all of them.
    silence(&lab, &[3])?;
    let said = Said::by_file(&lab)?;
    said.expect(
        SEGMENT,
        "warn",
        "2 of 4 answer; asked in vain for the MAC of node3",
    )?;
    ensure!(said.code == Some(0), "{}", said.findings);
    silence(&lab, &[2])?;
    let said = Said::by_file(&lab)?;
    said.expect(SEGMENT, "fail", "0 of 4 answer")?;
    ensure!(said.code == Some(1), "{}", said.findings);
    Ok(())
}

/// What speaks against a fast path on this node is told, whoever has set it up.
#[test]
fn check_finds_what_is_in_the_way() -> Result<()> {
    if !root_or_skip("check_finds_what_is_in_the_way") {
        return Ok(());
    }
    let lab = lab().nodes(2).pods(2).build()?;
    let node = lab.node(1);
    node.run(&[
        "sh",
        "-ec",
        "tc qdisc add dev eth0 clsact
         tc filter add dev eth0 egress pref 9 bpf direct-action bytecode '1,6 0 0 4294967295'
         tc qdisc add dev vethpod1 root tbf rate 10mbit burst 10kb latency 50ms
         ip link set vethpod2 mtu 9000
         ethtool -K vethpod2 tso off",
    ])?;
    node.sysctl("net.ipv4.conf.eth0.rp_filter", "1")?;
    node.sysctl("net.ipv4.ip_forward", "0")?;
    let said = Said::by_file(&lab)?;
    said.expect(OTHERS, "warn", "filter bpf pref 9")?;
    said.expect("queueing", "warn", "vethpod1 (tbf)")?;
    said.expect("MTU", "warn", "vethpod2")?;
    said.expect("offloads of pods", "warn", "vethpod2")?;
    said.expect("rp_filter", "warn", "uplink: 1, strict")?;
    said.expect("net.ipv4.ip_forward", "warn", "0: ")?;
    ensure!(said.code == Some(0), "{}", said.findings);
    Ok(())
}

#[test]
fn check_beside_an_agent() -> Result<()> {
    if !root_or_skip("check_beside_an_agent") {
        return Ok(());
    }
    let lab = lab().nodes(3).build()?;
    let _agents = start_agents(&lab, &AgentOptions::default())?;
    let node = lab.node(1);
    let own = lab.bpffs(node);
    let own = own.file_name().context("no name")?.to_string_lossy();
    let said = Said::of(&lab, node, &own, &[])?;
    said.expect("nodes", "pass", "2 others, from the agent's maps")?;
    said.expect(SEGMENT, "pass", "all 2 addresses answer")?;
    said.expect(OTHERS, "pass", "none")?;
    // The neighbours are the agent's still.
    let neighbours = node.run(&["ip", "neigh", "show", "dev", node.uplink()])?;
    let kept = neighbours.lines().filter(|line| line.contains(" managed "));
    ensure!(kept.count() == 2, "{neighbours}");

    // To who looks from other pins these programs are somebody else's.
    if Mechanism::of_this_kernel() == Mechanism::Tcx {
        let said = Said::by_file(&lab)?;
        let first = "TCX program from_wire (id ";
        said.expect(OTHERS, "warn", first)?;
        said.expect(OTHERS, "warn", "eth0 ingress, before ours")?;
        said.expect(SEGMENT, "pass", "all 2 addresses answer")?;
    }
    Ok(())
}

/// The program of somebody else, pinned beside what is `node`'s.
fn pin_xdp(lab: &Lab, node: &Node) -> Result<PathBuf> {
    let pin = lab.bpffs(node).with_file_name("xdp-pass");
    xdp_pass::pin(&pin)?;
    Ok(pin)
}

/// XDP runs before everything else: who looks for why packets do not come must be told of it.
#[test]
fn check_finds_xdp() -> Result<()> {
    if !root_or_skip("check_finds_xdp") {
        return Ok(());
    }
    let lab = lab().build()?;
    let node = lab.node(1);
    let pin = pin_xdp(&lab, node)?;
    let pin = pin.to_string_lossy();
    let set =
        |device: &str, mode: &str| node.run(&["ip", "link", "set", device, mode, "pinned", &pin]);
    for (device, mode, told) in [
        (
            node.uplink(),
            "xdpgeneric",
            "generic mode) on eth0 ingress, before ours",
        ),
        (
            "vethpod1",
            "xdpdrv",
            "native mode) on vethpod1 ingress, before ours",
        ),
    ] {
        set(device, mode)?;
        let said = Said::by_file(&lab)?;
        said.expect(OTHERS, "warn", "XDP program guard (id ")?;
        said.expect(OTHERS, "warn", told)?;
        said.expect(
            OTHERS,
            "warn",
            "one that it drops or redirects never comes to ours",
        )?;
        ensure!(said.code == Some(0), "{}", said.findings);
        node.run(&["ip", "link", "set", device, mode, "off"])?;
        Said::by_file(&lab)?.expect(OTHERS, "pass", "none")?;
    }
    Ok(())
}

/// Whether XDP could do its work, where it is to be asked for.
#[test]
fn check_looks_at_what_xdp_needs() -> Result<()> {
    const TEST: &str = "check_looks_at_what_xdp_needs";
    if !root_or_skip(TEST) {
        return Ok(());
    }
    let lab = lab().pods(2).build()?;
    let node = lab.node(1);
    let file = lab.nodes_file();
    let file = file.to_string_lossy();
    let ask = |more: &[&str]| {
        let xdp = ["--nodes-file", &file, "--ingress", "xdp"];
        Said::of(&lab, node, "unused", &[&xdp[..], more].concat())
    };
    let gro = |pod: usize, to: &str| {
        let pod = lab.pod(1, pod);
        pod.run(&["ethtool", "-K", pod.interface(), "gro", to])
    };
    for pod in [1, 2] {
        gro(pod, "off")?;
    }
    let said = ask(&[])?;
    ensure!(said.code == Some(0), "{}", said.findings);
    said.expect("XDP in the driver", "pass", "eth0 runs programs")?;
    said.expect("XDP's place", "pass", "no program of others")?;
    said.expect("XDP and others", "pass", "no VLANs")?;
    let both = "0 of 2 take frames; by TC, for GRO is off at the pod's end: vethpod1, vethpod2";
    said.expect("pods by XDP", "warn", both)?;
    let said = ask(&["--pod-gro", "set"])?;
    said.expect("pods by XDP", "pass", "0 of 2 take frames; the agent")?;
    said.expect("--pod-gro set", "pass", "can be entered")?;
    gro(1, "on")?;
    ask(&[])?.expect("pods by XDP", "warn", "1 of 2 take frames")?;
    gro(2, "on")?;
    ask(&[])?.expect("pods by XDP", "pass", "all 2 take frames")?;

    let said = ask(&["--iface", "cni0"])?;
    let bridge = "cni0: a bridge has no native XDP; TC will do its work";
    said.expect("XDP in the driver", "warn", bridge)?;
    let said = ask(&["--iface", "cni0", "--xdp-mode", "generic"])?;
    said.expect("XDP in the driver", "pass", "not needed")?;

    let pin = pin_xdp(&lab, node)?;
    let pin = pin.to_string_lossy();
    let set = ["ip", "link", "set", node.uplink(), "xdpdrv"];
    node.run(&[&set[..], &["pinned", &pin]].concat())?;
    let filter = "tc qdisc add dev eth0 clsact
                  tc filter add dev eth0 ingress bpf direct-action bytecode '1,6 0 0 4294967295'";
    node.run(&["sh", "-ec", filter])?;
    let said = ask(&[])?;
    ensure!(said.code == Some(0), "{}", said.findings);
    said.expect("XDP's place", "warn", "XDP program guard (id ")?;
    said.expect("XDP and others", "warn", "filter bpf pref")?;
    node.run(&[&set[..], &["off"]].concat())?;
    node.run(&["tc", "qdisc", "del", "dev", "eth0", "clsact"])?;

    // Ours is nobody else's.
    let agents = start_agents(&lab, &AgentOptions::default().args(["--ingress", "xdp"]))?;
    let own = lab.bpffs(node);
    let own = own.file_name().context("no name")?.to_string_lossy();
    let said = Said::of(&lab, node, &own, &["--ingress", "xdp"])?;
    said.expect("XDP's place", "pass", "no program of others")?;
    said.expect("XDP and others", "pass", "no VLANs")?;
    drop(agents);
    Ok(())
}

/// As in a pod: the nodes come from the API, and this node is the one with its address.
#[test]
fn check_asks_the_api() -> Result<()> {
    if !root_or_skip("check_asks_the_api") {
        return Ok(());
    }
    let lab = lab().nodes(3).build()?;
    let node = lab.node(1);
    let nodes: Value = serde_saphyr::from_str(&lab.nodes_list().to_yaml()?)?;
    let nodes = nodes["items"].as_array().context("no items")?.clone();
    let listener = node.enter(|| Ok(TcpListener::bind("127.0.0.1:0")?))?;
    let mut server = ApiServer::on(listener, nodes);
    let kubeconfig = lab.file("kubeconfig");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "check"}}],
        "clusters": [{"name": "here", "cluster": {"server": server.url()}}],
        "users": [{"name": "check", "user": {"token": "any"}}],
    });
    fs::write(&kubeconfig, text.to_string())?;
    let more = ["--kubeconfig", &kubeconfig.to_string_lossy()];
    let said = Said::of(&lab, node, "unused", &more)?;
    said.expect("nodes", "pass", "2 others, from the Kubernetes API")?;
    said.expect(SEGMENT, "pass", "all 2 addresses answer")?;

    server.stop();
    let said = Said::of(&lab, node, "unused", &more)?;
    said.expect("nodes", "fail", "Kubernetes API")?;
    ensure!(said.code == Some(1), "{}", said.findings);
    Ok(())
}
