//! The agents: started, killed, started again, and taken out.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::clusters::NODES;
use super::pings;
use super::stage::{Held, Stage, held};
use crate::lab::{AgentOptions, AgentProcess, Lab, Node};
use crate::leftovers::{self, LIBERAL};
use crate::measure::share::Counted;
use crate::traffic::{UdpFlow, UdpReport};
use crate::{wait_for, wait_until};

/// How long the agents may take until all of them are ready.
const READY: Duration = Duration::from_secs(20);
/// How long packets may take to arrive.
const DEADLINE: Duration = Duration::from_secs(30);
/// Packets each way before, during and after the agent's absence, at 1,000 a second.
const PACKETS: u64 = 700;

/// An agent on each node of a cluster.
#[derive(Debug)]
pub(super) struct Agents<'a> {
    lab: &'a Lab,
    running: Vec<AgentProcess>,
    /// What the sysctl was on each node.
    liberal: Vec<String>,
}

impl<'a> Agents<'a> {
    /// Starts them and waits until all are ready.
    pub fn start(lab: &'a Lab) -> Result<Held<Self>> {
        let liberal = lab.nodes().iter().map(|node| node.read_sysctl(LIBERAL));
        let agents = Self {
            lab,
            liberal: liberal.collect::<Result<_>>()?,
            running: lab.start_agents(&AgentOptions::default(), READY)?,
        };
        let mut pods = 0;
        for node in lab.nodes() {
            let what = format!("the agent of {} takes up its peers and pods", node.name());
            pods += wait_for(READY, &what, || see_everything(lab, node))?;
        }
        let detail = format!(
            "each sees its {} peers and its pods, {pods} in all; routes and rules stay as they are",
            NODES - 1
        );
        Ok(Held {
            value: agents,
            detail,
        })
    }

    /// Where failed steps find what the agents say.
    pub fn show_logs_on(&self, stage: &mut Stage) {
        let nodes = self.lab.nodes().iter().map(|node| node.name().to_owned());
        let logs = self.running.iter().map(|agent| agent.log_path().to_owned());
        stage.logs = nodes.zip(logs).collect();
    }

    /// Kills the agent of node 1 and starts it again, under UDP packets both ways.
    pub fn restart_under_traffic(&mut self) -> Result<Held<()>> {
        let (near, far) = (self.lab.pod(1, 1), self.lab.pod(2, 1));
        let there = UdpFlow::to(SocketAddr::new(far.address(), 5003)).start(near, far)?;
        let back = UdpFlow::to(SocketAddr::new(near.address(), 5003)).start(far, near)?;
        let more = || {
            there.wait_for_more(PACKETS, DEADLINE)?;
            back.wait_for_more(PACKETS, DEADLINE)
        };
        more()?;
        self.running.remove(0).kill()?;
        let before = Counted::read(self.lab)?;
        more().context("while no agent ran on node1")?;
        let alone = Counted::read(self.lab)?.since(before);
        let node = self.lab.node(1);
        let again = self.lab.start_agent(node, &AgentOptions::default())?;
        self.running.insert(0, again);
        self.running[0].wait_ready(READY)?;
        more().context("after the agent of node1 was started again")?;
        let (there, back) = (there.stop()?, back.stop()?);
        for report in [&there, &back] {
            nothing_lost(report)?;
        }
        // Packets that were under way when the counters were read may be missing there.
        alone
            .at_least(0.99)
            .context("while no agent ran on node1")?;
        Ok(held(format!(
            "kill -9, {PACKETS} packets each way without an agent, started again: {} and {} \
             packets sent, 0 lost; {alone} meanwhile",
            there.sent, back.sent
        )))
    }

    /// Ends the agents, takes everything out, and looks whether that is so.
    pub fn detach(self) -> Result<Held<()>> {
        let Self {
            lab,
            running,
            liberal,
        } = self;
        let programs = programs(lab)?;
        for agent in running {
            agent.terminate()?;
        }
        for (node, liberal) in lab.nodes().iter().zip(&liberal) {
            lab.underpass(node, &["detach"])?;
            let left = leftovers::of(lab, node, liberal)?;
            ensure!(left.is_empty(), "detach has left {}", left.join(", "));
        }
        // The kernel frees a program a moment after its last user has gone.
        wait_until(DEADLINE, "the kernel frees our programs", || {
            loaded_programs(lab).is_ok_and(|loaded| loaded.is_disjoint(&programs))
        })?;
        let pinged = pings::all_pairs(lab, 3)?;
        Ok(held(format!(
            "{} programs, their links and all pins are gone, sysctls as they were; {} of {} pings \
             go on over plain routes",
            programs.len(),
            pinged.pings,
            pinged.pings
        )))
    }
}

/// Whether the agent of a node has taken up all of its peers and pods. How many pods.
fn see_everything(lab: &Lab, node: &Node) -> Result<usize> {
    let status = lab.underpass_json(node, &["status"])?;
    let in_state = |list: &str, state: &str| {
        let entries = status[list].as_array().map_or(&[][..], Vec::as_slice);
        entries.iter().filter(|it| it["state"] == state).count()
    };
    let (peers, pods) = (in_state("peers", "ready"), in_state("pods", "attached"));
    ensure!(
        peers == NODES - 1 && pods == node.pods().len(),
        "{}: {peers} peers ready, {pods} pods attached; status: {status}",
        node.name()
    );
    Ok(pods)
}

fn nothing_lost(report: &UdpReport) -> Result<()> {
    let UdpReport {
        sent,
        lost,
        first_lost,
        ..
    } = report;
    ensure!(
        *lost == 0,
        "{lost} of {sent} packets were lost, the first of them number {first_lost:?}"
    );
    Ok(())
}

/// The ids of the programs that the agents have pinned.
fn programs(lab: &Lab) -> Result<BTreeSet<u64>> {
    let mut ids = BTreeSet::new();
    for node in lab.nodes() {
        let dir = lab.bpffs(node).join("programs");
        let pins = fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
        for pin in pins {
            let pin = pin.with_context(|| format!("cannot read {}", dir.display()))?;
            let pin = pin.path().display().to_string();
            let shown = node.run(&["bpftool", "-j", "prog", "show", "pinned", &pin])?;
            ids.insert(id_of(&serde_json::from_str(&shown)?)?);
        }
    }
    ensure!(!ids.is_empty(), "the agents have pinned no programs");
    Ok(ids)
}

/// The ids of all programs in the kernel.
fn loaded_programs(lab: &Lab) -> Result<BTreeSet<u64>> {
    let shown = lab.node(1).run(&["bpftool", "-j", "prog", "show"])?;
    let programs: Vec<Value> = serde_json::from_str(&shown)?;
    programs.iter().map(id_of).collect()
}

fn id_of(program: &Value) -> Result<u64> {
    let id = program["id"].as_u64();
    id.with_context(|| format!("bpftool shows a program without an id: {program}"))
}
