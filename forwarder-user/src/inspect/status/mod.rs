//! `underpass status`: one screen that answers "does it work?".

mod rates;
mod show;
#[cfg(test)]
pub(super) mod tests;
mod warnings;

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use underpass_common::agent::{Agent, Ingress, NodesSource};
use underpass_common::settings::Settings;
use underpass_common::verdict::{Count, Hook, Verdict};

use super::paint::Paint;
use super::peers::{self, PeerReport};
use super::pods::{self, PodReport};
use super::print::{self, interface};
use super::{check, room};
use crate::cli::StatusArgs;
use crate::clock::unix_now;
use crate::datapath::Pins;
use crate::datapath::attach::Mechanism;
use crate::plan::pod_cidrs_of;

pub use rates::Rates;
pub(super) use rates::since;
pub use show::show;
pub(super) use show::{agent, bits, percent, reason, seconds, uplinks};
pub use warnings::Warning;

/// The API sends a bookmark about once a minute, and each watch is asked to end before this.
const STALE_AFTER_S: u64 = 300;

/// The whole state.
#[derive(Debug, Serialize)]
pub struct Status {
    /// This node's name.
    pub node: String,
    /// True while an agent runs; the fast path goes on without.
    pub agent_running: bool,
    /// The newest agent's version, without a suffix; absent where it was one that did not tell.
    pub agent_version: Option<String>,
    /// The kernel's release, as `uname -r` shows it.
    pub kernel: String,
    /// How programs are attached here: `tcx` or `clsact`.
    pub attached_by: &'static str,
    /// When the newest agent started, in seconds since 1970.
    pub agent_started_unix_s: u64,
    /// Where the nodes come from: `file` or `kubernetes`; `unknown` where the map holds no number of ours.
    pub nodes_source: &'static str,
    /// When the nodes were last read without an error, or the Kubernetes API was last heard, in seconds
    /// since 1970; 0: never.
    pub nodes_read_unix_s: u64,
    /// True where the Kubernetes API has said nothing for five minutes: changes may have been missed.
    pub nodes_stale: bool,
    /// What is wrong with the nodes' source.
    pub nodes_error: Option<String>,
    /// One line for each of the kernel's neighbour tables that has too little room for the peers.
    pub neighbour_limits: Vec<String>,
    /// The main uplink's name.
    pub uplink: Option<String>,
    /// All uplinks by name, the main one first; those besides it as far as programs are attached.
    pub uplinks: Vec<String>,
    /// True where what other nodes' pods send one another by this node may go fast.
    pub transit: bool,
    /// `off`, `confirmed` or `always`; `unknown` where the map holds no number of ours.
    pub offload: &'static str,
    /// Who looks first at what comes in by the uplinks: `tc`, `xdp` or `xdp_generic`; `unknown` likewise.
    pub ingress: &'static str,
    /// Why XDP is not there, though it was asked for. TC does its work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xdp_error: Option<String>,
    /// `observe` or `manage`; `unknown` likewise.
    pub routes: &'static str,
    /// Which packets the programs trace (`--trace-packets`).
    pub trace_packets: Option<String>,
    /// This node's own podCIDRs.
    pub pod_cidrs: Vec<String>,
    /// Version of the maps' layout.
    pub layout_version: u32,
    /// How often routes or endpoints have changed.
    pub generation: u32,
    /// How often confirmations have become doubtful.
    pub epoch: u32,
    /// Packets and bytes past the kernel and by it.
    pub traffic: Traffic,
    /// What went by between two readings; absent where there was one (see `--interval`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rates: Option<Rates>,
    /// What somebody should look at, the gravest first.
    pub warnings: Vec<Warning>,
    /// The other nodes.
    pub peers: Vec<PeerReport>,
    /// This node's pods.
    pub pods: Vec<PodReport>,
    /// Every count that is not zero.
    pub verdicts: Vec<VerdictReport>,
}

/// What the entrances have seen of this node's pods.
#[derive(Debug, Default, Serialize)]
pub struct Traffic {
    /// Packets redirected past the kernel.
    pub fast_packets: u64,
    /// Their bytes.
    pub fast_bytes: u64,
    /// Pod packets left to the kernel. What does not concern pods of other nodes is not counted.
    pub kernel_packets: u64,
    /// Their bytes.
    pub kernel_bytes: u64,
    /// `fast_packets` of all; absent while there are none.
    pub fast_share: Option<f64>,
}

/// One count of the map `verdicts`.
#[derive(Debug, Serialize)]
pub struct VerdictReport {
    /// `from_pod`, `to_wire`, `from_wire`, `to_pod` or `from_wire_xdp`.
    pub hook: &'static str,
    /// The verdict's name.
    pub verdict: &'static str,
    /// Packets; a segment train is one.
    pub packets: u64,
    /// Bytes, with Ethernet headers.
    pub bytes: u64,
    /// Packets per second between two readings; absent where there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets_per_s: Option<f64>,
    /// Bytes per second, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_s: Option<f64>,
}

/// Runs `underpass status`.
///
/// # Errors
/// Where there is nothing, or the maps cannot be read.
pub fn run(args: &StatusArgs) -> Result<()> {
    let pins = Pins::new(&args.read.pins.bpffs);
    let status = match args.pause() {
        Some(pause) => read_twice(&pins, pause)?,
        None => read(&pins)?,
    };
    let paint = Paint::of_stdout();
    print::print(args.read.output, &status, |status| show(status, paint))
}

/// Reads everything.
///
/// # Errors
/// Where there is nothing, or the maps cannot be read.
pub fn read(pins: &Pins) -> Result<Status> {
    let maps = super::open(pins)?;
    let settings = maps.settings()?;
    let (peers, pods) = (peers::read(&maps)?, pods::read(&maps)?);
    let agent = maps.agent()?;
    let uplinks = super::uplinks(pins, &agent)?;
    let mut status = Status {
        agent_running: pins.agent_runs(),
        kernel: check::release(),
        attached_by: match Mechanism::of_this_kernel() {
            Mechanism::Tcx => "tcx",
            Mechanism::Clsact => "clsact",
        },
        trace_packets: pins.packet_trace().read()?,
        neighbour_limits: room::Known::of(&peers, pods.len()).shortages(),
        peers,
        pods,
        uplinks: uplinks.into_iter().map(interface).collect(),
        ..report(&settings, &agent, maps.verdicts()?)
    };
    status.warnings = warnings::warnings(&status, warnings::Settings::read());
    Ok(status)
}

/// As [`read`], with what has gone by in so long a time.
///
/// # Errors
/// As [`read`].
pub fn read_twice(pins: &Pins, pause: Duration) -> Result<Status> {
    let before = verdicts(super::open(pins)?.verdicts()?);
    let began = Instant::now();
    sleep(pause);
    let mut status = read(pins)?;
    rates::since(&mut status, &before, began.elapsed());
    Ok(status)
}

/// What settings, record and counts tell; the rest is empty.
pub(super) fn report(
    settings: &Settings,
    agent: &Agent,
    counts: Vec<(Hook, Verdict, Count)>,
) -> Status {
    let verdicts = verdicts(counts);
    let error = print::text(&agent.nodes_error);
    let uplink = (agent.uplink_ifindex != 0).then(|| interface(agent.uplink_ifindex));
    let xdp_error = print::text(&agent.xdp_error);
    Status {
        node: print::text(&agent.node_name),
        agent_running: false,
        agent_version: (agent.version != [0; 3])
            .then(|| agent.version.map(|n| n.to_string()).join(".")),
        kernel: String::new(),
        attached_by: "",
        agent_started_unix_s: agent.started_unix_s,
        nodes_source: NodesSource::ALL
            .iter()
            .find(|source| **source as u8 == agent.nodes_source)
            .map_or("unknown", |source| source.name()),
        nodes_read_unix_s: agent.nodes_read_unix_s,
        nodes_stale: is_stale(agent, unix_now()),
        nodes_error: (!error.is_empty()).then_some(error),
        neighbour_limits: Vec::new(),
        uplinks: uplink.iter().cloned().collect(),
        uplink,
        transit: settings.has_transit(),
        offload: match settings.offload {
            0 => "off",
            1 => "confirmed",
            2 => "always",
            _ => "unknown",
        },
        ingress: Ingress::from_number(agent.ingress).map_or("unknown", Ingress::name),
        xdp_error: (!xdp_error.is_empty()).then_some(xdp_error),
        routes: match agent.manages_routes {
            0 => "observe",
            1 => "manage",
            _ => "unknown",
        },
        trace_packets: None,
        pod_cidrs: pod_cidrs_of(settings)
            .iter()
            .map(ToString::to_string)
            .collect(),
        layout_version: settings.layout_version,
        generation: settings.generation,
        epoch: settings.epoch,
        traffic: traffic(&verdicts),
        rates: None,
        warnings: Vec::new(),
        peers: Vec::new(),
        pods: Vec::new(),
        verdicts,
    }
}

/// A file says nothing between its changes; the API does.
fn is_stale(agent: &Agent, now_unix_s: u64) -> bool {
    let heard = agent.nodes_read_unix_s;
    agent.nodes_source == NodesSource::Kubernetes as u8
        && heard != 0
        && now_unix_s.saturating_sub(heard) > STALE_AFTER_S
}

fn verdicts(counts: Vec<(Hook, Verdict, Count)>) -> Vec<VerdictReport> {
    counts
        .into_iter()
        .filter(|(_, _, count)| count.packets != 0)
        .map(|(hook, verdict, count)| VerdictReport {
            hook: hook.name(),
            verdict: verdict.name(),
            packets: count.packets,
            bytes: count.bytes,
            packets_per_s: None,
            bytes_per_s: None,
        })
        .collect()
}

/// Counted where packets come in, which is once for each, and of pods' traffic with other nodes.
fn is_pod_traffic(count: &VerdictReport) -> bool {
    let mut entrances = Hook::ALL.iter().filter(|hook| hook.is_entrance());
    entrances.any(|hook| hook.name() == count.hook) && concerns_pods(count)
}

/// Of pods' traffic with other nodes, at whatever hook.
pub(super) fn concerns_pods(count: &VerdictReport) -> bool {
    let beside = [
        Verdict::NotPodTraffic.name(),
        Verdict::NotIp.name(),
        Verdict::NotForUs.name(),
    ];
    !beside.contains(&count.verdict)
}

/// What stands in a map may be anything, and must not keep the rest from being shown.
fn add(sum: &mut u64, count: u64) {
    *sum = sum.saturating_add(count);
}

/// Counts of the entrances, which see each packet once; without what is no pod traffic at all.
fn traffic(verdicts: &[VerdictReport]) -> Traffic {
    let mut traffic = Traffic::default();
    for count in verdicts.iter().filter(|count| is_pod_traffic(count)) {
        if count.verdict == Verdict::Fast.name() {
            add(&mut traffic.fast_packets, count.packets);
            add(&mut traffic.fast_bytes, count.bytes);
        } else {
            add(&mut traffic.kernel_packets, count.packets);
            add(&mut traffic.kernel_bytes, count.bytes);
        }
    }
    let all = traffic.fast_packets.saturating_add(traffic.kernel_packets);
    traffic.fast_share = (all > 0).then(|| traffic.fast_packets as f64 / all as f64);
    traffic
}
