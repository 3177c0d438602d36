//! `underpass trace`: what would become of a packet, step by step, and why.
//!
//! [`walk()`] is a pure function over a [`Snapshot`]: the decisions of the programs, in their order.
//! `live` takes the snapshot: of the pinned maps, and of the kernel's own lookups.

mod confirmation;
mod live;
mod question;
mod road;
mod show;
mod snapshot;
#[cfg(test)]
mod tests;
mod walk;
mod ways;
mod words;

use std::net::IpAddr;

use anyhow::Result;
use serde::Serialize;

use super::print;
use crate::cli::TraceArgs;
use crate::datapath::Pins;

pub use question::{Question, Way};
pub use show::show;
pub use snapshot::{KernelWay, Snapshot};
pub use walk::walk;

/// A packet's way.
#[derive(Debug, Serialize)]
pub struct Trace {
    /// This node's name.
    pub node: String,
    /// The packet that was asked about.
    pub packet: PacketReport,
    /// The entrance that it comes in by: `from_pod` or `from_wire`.
    pub entrance: &'static str,
    /// The exit where the kernel would be watched: `to_wire` or `to_pod`.
    pub exit: &'static str,
    /// What was looked at, in the order of the programs, and then of the kernel.
    pub steps: Vec<Step>,
    /// Where it goes.
    pub result: Road,
}

/// The packet, as far as it was told.
#[derive(Debug, Serialize)]
pub struct PacketReport {
    /// Its source; absent: anybody's.
    pub from: Option<IpAddr>,
    /// Its destination.
    pub to: Option<IpAddr>,
    /// `tcp`, `udp` or `icmp`; absent: any.
    pub protocol: Option<&'static str>,
    /// Source port; absent: any. For ICMP echo the identifier.
    pub from_port: Option<u16>,
    /// Destination port; likewise.
    pub to_port: Option<u16>,
}

/// One thing that was looked at.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// `programs`, `offload`, `pod_cidrs`, `pod`, `flow`, `confirmation`, `route` or `endpoint`,
    /// `way_out`, `kernel_route`, `neighbour`, `agreement`.
    pub step: &'static str,
    /// Where it was looked for.
    pub looked_at: String,
    /// What was found there.
    pub found: String,
    /// What follows of it.
    pub outcome: Outcome,
}

/// What follows of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The packet goes on.
    Ok,
    /// The packet is the kernel's, or never confirmed.
    Kernel,
    /// Nothing; but somebody should know.
    Note,
}

/// Where the packet goes.
#[derive(Debug, Serialize)]
pub struct Road {
    /// `fast` or `kernel`.
    pub road: &'static str,
    /// The verdict at the entrance; absent where no program of ours sees the packet.
    pub verdict: Option<&'static str>,
    /// What that verdict means.
    pub meaning: Option<&'static str>,
    /// Why it is so here.
    pub why: String,
    /// Of a packet left to the kernel: the verdict at the exit, should it come out untranslated; absent
    /// where it never gets there, or that cannot be told.
    pub exit_verdict: Option<&'static str>,
    /// What would make it fast; absent where it is.
    pub to_be_fast: Option<String>,
    /// Of a fast packet: where it leaves.
    pub way_out: Option<WayOutReport>,
    /// How many flows in the table match what was asked.
    pub flows: usize,
    /// How many of them go fast in this direction.
    pub fast_flows: usize,
}

/// Where a fast packet leaves.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct WayOutReport {
    /// The device's name.
    pub device: String,
    /// Its interface index.
    pub ifindex: u32,
    /// Destination MAC of the frame.
    pub dst_mac: String,
    /// Source MAC of the frame.
    pub src_mac: String,
    /// The node that it goes to, where it goes to one.
    pub peer: Option<String>,
}

/// Runs `underpass trace`.
///
/// # Errors
/// Where there is nothing, the maps cannot be read, or there can be no such packet.
pub async fn run(args: &TraceArgs) -> Result<()> {
    let (question, snapshot) = live::read(args, &Pins::new(&args.read.pins.bpffs)).await?;
    print::print(args.read.output, &walk(&question, &snapshot), show)
}
