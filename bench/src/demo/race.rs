//! Measuring roads in turns: A B B A, so that whatever the machine does besides falls on all alike.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};

use super::clusters::Clusters;
use crate::interrupt;
use crate::lab::{Host, Lab};
use crate::measure::cpu::{Account, on_one};
use crate::measure::statistics::Summary;
use crate::measure::{tcp_round_trips, tcp_stream, udp_packets};
use crate::screen::Progress;

/// A way from one place to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Road {
    /// Pod to pod over plain routes.
    Routes,
    /// Pod to pod in the other cluster.
    Other,
    /// Node to node, without pods, in the cluster with plain routes.
    Node,
}

/// A figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Metric {
    /// One TCP stream, in Gb/s.
    TcpStream,
    /// What the whole machine works for it, in milliseconds of CPU time per gigabit.
    CpuPerGigabit,
    /// TCP requests and responses, one at a time, per second.
    TcpRoundTrips,
    /// UDP packets of 64 bytes that arrive, per second.
    UdpPackets,
}

impl Metric {
    /// All, in the order in which they are told.
    pub const ALL: [Self; 4] = [
        Self::TcpStream,
        Self::CpuPerGigabit,
        Self::TcpRoundTrips,
        Self::UdpPackets,
    ];

    /// Its name in the report.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TcpStream => "tcp_stream",
            Self::CpuPerGigabit => "cpu_per_gigabit",
            Self::TcpRoundTrips => "tcp_request_response",
            Self::UdpPackets => "udp_packets",
        }
    }

    /// Its unit in the report.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::TcpStream => "Gb/s",
            Self::CpuPerGigabit => "ms/Gb",
            Self::TcpRoundTrips | Self::UdpPackets => "1/s",
        }
    }

    /// Its name and unit on the screen.
    pub const fn title(self) -> &'static str {
        match self {
            Self::TcpStream => "TCP stream, Gb/s",
            Self::CpuPerGigabit => "  CPU, ms per Gb",
            Self::TcpRoundTrips => "TCP requests, k/s",
            Self::UdpPackets => "UDP packets, k/s",
        }
    }

    /// Values with their name and unit, as in a sentence.
    pub fn phrase(self, values: &str) -> String {
        match self {
            Self::TcpStream => format!("TCP stream {values} Gb/s"),
            Self::CpuPerGigabit => format!("CPU for it {values} ms per Gb"),
            Self::TcpRoundTrips => format!("{values} thousand TCP requests/s"),
            Self::UdpPackets => format!("{values} thousand UDP packets/s"),
        }
    }

    /// Whether more of it is better; otherwise less is.
    pub const fn more_is_better(self) -> bool {
        !matches!(self, Self::CpuPerGigabit)
    }

    /// A value in the unit of the screen.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::TcpStream | Self::CpuPerGigabit => format!("{value:.1}"),
            Self::TcpRoundTrips | Self::UdpPackets => format!("{:.1}", value / 1000.0),
        }
    }
}

/// How often and how long to measure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub rounds: usize,
    stream: Duration,
    others: Duration,
}

impl Plan {
    /// Many short rounds: what disturbs the machine for a while then meets all roads alike, and the
    /// median tells more than that of a few long ones.
    pub const FULL: Self = Self {
        rounds: 11,
        stream: Duration::from_millis(500),
        others: Duration::from_millis(300),
    };
    /// To see that it works; proves nothing.
    pub const QUICK: Self = Self {
        rounds: 1,
        stream: Duration::from_millis(300),
        others: Duration::from_millis(200),
    };

    /// How long a race over so many roads takes, about.
    pub fn takes(self, roads: u32) -> Duration {
        // Each warms up before it counts, and connects.
        let round = (self.stream + 2 * self.others).mul_f64(1.1) + Duration::from_millis(100);
        round * roads * self.rounds as u32
    }
}

/// What is measured at once.
#[derive(Clone, Copy, Debug)]
enum Run {
    /// Its two ends have all CPUs.
    Stream,
    /// Both ends on one CPU. On two the time that an idle CPU takes to wake up hides the roads, and
    /// the scheduler's choice between one and two is all that is seen.
    RoundTrips,
    /// As `RoundTrips`.
    Packets,
}

/// Where a road begins and ends.
struct Course<'a> {
    road: Road,
    client: &'a Host,
    server: &'a Host,
    address: IpAddr,
}

impl<'a> Course<'a> {
    fn between_pods(road: Road, lab: &'a Lab) -> Self {
        let (client, server) = (lab.pod(1, 1), lab.pod(2, 1));
        Self {
            road,
            client,
            server,
            address: server.address(),
        }
    }

    fn between_nodes(lab: &'a Lab) -> Self {
        let (client, server) = (lab.node(1), lab.node(2));
        Self {
            road: Road::Node,
            client,
            server,
            address: server.address(),
        }
    }

    fn run(&self, run: Run, plan: Plan) -> Result<Vec<(Metric, f64)>> {
        let &Self {
            client,
            server,
            address,
            ..
        } = self;
        Ok(match run {
            Run::Stream => {
                let before = Account::read()?;
                let rate = tcp_stream(client, server, address, plan.stream)?.gigabits_per_second;
                let busy = Account::read()?.since(before).busy_cpus();
                vec![
                    (Metric::TcpStream, rate),
                    (Metric::CpuPerGigabit, busy / rate * 1000.0),
                ]
            }
            Run::RoundTrips => {
                let trips = on_one(|| tcp_round_trips(client, server, address, plan.others))?;
                vec![(Metric::TcpRoundTrips, trips.per_second)]
            }
            Run::Packets => {
                let packets = on_one(|| udp_packets(client, server, address, plan.others))?;
                vec![(Metric::UdpPackets, packets.received_per_second)]
            }
        })
    }
}

/// All figures of a race.
#[derive(Debug, Default)]
pub(super) struct Results(BTreeMap<(Metric, Road), Vec<f64>>);

impl Results {
    pub fn summary(&self, metric: Metric, road: Road) -> Result<Summary> {
        let values = self.0.get(&(metric, road)).cloned().unwrap_or_default();
        Summary::of(values).with_context(|| format!("{metric:?} over {road:?}"))
    }
}

/// The two clusters before the agents come: twins, so what they differ by is noise.
pub(super) fn twins(clusters: &Clusters, plan: Plan, progress: &Progress) -> Result<Results> {
    let courses = [
        Course::between_pods(Road::Routes, &clusters.routes),
        Course::between_pods(Road::Other, &clusters.underpass),
    ];
    race(&courses, plan, progress)
}

/// Plain routes, Underpass, and the raw network between the nodes.
pub(super) fn rivals(clusters: &Clusters, plan: Plan, progress: &Progress) -> Result<Results> {
    let courses = [
        Course::between_pods(Road::Routes, &clusters.routes),
        Course::between_pods(Road::Other, &clusters.underpass),
        Course::between_nodes(&clusters.routes),
    ];
    race(&courses, plan, progress)
}

fn race(courses: &[Course], plan: Plan, progress: &Progress) -> Result<Results> {
    for course in courses {
        // The first packets meet cold caches and unknown neighbours.
        course.run(Run::Stream, Plan::QUICK)?;
    }
    let mut results = Results::default();
    for round in 0..plan.rounds {
        let mut order: Vec<_> = courses.iter().collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for run in [Run::Stream, Run::RoundTrips, Run::Packets] {
            let what = match run {
                Run::Stream => "stream",
                Run::RoundTrips => "requests",
                Run::Packets => "packets",
            };
            progress.now(format!("round {} of {}, {what}", round + 1, plan.rounds));
            for course in &order {
                interrupt::check()?;
                for (metric, value) in course.run(run, plan)? {
                    let values = results.0.entry((metric, course.road)).or_default();
                    values.push(value);
                }
            }
        }
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::statistics::ENOUGH_ROUNDS;

    #[test]
    fn the_demo_measures_within_its_time() {
        let whole = Plan::FULL.takes(2) + Plan::FULL.takes(3);
        assert!(whole < Duration::from_secs(110), "{whole:?}");
        const { assert!(Plan::FULL.rounds >= ENOUGH_ROUNDS) };
    }
}
