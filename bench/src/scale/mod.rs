//! The agent in a cluster of thousands of nodes: how soon, how large, how busy.
//!
//! One node of the lab runs the real agent, with real maps, neighbours and routes. The other nodes are
//! Nodes of a mock API server, and addresses on the wire that one host answers for. The server runs in the
//! benchmark's process, so that the agent's memory and CPU are its own.

mod changes;
mod cluster;
mod heartbeats;
mod limits;
mod maps;
mod node;
mod report;
mod stage;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use crate::interrupt::{self, nap};
use crate::measure::usage::{self, Cpu};
use heartbeats::{Heartbeats, Traffic};
use limits::Limits;
use report::{Beat, Report, Round};
use stage::{Running, Stage};

/// kubelet's `nodeStatusReportFrequency`: how often a Node is written where nothing has changed.
const REPORT: Duration = Duration::from_secs(300);
/// kubelet's `nodeStatusUpdateFrequency`: as often as that where something changes each time.
const UPDATE: Duration = Duration::from_secs(10);
/// After a start, until memory is called steady.
const SETTLE: Duration = Duration::from_secs(5);

/// Who makes the kernel's routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Routes {
    /// A CNI has made them before.
    Observe,
    /// The agent does.
    Manage,
}

impl Routes {
    fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Manage => "manage",
        }
    }
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program `underpass`.
    pub underpass: PathBuf,
    /// How many peers.
    pub nodes: usize,
    /// How many starts with either kind of routes.
    pub rounds: usize,
    /// How many Nodes' changes in each round.
    pub changes: usize,
    /// How long heartbeats are watched, at each rate.
    pub beats_for: Duration,
    /// Where the figures go as JSON.
    pub json: Option<PathBuf>,
    /// Further arguments of the agent.
    pub agent_arguments: Vec<String>,
}

/// Measures, and prints the figures.
///
/// # Errors
/// Where this is not root, the machine lacks something, or the agent fails.
pub fn run(options: &Options) -> Result<()> {
    let most = cluster::MOST_PEERS;
    let actors = changes::actors(options.changes);
    ensure!(
        (2..=most).contains(&options.nodes) && actors < options.nodes,
        "2 to {most} nodes, and more of them than a quarter of the changes"
    );
    // The limits are the whole machine's: whatever ends this puts them back.
    interrupt::catch()?;
    let _limits = Limits::raise()?;
    let stage = Stage::new(&options.underpass, options.nodes, actors)?;
    let mut rounds = Vec::new();
    for routes in [Routes::Observe, Routes::Manage] {
        if routes == Routes::Observe {
            stage.cni_routes("add")?;
        }
        for number in 1..=options.rounds {
            eprintln!(
                "--routes {}, round {number} of {}",
                routes.name(),
                options.rounds
            );
            rounds.push(round(&stage, routes, options, actors)?);
        }
        if routes == Routes::Observe {
            stage.cni_routes("del")?;
        }
    }
    let report = Report::new(options.nodes, rounds)?;
    println!("{report}");
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn round(stage: &Stage, routes: Routes, options: &Options, actors: usize) -> Result<Round> {
    let running = stage.start(routes, &options.agent_arguments)?;
    let pid = running.agent.pid();
    nap(SETTLE)?;
    let after_start = usage::memory(pid)?;
    let quiet = beat(&running, None, options.beats_for)?;
    let with_actors = |every| Heartbeats::start(&running.server, (actors, options.nodes), every);
    let usual = beat(&running, Some(with_actors(REPORT)), options.beats_for)?;
    let busiest = beat(&running, Some(with_actors(UPDATE)), options.beats_for)?;
    let heartbeats = with_actors(UPDATE);
    let timed = changes::measure(&running.server, &running.tries, options.changes)?;
    let times: Vec<_> = timed.iter().map(|(_, time)| *time).collect();
    let slowest = timed.iter().max_by_key(|(_, time)| *time);
    let beats_meanwhile = heartbeats.count();
    drop(heartbeats);
    nap(SETTLE)?;
    let at_the_end = usage::memory(pid)?;
    let round = Round {
        routes,
        sync_after_list_s: running.after_list.as_secs_f64(),
        sync_after_start_s: running.after_start.as_secs_f64(),
        resident_kib_after_start: after_start.resident_kib,
        resident_kib_at_the_end: at_the_end.resident_kib,
        peak_kib: at_the_end.peak_kib,
        quiet,
        usual,
        busiest,
        change_p50_s: changes::percentile(&times, 0.5).as_secs_f64(),
        change_p99_s: changes::percentile(&times, 0.99).as_secs_f64(),
        change_worst_s: changes::percentile(&times, 1.0).as_secs_f64(),
        slowest_change: slowest.map(|(change, _)| *change),
        changes: times.len(),
        beats_meanwhile,
        log_lines: running.agent.log().lines().count(),
    };
    eprintln!("{round}");
    stage.stop(running)?;
    Ok(round)
}

/// The agent's CPU over a while of heartbeats, and what went over its watch.
fn beat(running: &Running, beats: Option<Heartbeats>, during: Duration) -> Result<Beat> {
    let server = Arc::clone(&running.server);
    let (before, began) = (Cpu::of(running.agent.pid())?, Instant::now());
    nap(during.saturating_sub(began.elapsed()))?;
    let now = Cpu::of(running.agent.pid())?;
    let none = Traffic {
        events_per_s: 0.0,
        bytes_per_s: 0.0,
    };
    let traffic = beats.map_or(none, |beats| beats.traffic());
    ensure!(server.watches() == 1, "the agent does not watch any more");
    Ok(Beat {
        cpu_percent: now.percent_since(before),
        events_per_s: traffic.events_per_s,
        bytes_per_s: traffic.bytes_per_s,
    })
}
