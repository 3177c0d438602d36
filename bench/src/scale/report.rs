//! The figures, for people and as JSON.

use std::fmt;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::Routes;
use super::changes::Change;
use crate::measure::kernel_release;

/// Under heartbeats at one rate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Beat {
    /// The agent's CPU time, in percent of one CPU.
    pub cpu_percent: f64,
    /// Events on its watch.
    pub events_per_s: f64,
    /// Their bytes.
    pub bytes_per_s: f64,
}

/// One start of the agent, and what followed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Round {
    pub routes: Routes,
    /// From the last byte of the list to the last map entry.
    pub sync_after_list_s: f64,
    /// From the agent's start to the last map entry.
    pub sync_after_start_s: f64,
    pub resident_kib_after_start: u64,
    pub resident_kib_at_the_end: u64,
    pub peak_kib: u64,
    /// Nothing happens.
    pub quiet: Beat,
    /// Each Node is written every five minutes.
    pub usual: Beat,
    /// Each Node is written every ten seconds.
    pub busiest: Beat,
    pub change_p50_s: f64,
    pub change_p99_s: f64,
    pub change_worst_s: f64,
    /// What the slowest change was.
    pub slowest_change: Option<Change>,
    /// How many changes were timed.
    pub changes: usize,
    /// Heartbeats of others while they were.
    pub beats_meanwhile: u64,
    /// What the agent had to say in all.
    pub log_lines: usize,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Report {
    pub nodes: usize,
    pub cpus: usize,
    pub kernel: String,
    pub rounds: Vec<Round>,
}

impl Report {
    pub(super) fn new(nodes: usize, rounds: Vec<Round>) -> Result<Self> {
        let cpus = std::thread::available_parallelism().context("cannot count the CPUs")?;
        Ok(Self {
            nodes,
            cpus: cpus.get(),
            kernel: kernel_release()?,
            rounds,
        })
    }

    fn of(&self, routes: Routes) -> Vec<&Round> {
        let rounds = self.rounds.iter();
        rounds.filter(|round| round.routes == routes).collect()
    }
}

/// A line's title, its figure, and digits behind the point.
type Line = (&'static str, fn(&Round) -> f64, usize);

/// What is shown of a round, in lines of a table.
const LINES: [Line; 15] = [
    (
        "list's last byte to last map entry, ms",
        |it| it.sync_after_list_s * 1e3,
        0,
    ),
    (
        "agent's start to last map entry, ms",
        |it| it.sync_after_start_s * 1e3,
        0,
    ),
    ("memory, peak, MiB", |it| mib(it.peak_kib), 1),
    (
        "memory, 5 s after the start, MiB",
        |it| mib(it.resident_kib_after_start),
        1,
    ),
    (
        "memory, at the end, MiB",
        |it| mib(it.resident_kib_at_the_end),
        1,
    ),
    (
        "CPU, nothing happens, % of one",
        |it| it.quiet.cpu_percent,
        2,
    ),
    (
        "CPU, a heartbeat per node in 5 min, %",
        |it| it.usual.cpu_percent,
        2,
    ),
    ("  watch, events/s", |it| it.usual.events_per_s, 1),
    ("  watch, KB/s", |it| it.usual.bytes_per_s / 1e3, 0),
    (
        "CPU, a heartbeat per node in 10 s, %",
        |it| it.busiest.cpu_percent,
        2,
    ),
    ("  watch, events/s", |it| it.busiest.events_per_s, 1),
    ("  watch, KB/s", |it| it.busiest.bytes_per_s / 1e3, 0),
    (
        "change to map entry, p50, ms",
        |it| it.change_p50_s * 1e3,
        1,
    ),
    (
        "change to map entry, p99, ms",
        |it| it.change_p99_s * 1e3,
        1,
    ),
    (
        "change to map entry, worst, ms",
        |it| it.change_worst_s * 1e3,
        1,
    ),
];

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (title, figure, digits) in LINES {
            writeln!(f, "  {title:<42}{:>10.digits$}", figure(self))?;
        }
        write!(
            f,
            "  {:<42}{:>10}",
            "lines in the agent's log", self.log_lines
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} nodes of two families; {} CPUs, Linux {}; median (lowest to highest) of the rounds",
            self.nodes, self.cpus, self.kernel
        )?;
        let columns = [Routes::Observe, Routes::Manage].map(|routes| (routes, self.of(routes)));
        write!(f, "{:<42}", "")?;
        for (routes, _) in &columns {
            write!(f, "{:>28}", format!("--routes {}", routes.name()))?;
        }
        writeln!(f)?;
        for (title, figure, digits) in LINES {
            write!(f, "{title:<42}")?;
            for (_, rounds) in &columns {
                let values = rounds.iter().map(|round| figure(round)).collect();
                write!(f, "{:>28}", spread(values, digits))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

fn spread(mut values: Vec<f64>, digits: usize) -> String {
    values.sort_by(f64::total_cmp);
    match (values.first(), values.get(values.len() / 2), values.last()) {
        (Some(low), Some(median), Some(high)) => {
            format!("{median:.digits$} ({low:.digits$} to {high:.digits$})")
        }
        _ => "not measured".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_shows_the_middle_and_the_ends() {
        assert_eq!(spread(vec![3.0, 1.0, 2.0], 1), "2.0 (1.0 to 3.0)");
        assert_eq!(spread(Vec::new(), 1), "not measured");
    }
}
