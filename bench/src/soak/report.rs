//! What a run has shown, and the verdict.

use std::collections::BTreeMap;

use serde::Serialize;

use super::event::{Happened, Kind, UNTOUCHED};
use super::ledger::{Account, by_kind};
use super::traffic::Outcome;
use super::vitals::Vitals;
use crate::measure::share::Counted;

/// Growth of an agent's memory that is no leak, in KiB: what its allocator keeps.
const SOME_MEMORY_KIB: u64 = 8 << 10;
/// Packets that may be lost in each event that costs the kernel some: about a sixth of a second's to and
/// from one node.
const A_LITTLE: u64 = 1000;
/// As many descriptors may be open by chance: a scrape, a file being read.
const SOME_DESCRIPTORS: u64 = 3;

/// Everything about a run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub seed: u64,
    pub seconds: u64,
    /// A row for each kind of event.
    pub rows: Vec<Row>,
    /// Of the cluster with agents.
    pub with_agents: Totals,
    /// Of the one without.
    pub without: Totals,
    /// Share of fast packets among those that pods exchanged across nodes, from 0 to 1.
    pub share_fast: f64,
    /// Packets that queues of CPUs had no room for, of everything on this machine meanwhile.
    pub backlog_drops: u64,
    /// Of each node's agent, when it had started and in the end.
    pub vitals: Vec<(Vitals, Vitals)>,
    /// What must not be.
    pub faults: Vec<String>,
    /// Losses of either cluster.
    pub losses: Vec<Loss>,
    pub happened: Vec<Happened>,
}

/// What one flow has lost by one event.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Loss {
    pub cluster: &'static str,
    /// Its number in `happened`.
    pub event: usize,
    pub kind: Kind,
    pub what: String,
}

/// All events of a kind.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Row {
    pub event: &'static str,
    /// Whether nothing may be lost.
    pub is_harmless: bool,
    pub times: usize,
    pub with_agents: Account,
    pub without: Account,
}

/// Of one cluster.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Totals {
    pub packets: Account,
    pub tcp_bytes: u64,
    pub duplicated: u64,
    pub out_of_order: u64,
    pub overflowed: u64,
}

impl Totals {
    fn of(outcome: &Outcome) -> Self {
        let mut packets = Account::default();
        outcome.accounts.iter().for_each(|it| packets.add(*it));
        Self {
            packets,
            tcp_bytes: outcome.bytes,
            duplicated: outcome.duplicated,
            out_of_order: outcome.out_of_order,
            overflowed: outcome.overflowed,
        }
    }
}

/// What the run has seen.
pub(super) struct Seen {
    pub seed: u64,
    pub seconds: u64,
    pub happened: Vec<Happened>,
    pub with_agents: Outcome,
    pub without: Outcome,
    pub counted: Counted,
    pub backlog_drops: u64,
    pub vitals: Vec<(Vitals, Vitals)>,
    pub faults: Vec<String>,
}

impl Report {
    pub(super) fn new(seen: Seen) -> Self {
        let rows = rows(&seen);
        let mut faults = seen.faults;
        let broken = |outcome: &Outcome, whose: &str| -> Vec<String> {
            let broken = outcome.broken.iter();
            broken.map(|it| format!("{whose}: {it}")).collect()
        };
        faults.extend(broken(&seen.with_agents, "with agents"));
        faults.extend(broken(&seen.without, "without agents"));
        faults.extend(rows.iter().filter_map(Row::fault));
        faults.extend(leaks(&seen.vitals));
        if seen.with_agents.duplicated > 0 {
            faults.push(format!(
                "{} packets came twice",
                seen.with_agents.duplicated
            ));
        }
        let losses = [
            losses(&seen.happened, &seen.with_agents, "with agents"),
            losses(&seen.happened, &seen.without, "without agents"),
        ];
        Self {
            seed: seen.seed,
            seconds: seen.seconds,
            rows,
            with_agents: Totals::of(&seen.with_agents),
            without: Totals::of(&seen.without),
            share_fast: seen.counted.share(),
            backlog_drops: seen.backlog_drops,
            vitals: seen.vitals,
            faults,
            losses: losses.concat(),
            happened: seen.happened,
        }
    }

    /// Whether all was well.
    pub(super) fn is_clean(&self) -> bool {
        self.faults.is_empty()
    }
}

fn losses(happened: &[Happened], outcome: &Outcome, cluster: &'static str) -> Vec<Loss> {
    let known = outcome.losses.iter().filter_map(|(event, what)| {
        let kind = happened.get(*event)?.kind;
        Some((*event, kind, what.clone()))
    });
    known
        .map(|(event, kind, what)| Loss {
            cluster,
            event,
            kind,
            what,
        })
        .collect()
}

fn rows(seen: &Seen) -> Vec<Row> {
    let mut times = BTreeMap::<Kind, usize>::new();
    for event in &seen.happened {
        *times.entry(event.kind).or_default() += 1;
    }
    let with_agents = by_kind(&seen.happened, &seen.with_agents.accounts);
    let without = by_kind(&seen.happened, &seen.without.accounts);
    let of = |sums: &BTreeMap<Kind, Account>, kind| sums.get(&kind).copied().unwrap_or_default();
    times
        .into_iter()
        .map(|(kind, times)| Row {
            event: kind.name(),
            is_harmless: kind.is_harmless(),
            times,
            with_agents: of(&with_agents, kind),
            without: of(&without, kind),
        })
        .collect()
}

impl Row {
    /// What the kernel alone has lost is told beside it: it may be the machine's fault, and is for people to judge.
    fn fault(&self) -> Option<String> {
        let (lost, without) = (self.with_agents.lost, self.without.lost);
        let may_be = match self.is_harmless {
            true => 0,
            // The agents hear of it a little after the kernel, but not seconds after.
            false => 2 * without + A_LITTLE * self.times as u64,
        };
        (lost > may_be).then(|| {
            let event = self.event;
            format!("{event}: {lost} packets lost; {without} without agents")
        })
    }
}

/// Of memory only the agent that nobody touched tells; pins are the same for all, and descriptors nearly.
fn leaks(vitals: &[(Vitals, Vitals)]) -> Vec<String> {
    let mut leaks = Vec::new();
    for (number, (first, last)) in (1..).zip(vitals) {
        if (first.pins, first.links) != (last.pins, last.links) {
            leaks.push(format!(
                "node{number}: {} pins and {} links have become {} and {}",
                first.pins, first.links, last.pins, last.links
            ));
        }
        if number == UNTOUCHED && last.resident_kib > first.resident_kib + SOME_MEMORY_KIB {
            leaks.push(format!(
                "node{number}: the agent's memory grew from {} to {} KiB",
                first.resident_kib, last.resident_kib
            ));
        }
        if last.descriptors > first.descriptors + SOME_DESCRIPTORS {
            leaks.push(format!(
                "node{number}: {} open descriptors have become {}",
                first.descriptors, last.descriptors
            ));
        }
    }
    leaks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(lost: &[u64]) -> Outcome {
        let accounts = lost.iter().map(|&lost| Account { sent: 100, lost });
        let lossy = lost.iter().enumerate().filter(|(_, lost)| **lost > 0);
        Outcome {
            losses: lossy
                .map(|(event, _)| (event, format!("flow {event}")))
                .collect(),
            accounts: accounts.collect(),
            ..Outcome::default()
        }
    }

    fn report(lost: [u64; 3], last: Vitals) -> Report {
        let first = Vitals {
            resident_kib: 10_000,
            descriptors: 20,
            pins: 12,
            links: 6,
        };
        Report::new(Seen {
            seed: 1,
            seconds: 10,
            happened: [Kind::Nothing, Kind::MacChanges, Kind::Kill]
                .map(|kind| Happened {
                    at_s: 0.0,
                    kind,
                    node: 1,
                })
                .to_vec(),
            with_agents: outcome(&lost),
            without: outcome(&[0; 3]),
            counted: Counted::default(),
            backlog_drops: 0,
            vitals: vec![(first, first), (first, first), (first, last)],
            faults: Vec::new(),
        })
    }

    const SOUND: Vitals = Vitals {
        resident_kib: 11_000,
        descriptors: 21,
        pins: 12,
        links: 6,
    };

    #[test]
    fn a_loss_by_a_harmless_event_is_a_fault() {
        assert!(report([0, 0, 0], SOUND).is_clean());
        let faults = report([0, 0, 2], SOUND).faults;
        assert_eq!(faults, ["agent killed: 2 packets lost; 0 without agents"]);
        assert!(!report([1, 0, 0], SOUND).is_clean());
        assert!(report([0, 5, 0], SOUND).is_clean());
        let faults = report([0, A_LITTLE + 1, 0], SOUND).faults;
        let expected = "node's MAC changes: 1001 packets lost; 0 without agents";
        assert_eq!(faults, [expected]);
        let text = report([0, 5, 2], SOUND).to_string();
        assert!(text.contains("(the kernel, too)"), "{text}");
        assert!(text.contains("lost with agents, event 2, agent killed: flow 2"));
        assert!(!text.contains("flow 1"), "nor named: {text}");
    }

    #[test]
    fn leaks_are_faults() {
        let leaking = [
            Vitals {
                resident_kib: 20_000,
                ..SOUND
            },
            Vitals {
                descriptors: 40,
                ..SOUND
            },
            Vitals { pins: 13, ..SOUND },
            Vitals { links: 5, ..SOUND },
        ];
        for last in leaking {
            let report = report([0; 3], last);
            assert_eq!(report.faults.len(), 1, "{report}");
            assert!(report.to_string().ends_with("not as it should be"));
        }
    }
}
