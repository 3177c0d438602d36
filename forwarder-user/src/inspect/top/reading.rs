//! What the maps held at one moment, and what has gone by since an earlier one. Pure.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::time::Instant;

use underpass_common::flow::{Flow, FlowKey};
use underpass_common::settings::Settings;
use underpass_common::verdict::{Hook, Verdict};

use super::super::status::{self, Status, VerdictReport};
use super::flows::{self, Tally};
use crate::datapath::maps::Fill;
use crate::datapath::only_agent::Told;

/// What the maps held.
#[derive(Debug)]
pub(in crate::inspect) struct Reading {
    /// When the counts were read.
    pub at: Instant,
    /// All that `underpass status` tells.
    pub status: Status,
    /// What the agent tells of itself; `None`: it does not, or not here.
    pub agent: Option<Told>,
    /// The flows of each peer.
    pub peers: Vec<Tally>,
    /// The flows of each pod.
    pub pods: Vec<Tally>,
    /// How full the maps are.
    pub fills: Vec<Fill>,
}

impl Reading {
    /// Of a status whose counts were read at that time, and of the flows.
    pub fn new(
        at: Instant,
        status: Status,
        flows: &[(FlowKey<IpAddr>, Flow)],
        settings: &Settings,
        fills: Vec<Fill>,
    ) -> Self {
        Self {
            at,
            peers: flows::of_peers(flows, settings, &status.peers),
            pods: flows::of_pods(flows, settings, &status.pods),
            fills,
            agent: None,
            status,
        }
    }

    /// Fills in what has gone by since an earlier reading.
    pub fn since(&mut self, before: &Self) {
        let passed = self.at.saturating_duration_since(before.at);
        status::since(&mut self.status, &before.status.verdicts, passed);
    }

    /// What a hook says of pods' packets that are not fast, the most frequent now first.
    pub fn reasons(&self, hook: Hook) -> Vec<&VerdictReport> {
        let is_reason = |count: &&VerdictReport| {
            count.hook == hook.name()
                && count.verdict != Verdict::Fast.name()
                && status::concerns_pods(count)
        };
        let mut reasons: Vec<_> = self.status.verdicts.iter().filter(is_reason).collect();
        let now = |count: &VerdictReport| count.packets_per_s.unwrap_or_default();
        reasons.sort_by(|a, b| {
            now(b)
                .total_cmp(&now(a))
                .then_with(|| b.packets.cmp(&a.packets))
        });
        reasons
    }

    /// The maps that hold anything, the fullest first.
    pub fn filled(&self) -> Vec<Fill> {
        let mut fills = self.fills.clone();
        fills.retain(|fill| fill.entries > 0);
        fills.sort_by_key(|fill| Reverse(per_million(fill)));
        fills
    }
}

fn per_million(fill: &Fill) -> u64 {
    u64::from(fill.entries) * 1_000_000 / u64::from(fill.capacity.max(1))
}
