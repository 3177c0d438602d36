//! `underpass status`: one screen that answers "does it work?".

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde::Serialize;
use underpass_common::agent::Agent;
use underpass_common::settings::Settings;
use underpass_common::verdict::{Count, Hook, Verdict};

use super::peers::{self, PeerReport};
use super::pods::{self, PodReport};
use super::print::{self, grouped, interface, table};
use crate::cli::ReadArgs;
use crate::datapath::Pins;
use crate::plan::pod_cidrs_of;

/// The whole state.
#[derive(Debug, Serialize)]
pub struct Status {
    /// This node's name.
    pub node: String,
    /// True while an agent runs; the fast path goes on without.
    pub agent_running: bool,
    /// When the newest agent started, in seconds since 1970.
    pub agent_started_unix_s: u64,
    /// When the nodes were last read without an error, in seconds since 1970; 0: never.
    pub nodes_read_unix_s: u64,
    /// What is wrong with the nodes' source.
    pub nodes_error: Option<String>,
    /// The uplink's name.
    pub uplink: Option<String>,
    /// `off`, `confirmed` or `always`; `unknown` where the map holds no number of ours.
    pub offload: &'static str,
    /// `observe` or `manage`; `unknown` likewise.
    pub routes: &'static str,
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
    /// `from_pod`, `to_wire`, `from_wire` or `to_pod`.
    pub hook: &'static str,
    /// The verdict's name.
    pub verdict: &'static str,
    /// Packets; a segment train is one.
    pub packets: u64,
    /// Bytes, with Ethernet headers.
    pub bytes: u64,
}

/// Runs `underpass status`.
///
/// # Errors
/// Where there is nothing, or the maps cannot be read.
pub fn run(args: &ReadArgs) -> Result<()> {
    print::print(args.output, &read(&Pins::new(&args.pins.bpffs))?, show)
}

/// Reads everything.
///
/// # Errors
/// Where there is nothing, or the maps cannot be read.
pub fn read(pins: &Pins) -> Result<Status> {
    let maps = super::open(pins)?;
    let settings = maps.settings()?;
    Ok(Status {
        agent_running: pins.agent_runs(),
        peers: peers::read(&maps)?,
        pods: pods::read(&maps)?,
        ..report(&settings, &maps.agent()?, maps.verdicts()?)
    })
}

/// What settings, record and counts tell; the rest is empty.
pub(super) fn report(
    settings: &Settings,
    agent: &Agent,
    counts: Vec<(Hook, Verdict, Count)>,
) -> Status {
    let verdicts = verdicts(counts);
    let error = print::text(&agent.nodes_error);
    Status {
        node: print::text(&agent.node_name),
        agent_running: false,
        agent_started_unix_s: agent.started_unix_s,
        nodes_read_unix_s: agent.nodes_read_unix_s,
        nodes_error: (!error.is_empty()).then_some(error),
        uplink: (agent.uplink_ifindex != 0).then(|| interface(agent.uplink_ifindex)),
        offload: match settings.offload {
            0 => "off",
            1 => "confirmed",
            2 => "always",
            _ => "unknown",
        },
        routes: match agent.manages_routes {
            0 => "observe",
            1 => "manage",
            _ => "unknown",
        },
        pod_cidrs: pod_cidrs_of(settings)
            .iter()
            .map(ToString::to_string)
            .collect(),
        layout_version: settings.layout_version,
        generation: settings.generation,
        epoch: settings.epoch,
        traffic: traffic(&verdicts),
        peers: Vec::new(),
        pods: Vec::new(),
        verdicts,
    }
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
        })
        .collect()
}

fn is_entrance(hook: &str) -> bool {
    Hook::ALL
        .iter()
        .any(|one| one.is_entrance() && one.name() == hook)
}

/// What stands in a map may be anything, and must not keep the rest from being shown.
fn add(sum: &mut u64, count: u64) {
    *sum = sum.saturating_add(count);
}

/// Counts of the entrances, which see each packet once; without what is no pod traffic at all.
fn traffic(verdicts: &[VerdictReport]) -> Traffic {
    let beside = [
        Verdict::NotPodTraffic.name(),
        Verdict::NotIp.name(),
        Verdict::NotForUs.name(),
    ];
    let mut traffic = Traffic::default();
    for count in verdicts {
        if !is_entrance(count.hook) || beside.contains(&count.verdict) {
            continue;
        }
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

/// The screen for people.
pub fn show(status: &Status) -> String {
    let mut screen = String::new();
    // Writing to a String cannot fail.
    let _ = header(status, &mut screen);
    let _ = packets(status, &mut screen);
    let _ = write!(screen, "\n{}", peers::show(&status.peers));
    let _ = write!(screen, "\n{}", pods::show(&status.pods));
    screen
}

fn header(status: &Status, screen: &mut String) -> std::fmt::Result {
    let agent = match status.agent_running {
        true => format!("running for {}", ago(status.agent_started_unix_s)),
        false => "NOT RUNNING: what it set up goes on, changes are not followed".into(),
    };
    writeln!(screen, "node     {}", status.node)?;
    writeln!(screen, "agent    {agent}")?;
    writeln!(
        screen,
        "uplink   {}",
        status.uplink.as_deref().unwrap_or("NONE FOUND")
    )?;
    writeln!(screen, "offload  {}", status.offload)?;
    writeln!(screen, "routes   {}", status.routes)?;
    writeln!(screen, "pods in  {}", status.pod_cidrs.join(" "))?;
    let nodes = match (&status.nodes_error, status.nodes_read_unix_s) {
        (Some(error), _) => format!("ERROR: {error}"),
        (None, 0) => "not read yet".into(),
        (None, when) => format!("read {} ago", ago(when)),
    };
    writeln!(screen, "nodes    {nodes}")
}

fn packets(status: &Status, screen: &mut String) -> std::fmt::Result {
    let traffic = &status.traffic;
    let Some(share) = traffic.fast_share else {
        return writeln!(screen, "packets  none yet");
    };
    writeln!(
        screen,
        "packets  {:.2} % fast ({} fast, {} by the kernel)",
        share * 100.0,
        grouped(traffic.fast_packets),
        grouped(traffic.kernel_packets)
    )?;
    // Where packets come in; what the exits see of the same packets is for `-o json`.
    let is_reason =
        |count: &&VerdictReport| is_entrance(count.hook) && count.verdict != Verdict::Fast.name();
    let mut reasons: Vec<_> = status.verdicts.iter().filter(is_reason).collect();
    reasons.sort_by_key(|count| std::cmp::Reverse(count.packets));
    let rows = reasons.iter().map(|count| {
        let reason = Verdict::ALL
            .iter()
            .find(|verdict| verdict.name() == count.verdict);
        [
            count.hook.to_owned(),
            grouped(count.packets),
            reason
                .map_or("", |verdict| verdict.description().trim())
                .to_owned(),
        ]
    });
    write!(
        screen,
        "\n{}",
        table(["AT", "PACKETS", "NOT FAST BECAUSE"], rows)
    )
}

fn ago(unix_s: u64) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |passed| passed.as_secs());
    let seconds = now.saturating_sub(unix_s);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
