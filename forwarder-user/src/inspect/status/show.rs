//! The screen of `underpass status`.

use std::fmt::Write as _;

use underpass_common::verdict::Verdict;

use super::super::print::{grouped, table};
use super::super::{peers, pods};
use super::{Status, VerdictReport, is_entrance};
use crate::clock::unix_now;

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
    writeln!(screen, "nodes    {}", freshness(status))?;
    for shortage in &status.neighbour_limits {
        writeln!(screen, "room     {shortage}")?;
    }
    Ok(())
}

/// From where, and how long ago.
fn freshness(status: &Status) -> String {
    let (source, read) = match status.nodes_source {
        "kubernetes" => ("Kubernetes API, ", "heard"),
        _ => ("", "read"),
    };
    let when = match status.nodes_read_unix_s {
        0 => format!("not {read} yet"),
        when => format!("{read} {} ago", ago(when)),
    };
    match &status.nodes_error {
        Some(error) => format!("ERROR, {when}: {error}"),
        None if status.nodes_stale => format!("STALE: {source}{when}"),
        None => format!("{source}{when}"),
    }
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
    let seconds = unix_now().saturating_sub(unix_s);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
