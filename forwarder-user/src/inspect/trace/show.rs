//! The trace for people.

use super::super::print::table;
use super::{Outcome, Road, Trace};

/// Steps, one a line, and the road.
pub fn show(trace: &Trace) -> String {
    let rows = trace.steps.iter().map(|step| {
        [
            outcome(step.outcome).to_owned(),
            step.step.replace('_', " "),
            step.looked_at.clone(),
            step.found.clone(),
        ]
    });
    format!(
        "{}: in by {}, out by {}, on {}\n\n{}\n{}",
        trace.packet.line(),
        trace.entrance,
        trace.exit,
        trace.node,
        table(["", "STEP", "LOOKED AT", "FOUND"], rows),
        road(&trace.result)
    )
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "ok",
        Outcome::Kernel => "kernel",
        Outcome::Note => "note",
    }
}

fn road(road: &Road) -> String {
    if let Some(way_out) = &road.way_out {
        let peer = way_out.peer.as_ref();
        return format!(
            "fast: redirected to {} (ifindex {}), dst MAC {}{}\n      {}\n",
            way_out.device,
            way_out.ifindex,
            way_out.dst_mac,
            peer.map_or_else(String::new, |peer| format!(", peer {peer}")),
            road.why
        );
    }
    let mut text = match (road.verdict, road.meaning) {
        (Some(verdict), Some(meaning)) => format!("kernel: verdict `{verdict}`: {meaning}\n"),
        _ => "kernel: no verdict, for no program of ours sees it\n".to_owned(),
    };
    if road.verdict.is_some() {
        text += &format!("        why: {}\n", road.why);
    }
    if let Some(verdict) = road.exit_verdict {
        text += &format!("        at the exit, untranslated: verdict `{verdict}`\n");
    }
    if let Some(remedy) = &road.to_be_fast {
        text += &format!("        to be fast: {remedy}\n");
    }
    text
}
