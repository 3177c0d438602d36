//! `docs/bpftool.md`: with bpftool alone, to the end, where everything of ours has been taken out by hand.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use aya::programs::{ProgramInfo, loaded_programs};
use underpass::datapath::Pins;
use underpass_bench::lab::{AgentOptions, AgentProcess, Families, Node};
use underpass_bench::{Backend, Lab, root_or_skip, wait_until};
use underpass_common::settings::LAYOUT_VERSION;
use underpass_common::verdict::Hook;

use crate::blocks::{Block, blocks};
use crate::shell::Shell;
use crate::traffic::Traffic;
use crate::{DEADLINE, repository, try_block};

/// The chapter from which on the agent is stopped, and everything taken out.
const EMERGENCY: &str = "Taking everything out by hand";
const STATISTICS: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// What shows something of ours before, and nothing afterwards.
const LEFTOVERS: [&str; 4] = [
    "ip neigh show proto 85",
    "ip route show proto 85",
    "tc filter show dev eth0 ingress",
    "tc qdisc show dev eth0 | grep clsact || true",
];

/// A switch of the whole machine, put back however the test ends.
struct Statistics(String);

impl Statistics {
    fn read() -> Result<Self> {
        Ok(Self(fs::read_to_string(STATISTICS)?))
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        if let Err(error) = fs::write(STATISTICS, &self.0) {
            eprintln!("{STATISTICS} is not put back: {error}");
        }
    }
}

#[test]
fn every_command_of_bpftool_md_works_and_the_last_leave_nothing() -> Result<()> {
    if !root_or_skip("every_command_of_bpftool_md_works_and_the_last_leave_nothing") {
        return Ok(());
    }
    let document = repository("docs/bpftool.md");
    let version = format!("this page is about {LAYOUT_VERSION} ");
    ensure!(document.contains(&version), "it is not of this layout");
    let mut looking = blocks(&document);
    let emergency = looking.iter().position(|block| block.heading == EMERGENCY);
    let emergency = looking.split_off(emergency.context("no chapter on emergencies")?);
    ensure!(
        looking.len() >= 12 && emergency.len() >= 5,
        "it has lost its commands"
    );

    let _statistics = Statistics::read()?;
    let lab = Lab::builder()
        .underpass(env!("CARGO_BIN_EXE_underpass"))
        .families(Families::Dual)
        .kube_proxy_rules(Backend::Iptables)
        .build()?;
    let strict = tcp_be_liberal(lab.node(1))?;
    ensure!(strict == "0", "{strict}");
    let mut agents = lab.start_agents(&AgentOptions::default(), DEADLINE)?;
    let shell = Shell::new(&lab);
    let mut traffic = Traffic::start(&lab, &shell)?;
    for block in &looking {
        try_block(block, &shell, &mut traffic)?;
    }
    take_out(&lab, agents.remove(0), &emergency, &shell, &mut traffic)
}

/// Does as the chapter on emergencies says, on a node that has of everything that an agent may leave.
fn take_out(
    lab: &Lab,
    agent: AgentProcess,
    emergency: &[Block<'_>],
    shell: &Shell<'_>,
    traffic: &mut Traffic,
) -> Result<()> {
    let node = lab.node(1);
    let pins = Pins::new(lab.bpffs(node));
    ensure!(agent.terminate()?.success());
    let ours = our_programs(&pins)?;
    leave_what_others_would(lab, &pins)?;
    ensure!(tcp_be_liberal(node)? == "1");
    for look in LEFTOVERS {
        let left = node.run(&["sh", "-ec", look])?;
        ensure!(
            !left.trim().is_empty(),
            "{look}: nothing is there to be taken out"
        );
    }
    for block in emergency {
        if block.script.contains("be_liberal") {
            // It is for when connections that were fast have ended.
            traffic.close()?;
        }
        try_block(block, shell, traffic)?;
        traffic.exchange()?;
    }

    ensure!(!pins.root().exists());
    ensure!(tcp_be_liberal(node)? == "0");
    for look in LEFTOVERS {
        let left = node.run(&["sh", "-ec", look])?;
        ensure!(left.trim().is_empty(), "{look}: {left}");
    }
    wait_until(DEADLINE, "the programs are gone", || {
        let mut loaded = loaded_programs().flatten();
        !loaded.any(|program| ours.contains(&program.id()))
    })?;
    traffic.exchange()
}

/// What an agent leaves on an older kernel (a filter, and the note that the qdisc is its own) and with
/// `--routes manage` (a route).
fn leave_what_others_would(lab: &Lab, pins: &Pins) -> Result<()> {
    let node = lab.node(1);
    let from_wire = pins.program(Hook::FromWire).display().to_string();
    let next_hop = lab.node(2).ipv4();
    let note = pins.qdiscs();
    node.run(&["sh", "-ec", &format!(
        "tc qdisc add dev eth0 clsact
         tc filter add dev eth0 ingress pref 49374 handle 1 bpf direct-action object-pinned {from_wire}
         mkdir -p {}/$(ip -o link show dev eth0 | cut -d: -f1)
         ip route add 10.99.0.0/16 via {next_hop} proto 85",
        note.display()
    )])?;
    Ok(())
}

/// The kernel's ids of our programs.
fn our_programs(pins: &Pins) -> Result<Vec<u32>> {
    let hooks = Hook::TC.iter();
    hooks
        .map(|hook| Ok(ProgramInfo::from_pin(pins.program(*hook))?.id()))
        .collect()
}

fn tcp_be_liberal(node: &Node) -> Result<String> {
    let value = node.read_sysctl("net.netfilter.nf_conntrack_tcp_be_liberal")?;
    Ok(value.trim().to_owned())
}
