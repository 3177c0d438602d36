//! What is printed at the end, 80 columns wide.

use std::fmt::Write;

use super::aims::{self, Outcome};
use super::{show, trial};
use crate::compare::contender::Contender::{self, Node, Routes, RoutesProxied, Underpass, Vxlan};
use crate::compare::figure::Figure::{
    self, ConnectionRate, CpuPerGigabit, LatencyP50, PacketRate, Throughput,
};
use crate::compare::results::Results;
use crate::compare::trial::{Target, Traffic, Trial};
use crate::measure::statistics::Verdict;

/// Whose medians are shown.
const COLUMNS: [Contender; 5] = [Routes, RoutesProxied, Vxlan, Underpass, Node];

/// The main trials: title with unit, traffic, figure.
const LINES: [(&str, Traffic, Figure); 6] = [
    ("TCP stream Gb/s", Traffic::Streams(1), Throughput),
    ("CPU ms per Gb", Traffic::Streams(1), CpuPerGigabit),
    ("UDP 64 B k/s", Traffic::Flood(64), PacketRate),
    ("UDP 1,400 B k/s", Traffic::Flood(1400), PacketRate),
    ("request p50 µs", Traffic::Requests, LatencyP50),
    ("connections k/s", Traffic::Connections, ConnectionRate),
];

/// The main figures and what became of the aims, for a terminal of 80 columns.
pub fn summary(results: &Results) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    _ = write_summary(results, &mut text);
    text
}

fn write_summary(results: &Results, out: &mut String) -> std::fmt::Result {
    let header = ["", "routes", "proxied", "vxlan", "underpass", "node"].map(str::to_owned);
    writeln!(out, "{}", row(header, ["ratio", "", ""].map(str::to_owned)))?;
    let trials = results.trials();
    for (heading, target) in [
        ("Pod to pod", Target::Peer),
        ("Pod to Service", Target::Service),
        ("Pod to outside", Target::Outside),
        ("In transit", Target::Transit),
    ] {
        let lines = LINES
            .iter()
            .map(|&(title, traffic, figure)| (title, trial(traffic, target), figure));
        let mut lines = lines
            .filter(|(_, trial, _)| trials.contains(trial))
            .peekable();
        if lines.peek().is_some() {
            writeln!(out, "{heading}")?;
        }
        for (title, trial, figure) in lines {
            writeln!(out, "{}", line(results, title, trial, figure))?;
        }
    }
    writeln!(out, "{}", notes(results))?;
    writeln!(out, "Aims")?;
    for outcome in aims::outcomes(results) {
        writeln!(out, "{}", aim_line(&outcome))?;
    }
    Ok(())
}

fn line(results: &Results, title: &str, trial: Trial, figure: Figure) -> String {
    let [routes, proxied, vxlan, underpass, node] = COLUMNS.map(|contender| {
        let estimate = results.estimate(trial, contender, figure);
        estimate.map_or(show::HOLE.to_owned(), |it| figure.show(it.median))
    });
    let ratio = match results.ratio(trial, figure, Underpass, RoutesProxied) {
        Some(ratio) => [
            show::ratio(ratio.estimate.median),
            show::ratio_interval(ratio.estimate),
            match ratio.verdict {
                Verdict::Better => "better",
                Verdict::Worse => "worse",
                Verdict::WithinNoise => "level",
                Verdict::NotJudged if results.is_too_noisy(trial, figure) => "noisy",
                Verdict::NotJudged => "",
            }
            .to_owned(),
        ],
        None => [show::HOLE, "", ""].map(str::to_owned),
    };
    let title = format!("  {title}");
    row([title, routes, proxied, vxlan, underpass, node], ratio)
}

/// A line of 80 columns.
fn row(medians: [String; 6], ratio: [String; 3]) -> String {
    let [title, routes, proxied, vxlan, underpass, node] = medians;
    let [ratio, interval, verdict] = ratio;
    let line = format!(
        "{title:<17}{routes:>7}{proxied:>8}{vxlan:>7}{underpass:>10}{node:>7}{ratio:>6} {interval:<10} {verdict}"
    );
    line.trim_end().to_owned()
}

fn notes(results: &Results) -> String {
    let setup = &results.setup;
    let up_to = match setup.rounds_of.is_empty() {
        true => "",
        false => "up to ",
    };
    format!(
        "Medians of {up_to}{} rounds; ratio: underpass by routes-proxied, round by round,\n\
         with its 95 % interval. Level: two like clusters differ as much; noisy: they\n\
         differ too much to tell. The wires are veth pairs on {} CPUs, not NICs.",
        setup.rounds, setup.cpus
    )
}

fn aim_line(outcome: &Outcome) -> String {
    let ratio = outcome.ratio;
    let ratio = ratio.map_or(show::HOLE.to_owned(), |it| show::ratio(it.median));
    let title = format!("{}, {}", outcome.what, outcome.pair);
    let Outcome {
        limit, judgement, ..
    } = outcome;
    format!("  {title:<48}{ratio:>5} {limit} {judgement}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::report::testing;

    fn assert_narrow(text: &str) {
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "too wide:\n{line}");
        }
    }

    fn line_of<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
        let line = text.lines().find(|it| it.trim_start().starts_with(start));
        let line = line.unwrap_or_else(|| panic!("no line {start:?} in\n{text}"));
        line.trim_start()[start.len()..]
            .split_whitespace()
            .collect()
    }

    #[test]
    fn a_summary_keeps_to_80_columns_and_names_the_figures() {
        let text = summary(&testing::results());
        assert_narrow(&text);
        let stream = line_of(&text, "TCP stream Gb/s");
        assert_eq!(stream[..5], ["14.1", "11.3", "8.5", "17.2", "17.6"]);
        assert_eq!(stream[5..7], ["1.53", "1.52-1.53"]);
        assert_eq!(stream[7], "better");
        let aim = line_of(&text, "UDP 64 B, underpass / routes ");
        assert_eq!(aim, ["1.22", "≥", "1.30", "missed"]);
    }

    #[test]
    fn a_summary_with_holes_and_large_figures_keeps_to_80_columns() {
        let mut results = testing::results();
        testing::remove(&mut results, Contender::Vxlan);
        testing::remove(&mut results, Contender::RoutesTwin);
        for sample in &mut results.samples {
            let factor = if sample.contender == "underpass" {
                30.0
            } else {
                5.0
            };
            sample.figures.values_mut().for_each(|it| *it *= factor);
        }
        let text = summary(&results);
        assert_narrow(&text);
        assert_eq!(line_of(&text, "TCP stream Gb/s")[2], "-");
        assert!(text.contains("noise unknown"));
    }

    #[test]
    fn what_was_not_run_has_no_line() {
        let mut results = testing::results();
        testing::keep_trials(&mut results, &[trial(Traffic::Requests, Target::Peer)]);
        let text = summary(&results);
        assert!(text.contains("Pod to pod\n  request p50"), "{text}");
        assert!(!text.contains("Pod to Service\n") && !text.contains("TCP stream Gb/s"));
    }

    #[test]
    fn noise_is_told() {
        let mut results = testing::results();
        testing::make_noisy(&mut results, trial(Traffic::Streams(1), Target::Peer));
        let text = summary(&results);
        assert_narrow(&text);
        assert_eq!(line_of(&text, "TCP stream Gb/s")[7], "noisy");
    }
}
