//! `underpass detach`: nothing of ours is left, and nothing of anybody else's is gone.

use anyhow::{Result, ensure};
use aya::programs::{ProgramInfo, SchedClassifier, TcAttachType, loaded_programs};
use underpass::datapath::Pins;
use underpass::datapath::attach::Mechanism;
use underpass_bench::lab::{AgentOptions, Node};
use underpass_bench::{Backend, root_or_skip, wait_until};
use underpass_common::verdict::Hook;

use crate::common::{DEADLINE, lab, start_agents};
use crate::streams::Traffic;
use crate::talk::{Road, Talk};

/// What others have on a node, each of a kind that we have too.
const OTHERS: [&str; 5] = [
    "tc qdisc add dev vethpod1 clsact",
    // Leaves every packet to whoever comes next.
    "tc filter add dev vethpod1 ingress bpf bytecode 1,6 0 0 4294967295 direct-action",
    "ip route add 10.99.0.0/16 via 192.168.77.250 proto 84",
    "ip neigh add 192.168.77.250 dev eth0 managed protocol 84",
    "ip neigh add 192.168.77.251 lladdr 02:00:00:00:00:01 dev eth0 nud permanent",
];

fn run(node: &Node, command: &str) -> Result<String> {
    // The bytecode is one word.
    let (command, code) = match command.split_once(" bytecode ") {
        Some((head, rest)) => {
            let (code, tail) = rest.rsplit_once(' ').unwrap_or((rest, ""));
            (format!("{head} bytecode {} {tail}", code.replace(' ', "_")), true)
        }
        None => (command.to_owned(), false),
    };
    let words: Vec<_> = command.split_whitespace().map(|word| match code {
        true => word.replace('_', " "),
        false => word.to_owned(),
    }).collect();
    node.run(&words)
}

fn network_of(node: &Node) -> Result<String> {
    let mut picture = String::new();
    for command in [
        "ip link show",
        "tc qdisc show",
        "tc filter show dev eth0 ingress",
        "tc filter show dev eth0 egress",
        "tc filter show dev vethpod1 ingress",
        "tc filter show dev vethpod1 egress",
        "ip route show table all",
        "ip rule show",
        "iptables -S",
        "iptables -t nat -S",
    ] {
        picture += &format!("# {command}\n{}", run(node, command)?);
    }
    if Mechanism::of_this_kernel() == Mechanism::Tcx {
        for device in ["eth0", "vethpod1"] {
            picture += &format!("# programs on {device}: {:?}\n", programs_on(node, device)?);
        }
    }
    for line in run(node, "ip neigh show")?.lines() {
        if line.contains("managed") || line.contains("PERMANENT") {
            picture += &format!("{line}\n");
        }
    }
    for line in run(node, "sysctl --all --pattern ^net\\.")?.lines() {
        if !line.contains("nf_conntrack_count") {
            picture += &format!("{line}\n");
        }
    }
    Ok(picture)
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

#[test]
fn detach() -> Result<()> {
    if !root_or_skip("detach") {
        return Ok(());
    }
    let lab = lab().flannel_rules(true).kube_proxy_rules(Backend::Iptables).build()?;
    let mut before = Vec::new();
    for node in lab.nodes() {
        for command in OTHERS {
            run(node, command)?;
        }
        before.push(network_of(node)?);
    }
    let agents = start_agents(&lab, &AgentOptions::default())?;
    let traffic = Traffic::start(&lab)?;
    traffic.go_on(50)?;

    for ((agent, node), before) in agents.into_iter().zip(lab.nodes()).zip(before) {
        ensure!(network_of(node)? != before);
        let refused = lab.underpass(node, &["detach"]).expect_err("an agent runs");
        ensure!(format!("{refused:#}").contains("another agent is at work"), "{refused:#}");
        let pins = Pins::new(lab.bpffs(node));
        let ours: Vec<_> = Hook::ALL
            .iter()
            .map(|hook| Ok(ProgramInfo::from_pin(pins.program(*hook))?.id()))
            .collect::<Result<_>>()?;
        match node.number() {
            1 => ensure!(agent.terminate()?.success()),
            _ => agent.kill()?,
        }

        lab.underpass(node, &["detach"])?;
        traffic.go_on(100)?;
        similar(&before, &network_of(node)?)?;
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

fn similar(before: &str, after: &str) -> Result<()> {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (before, after) = (lines(before), lines(after));
    let gone: Vec<_> = before.iter().filter(|line| !after.contains(line)).collect();
    let left: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
    ensure!(gone.is_empty() && left.is_empty(), "gone: {gone:#?}\nleft: {left:#?}");
    Ok(())
}
