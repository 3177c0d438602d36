//! One trial, run between two hosts.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::figure::Figure;
use super::offloads::OffloadsOff;
use super::trial::{Traffic, Trial};
use crate::lab::Host;
pub use crate::measure::tools::Ports;
use crate::measure::tools::iperf3::{self, Packets};
use crate::measure::tools::{Ends, Measured, requests, wrk};

/// How long requests are sent for each second of a trial: many short runs tell more than few long ones.
const REQUESTS: Duration = Duration::from_millis(300);
/// The interface of a lab's pods, nodes and outside hosts.
const INTERFACE: &str = "eth0";

/// The two ends of a trial.
#[derive(Clone, Copy, Debug)]
pub struct Course<'a> {
    /// Who sends or asks.
    pub client: &'a Host,
    /// Who receives or answers.
    pub server: &'a Host,
    /// What the client addresses: the server's own address, or a Service's.
    pub address: IpAddr,
    /// The port that the client addresses, and the port where the server listens; TCP and UDP.
    pub ports: Ports,
    /// GRO stays on where segmentation offload is off: XDP hands nothing to pods without.
    pub keeps_gro: bool,
}

/// How long and how fast, and on which CPUs.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Seconds of a trial: the tools know whole ones only, 1 is the least.
    pub seconds: u64,
    /// Packets per second of the paced trials.
    pub paced_rate: u32,
    /// CPU of the sending end.
    pub client_cpu: usize,
    /// CPU of the receiving end.
    pub server_cpu: usize,
}

/// What came out of a trial.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// All figures of [`Trial::figures`].
    pub figures: BTreeMap<Figure, f64>,
    /// Where latencies were measured: percentile (0 to 100) and microseconds, ascending.
    pub latencies: Vec<(f64, f64)>,
    /// The share of the machine's CPU time that others took meanwhile: 0 to 1.
    pub stolen: f64,
}

impl Outcome {
    /// With so much stolen CPU time.
    pub(super) fn stolen(self, stolen: f64) -> Self {
        Self { stolen, ..self }
    }
}

impl<const N: usize> From<[(Figure, f64); N]> for Outcome {
    fn from(figures: [(Figure, f64); N]) -> Self {
        Self {
            figures: figures.into(),
            latencies: Vec::new(),
            stolen: 0.0,
        }
    }
}

/// Runs one trial.
///
/// # Errors
/// When a tool isn't there or fails, nothing arrives, or too many connections fail.
pub fn run(trial: Trial, course: &Course, pace: &Pace) -> Result<Outcome> {
    let mut off = Vec::new();
    if !trial.offload {
        for host in [course.client, course.server] {
            off.push(OffloadsOff::switch(host, INTERFACE, course.keeps_gro)?);
        }
    }
    let seconds = pace.seconds.max(1);
    let ends = course.ends(pace);
    let outcome = match trial.traffic {
        Traffic::Streams(count) => streams(&ends, count, seconds),
        Traffic::Requests => requests(&course.ends(&pace.on_one_cpu()), seconds),
        Traffic::Connections => connections(&ends, seconds),
        Traffic::Flood(size) => iperf3::packets(&ends, size, None, seconds).map(flood),
        Traffic::Paced(size) => {
            let rate = pace.paced_rate;
            iperf3::packets(&ends, size, Some(rate), seconds).and_then(|it| paced(it, rate))
        }
    };
    // What stays off would be a handicap in all trials to come.
    let restored: Result<()> = off.into_iter().try_for_each(OffloadsOff::restore);
    let outcome = outcome.and_then(|outcome| restored.map(|()| outcome));
    outcome.with_context(|| {
        let (client, server) = (course.client.name(), course.server.name());
        format!("{trial} from {client} to {server} at {}", course.address)
    })
}

impl Pace {
    /// Both ends on one CPU. On two, the time that an idle CPU takes to wake up hides the roads.
    fn on_one_cpu(self) -> Self {
        Self {
            client_cpu: self.server_cpu,
            ..self
        }
    }
}

impl<'a> Course<'a> {
    fn ends(&self, pace: &Pace) -> Ends<'a> {
        Ends {
            client: self.client,
            server: self.server,
            address: self.address,
            ports: self.ports,
            client_cpu: pace.client_cpu,
            server_cpu: pace.server_cpu,
        }
    }
}

fn streams(ends: &Ends, count: u8, seconds: u64) -> Result<Outcome> {
    let measured = iperf3::streams(ends, count, seconds)?;
    let gigabits = measured.value.bytes as f64 * 8.0 / 1e9;
    Ok(Outcome::from([
        (Figure::Throughput, gigabits / measured.value.seconds),
        (Figure::CpuPerGigabit, measured.cpu_seconds * 1e3 / gigabits),
    ])
    .stolen(measured.stolen))
}

fn requests(ends: &Ends, seconds: u64) -> Result<Outcome> {
    let duration = REQUESTS * u32::try_from(seconds)?;
    let measured = requests::round_trips(ends, duration)?;
    let (trips, stolen) = (measured.value, measured.stolen);
    let within = |percentile| {
        let found = trips.within(percentile);
        found.with_context(|| format!("there is no percentile {percentile}"))
    };
    let rate = trips.transactions as f64 / trips.seconds;
    let figures = [
        (Figure::LatencyP50, within(50.0)?),
        (Figure::LatencyP99, within(99.0)?),
        (Figure::LatencyP999, within(99.9)?),
        (Figure::RequestRate, rate),
    ];
    Ok(Outcome {
        latencies: trips.latencies,
        stolen,
        ..figures.into()
    })
}

fn connections(ends: &Ends, seconds: u64) -> Result<Outcome> {
    let measured = wrk::connections(ends, seconds)?;
    let millions = measured.value.completed as f64 / 1e6;
    Ok(Outcome::from([
        (Figure::ConnectionRate, measured.value.per_second),
        (
            Figure::CpuPerMillionConnections,
            measured.cpu_seconds / millions,
        ),
    ])
    .stolen(measured.stolen))
}

fn flood(measured: Measured<Packets>) -> Outcome {
    let packets = measured.value;
    Outcome::from([
        (
            Figure::PacketRate,
            packets.received as f64 / packets.seconds,
        ),
        (Figure::CpuPerMillionPackets, cpu_per_million(measured)),
    ])
    .stolen(measured.stolen)
}

/// The share of its rate that a paced sender must have kept, for its figures to be compared with others'.
const PACE_KEPT: f64 = 0.95;

fn paced(measured: Measured<Packets>, rate: u32) -> Result<Outcome> {
    let packets = measured.value;
    let sent = packets.sent as f64 / packets.seconds;
    ensure!(
        sent >= PACE_KEPT * f64::from(rate),
        "the sender came to {sent:.0} of {rate} packets a second: give --paced-rate less"
    );
    Ok(Outcome::from([
        (Figure::CpuPerMillionPackets, cpu_per_million(measured)),
        (
            Figure::PacketRate,
            packets.received as f64 / packets.seconds,
        ),
        (Figure::Loss, packets.loss()),
    ])
    .stolen(measured.stolen))
}

/// Seconds of CPU time for a million packets that arrived.
fn cpu_per_million(measured: Measured<Packets>) -> f64 {
    measured.cpu_seconds * 1e6 / measured.value.received as f64
}
