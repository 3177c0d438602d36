//! What is measured, and its unit.

use serde::{Deserialize, Serialize};

/// One figure of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// Payload that arrived, in 10^9 bits per second.
    Throughput,
    /// CPU time of the whole machine, softirq included, in milliseconds for 10^9 bits of payload that arrived.
    CpuPerGigabit,
    /// Half of the responses came within this many microseconds.
    LatencyP50,
    /// 99 % of the responses came within this many microseconds.
    LatencyP99,
    /// 99.9 % of the responses came within this many microseconds.
    LatencyP999,
    /// Responses per second, one request at a time.
    RequestRate,
    /// Connections made, used and closed, per second.
    ConnectionRate,
    /// CPU time of the whole machine, in seconds for 10^6 connections.
    CpuPerMillionConnections,
    /// Packets that arrived, per second.
    PacketRate,
    /// CPU time of the whole machine, softirq included, in seconds for 10^6 packets that arrived.
    CpuPerMillionPackets,
    /// The share of the packets that did not arrive, 0 to 1.
    Loss,
}

impl Figure {
    /// What it is, for the head of a table.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::CpuPerGigabit => "CPU per gigabit",
            Self::LatencyP50 => "latency, p50",
            Self::LatencyP99 => "latency, p99",
            Self::LatencyP999 => "latency, p99.9",
            Self::RequestRate => "requests",
            Self::ConnectionRate => "connections",
            Self::CpuPerMillionConnections => "CPU per million connections",
            Self::PacketRate => "packets received",
            Self::CpuPerMillionPackets => "CPU per million packets",
            Self::Loss => "loss",
        }
    }

    /// Its unit as it is shown.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Throughput => "Gb/s",
            Self::CpuPerGigabit => "ms",
            Self::LatencyP50 | Self::LatencyP99 | Self::LatencyP999 => "µs",
            Self::RequestRate | Self::ConnectionRate | Self::PacketRate => "k/s",
            Self::CpuPerMillionConnections | Self::CpuPerMillionPackets => "s",
            Self::Loss => "%",
        }
    }

    /// A value as it is shown, without its unit.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::RequestRate | Self::ConnectionRate | Self::PacketRate => {
                format!("{:.1}", value / 1e3)
            }
            Self::CpuPerMillionConnections | Self::CpuPerMillionPackets => format!("{value:.2}"),
            Self::Loss => format!("{:.2}", value * 100.0),
            _ => format!("{value:.1}"),
        }
    }

    /// Whether more of it is better; otherwise less is.
    pub const fn more_is_better(self) -> bool {
        matches!(
            self,
            Self::Throughput | Self::RequestRate | Self::ConnectionRate | Self::PacketRate
        )
    }

    /// Whether ratios of it mean something: of a loss, which is mostly 0, they don't.
    pub const fn has_ratios(self) -> bool {
        !matches!(self, Self::Loss)
    }
}
