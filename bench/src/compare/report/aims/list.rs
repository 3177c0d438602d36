//! The aims themselves, and how they are measured.

use std::fmt;

use super::Judgement;
use crate::compare::contender::Contender::{
    self, Node, Routes, RoutesProxied, Underpass, UnderpassAlways, UnderpassXdp, Vxlan,
};
use crate::compare::figure::Figure::{
    self, ConnectionRate, CpuPerGigabit, LatencyP50, PacketRate, Throughput,
};
use crate::compare::report::trial;
use crate::compare::results::{Cost, Datapath, Results};
use crate::compare::trial::Target::{self, Outside, Peer, Service, Transit};
use crate::compare::trial::Traffic::{self, Connections, Flood, Requests, Streams};
use crate::measure::statistics::{ENOUGH_ROUNDS, Estimate};

/// A limit for a ratio.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::compare::report) enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

/// What the ratio is of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Measure {
    /// A figure of a trial, the first contender by the second.
    Trial(Traffic, Target, Figure, [Contender; 2]),
    /// What a program takes for a packet of this case, at the first number of routes by at the second.
    Growth(&'static str, &'static str, [usize; 2]),
}

/// One aim.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Aim {
    /// The traffic, and what is measured of it.
    pub what: &'static str,
    pub measure: Measure,
    pub limit: Limit,
}

/// A figure of a trial, by name.
struct Subject(&'static str, Traffic, Target, Figure);

impl Subject {
    /// That the first contender by the second keeps within the limit.
    const fn aim(self, these: Contender, those: Contender, limit: Limit) -> Aim {
        let Self(what, traffic, target, figure) = self;
        Aim {
            what,
            measure: Measure::Trial(traffic, target, figure, [these, those]),
            limit,
        }
    }

    /// That it is no slower than without Underpass: no more is asked of traffic that can never be confirmed,
    /// because it is translated.
    const fn no_slower(self) -> Aim {
        let limit = Limit::AtLeast(0.97);
        if self.3.more_is_better() {
            self.aim(Underpass, RoutesProxied, limit)
        } else {
            self.aim(RoutesProxied, Underpass, limit)
        }
    }
}

const STREAM: Subject = Subject("TCP stream", Streams(1), Peer, Throughput);
const STREAM_CPU: Subject = Subject("CPU per gigabit", Streams(1), Peer, CpuPerGigabit);
const SMALL: Subject = Subject("UDP 64 B", Flood(64), Peer, PacketRate);
const LARGE: Subject = Subject("UDP 1,400 B", Flood(1400), Peer, PacketRate);
const REQUEST: Subject = Subject("request p50", Requests, Peer, LatencyP50);
const TRANSIT: Subject = Subject("transit, UDP 64 B", Flood(64), Transit, PacketRate);
const CONNECTION: Subject = Subject("connections", Connections, Peer, ConnectionRate);

/// All aims, in the order in which they are told.
pub(super) const AIMS: [Aim; 16] = {
    use Limit::{AtLeast, AtMost};
    [
        STREAM.aim(Underpass, Node, AtLeast(0.97)),
        STREAM.aim(Underpass, RoutesProxied, AtLeast(1.2)),
        SMALL.aim(Underpass, Routes, AtLeast(1.3)),
        SMALL.aim(Underpass, RoutesProxied, AtLeast(1.6)),
        REQUEST.aim(Underpass, Node, AtMost(1.05)),
        CONNECTION.aim(Underpass, RoutesProxied, AtLeast(1.0)),
        CONNECTION.aim(UnderpassAlways, RoutesProxied, AtLeast(1.25)),
        STREAM_CPU.aim(Underpass, RoutesProxied, AtMost(0.85)),
        LARGE.aim(Underpass, Vxlan, AtLeast(2.0)),
        Subject("Service, TCP stream", Streams(1), Service, Throughput).no_slower(),
        Subject("Service, UDP 64 B", Flood(64), Service, PacketRate).no_slower(),
        Subject("Service, request p50", Requests, Service, LatencyP50).no_slower(),
        Subject("outside, TCP stream", Streams(1), Outside, Throughput).no_slower(),
        Subject("outside, UDP 64 B", Flood(64), Outside, PacketRate).no_slower(),
        TRANSIT.aim(UnderpassXdp, Routes, AtLeast(2.0)),
        Aim {
            what: "from_pod, fast packet",
            measure: Measure::Growth("from_pod", "fast", [5000, 10]),
            limit: AtMost(1.10),
        },
    ]
};

impl Measure {
    pub fn ratio(&self, results: &Results) -> Option<Estimate> {
        match *self {
            Self::Trial(traffic, target, figure, [these, those]) => {
                let ratio = results.ratio(trial(traffic, target), figure, these, those);
                ratio.map(|it| it.estimate)
            }
            Self::Growth(program, case, [these, those]) => {
                let datapath = results.datapath.as_ref()?;
                let these = cost(datapath, program, case, these)?;
                let those = cost(datapath, program, case, those)?;
                growth(Estimate::of(these)?, Estimate::of(those)?)
            }
        }
    }

    pub fn noise(&self, results: &Results) -> Option<Estimate> {
        match *self {
            Self::Trial(traffic, target, figure, _) => {
                results.noise(trial(traffic, target), figure)
            }
            Self::Growth(..) => None,
        }
    }

    /// Why nothing may be said, though there is a ratio.
    pub fn doubt(&self, results: &Results) -> Option<Judgement> {
        let Self::Trial(traffic, target, figure, _) = *self else {
            return None;
        };
        let trial = trial(traffic, target);
        match results.noise(trial, figure) {
            None => Some(Judgement::NoiseUnknown),
            Some(noise) if noise.rounds < ENOUGH_ROUNDS => Some(Judgement::FewRounds),
            Some(_) => results
                .is_too_noisy(trial, figure)
                .then_some(Judgement::Noise),
        }
    }

    pub fn pair(&self) -> String {
        match self {
            Self::Trial(.., [these, those]) => format!("{these} / {those}"),
            Self::Growth(.., [these, those]) => format!("{these} routes / {those} routes"),
        }
    }
}

/// One by the other where the two were not measured side by side, so that no round of the one belongs to one of the
/// other: of the medians, and at the worst of the ends of their intervals.
fn growth(these: Estimate, those: Estimate) -> Option<Estimate> {
    let estimate = Estimate {
        median: these.median / those.median,
        interval: [
            these.interval[0] / those.interval[1],
            these.interval[1] / those.interval[0],
        ],
        rounds: these.rounds.min(those.rounds),
    };
    estimate.median.is_finite().then_some(estimate)
}

/// Nanoseconds a packet, one value a round.
fn cost<'a>(
    datapath: &'a Datapath,
    program: &str,
    case: &str,
    routes: usize,
) -> Option<&'a Vec<f64>> {
    let is_it =
        |it: &&Cost| (it.program.as_str(), it.case.as_str(), it.routes) == (program, case, routes);
    datapath.costs.iter().find(is_it).map(|it| &it.nanoseconds)
}

impl Limit {
    pub fn allows(self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(limit) => ratio >= limit,
            Self::AtMost(limit) => ratio <= limit,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::AtLeast(limit) => format!("≥ {limit:.2}"),
            Self::AtMost(limit) => format!("≤ {limit:.2}"),
        };
        f.pad(&text)
    }
}
