//! The trace for people.

use super::super::print::fold;
use super::{Outcome, Road, Step, Trace};

/// Columns of an outcome, with the blanks after it.
const OUTCOME: usize = "kernel  ".len();
/// What was found is so much further in.
const FOUND: &str = "  ";
/// What stands before the lines below the last answer, and before those that go on with one of them.
const BELOW: &str = "        ";
const GOING_ON: &str = "          ";

/// Steps, and the road; no line is wider than the screen.
pub fn show(trace: &Trace) -> String {
    let head = format!(
        "{}: in by {}, out by {}, on {}",
        trace.packet.line(),
        trace.entrance,
        trace.exit,
        trace.node
    );
    let names = trace.steps.iter().map(|step| step.step.chars().count());
    let wide = names.max().unwrap_or_default() + 2;
    let steps = trace.steps.iter().map(|step| row(step, wide));
    format!(
        "{}\n\n{}{}\n{}",
        fold(&head, "  "),
        title(wide),
        steps.collect::<String>(),
        road(&trace.result)
    )
}

fn title(wide: usize) -> String {
    format!(
        "{:OUTCOME$}{:wide$}LOOKED AT, AND BELOW IT WHAT WAS FOUND\n",
        "", "STEP"
    )
}

/// Outcome, name, what was looked at, and below that what was found.
fn row(step: &Step, wide: usize) -> String {
    let name = step.step.replace('_', " ");
    let beside = " ".repeat(OUTCOME + wide);
    let looked_at = fold(&step.looked_at, &beside);
    let beside = beside + FOUND;
    let found = fold(&step.found, &beside);
    format!(
        "{:OUTCOME$}{name:wide$}{looked_at}\n{beside}{found}\n",
        outcome(step.outcome)
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
        let way_out = format!(
            "redirected to {} (ifindex {}), dst MAC {}{}",
            way_out.device,
            way_out.ifindex,
            way_out.dst_mac,
            peer.map_or_else(String::new, |peer| format!(", peer {peer}")),
        );
        return format!("fast:   {}\n{}", fold(&way_out, BELOW), below(&road.why));
    }
    let kernel = match (road.verdict, road.meaning) {
        (Some(verdict), Some(meaning)) => format!("verdict `{verdict}`: {meaning}"),
        _ => "no verdict, for no program of ours sees it".to_owned(),
    };
    let mut text = format!("kernel: {}\n", fold(&kernel, BELOW));
    if road.verdict.is_some() {
        text += &below(&format!("why: {}", road.why));
    }
    if let Some(verdict) = road.exit_verdict {
        let exit = format!("at the exit, untranslated: verdict `{verdict}`");
        text += &below(&exit);
    }
    if let Some(remedy) = &road.to_be_fast {
        text += &below(&format!("to be fast: {remedy}"));
    }
    text
}

fn below(text: &str) -> String {
    format!("{BELOW}{}\n", fold(text, GOING_ON))
}
