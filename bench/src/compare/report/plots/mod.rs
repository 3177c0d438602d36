//! The figures as pictures: SVG, 900 by 500.

mod axis;
mod bars;
mod canvas;
mod lines;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};

use self::axis::Axis;
use self::bars::{Bars, Row};
use self::lines::{Line, Lines};
use super::trial;
use crate::compare::contender::Contender;
use crate::compare::figure::Figure;
use crate::compare::results::Results;
use crate::compare::trial::{Target, Traffic, Trial};
use crate::measure::statistics::Estimate;

/// A picture.
pub(super) struct Plot {
    /// Its file's name.
    pub file: &'static str,
    pub title: &'static str,
    pub svg: String,
}

/// All for which there is at least one value.
pub(super) fn draw(results: &Results) -> Result<Vec<Plot>> {
    let stream = |target| trial(Traffic::Streams(1), target);
    let targets = [
        ("pod to pod", stream(Target::Peer)),
        ("pod to Service", stream(Target::Service)),
    ];
    let sizes = [64, 1400].map(|size| trial(Traffic::Flood(size), Target::Peer));
    let sizes = [("64 B", sizes[0]), ("1,400 B", sizes[1])];
    let in_transit = sizes.map(|(name, it)| {
        let target = Target::Transit;
        (name, Trial { target, ..it })
    });
    let plots = [
        bars(
            results,
            "throughput.svg",
            "Throughput of one TCP stream",
            Figure::Throughput,
            targets,
        ),
        bars(
            results,
            "cpu.svg",
            "CPU time of the whole machine per gigabit, one TCP stream",
            Figure::CpuPerGigabit,
            targets,
        ),
        bars(
            results,
            "packets.svg",
            "UDP packets received, one sender, pod to pod",
            Figure::PacketRate,
            sizes,
        ),
        bars(
            results,
            "transit.svg",
            "UDP packets in transit between two segments, on one CPU",
            Figure::PacketRate,
            in_transit,
        ),
        latency(results),
        datapath(results),
    ];
    plots.into_iter().filter_map(Result::transpose).collect()
}

/// A figure of two trials, a row for each contender.
fn bars(
    results: &Results,
    file: &'static str,
    title: &'static str,
    figure: Figure,
    series: [(&str, Trial); 2],
) -> Result<Option<Plot>> {
    let estimates = |it| series.map(|(_, trial)| results.estimate(trial, it, figure));
    let rows = results.contenders().into_iter().map(|it| Row {
        name: it.name(),
        bars: estimates(it),
    });
    let rows: Vec<_> = rows
        .filter(|it| it.bars.iter().any(Option::is_some))
        .collect();
    let Some(axis) = bars::axis(figure, &rows) else {
        return Ok(None);
    };
    let bars = Bars {
        figure,
        axis,
        series: series.map(|(name, _)| name),
        rows,
    };
    let rounds = bars.rows.iter().flat_map(|it| it.bars).flatten();
    let rounds = rounds.map(|it| it.rounds).collect();
    let caption = format!("{}; whiskers: 95 % interval", caption(results, &rounds));
    let svg = canvas::picture(title, &caption, |canvas| bars.draw(canvas));
    plot(file, title, svg)
}

/// Percentiles that are drawn: below the first nothing differs from it, above the last there are few samples.
const PERCENTILES: std::ops::RangeInclusive<f64> = 50.0..=99.9;

fn latency(results: &Results) -> Result<Option<Plot>> {
    let title = "Latency of TCP request and response, pod to pod";
    let requests = trial(Traffic::Requests, Target::Peer);
    let lines = Contender::ALL.into_iter().enumerate();
    let lines = lines.filter_map(|(style, contender)| {
        let points = percentiles(results, requests, contender);
        let name = contender.name().to_owned();
        (!points.is_empty()).then_some(Line {
            name,
            style,
            points,
        })
    });
    let lines: Vec<_> = lines.collect();
    let Some(axis) = Axis::log("latency, µs", lines::values(&lines)) else {
        return Ok(None);
    };
    let chart = Lines {
        x: Axis::percentiles("percentile of responses"),
        y: axis,
        lines,
    };
    let of = |it| results.estimate(requests, it, Figure::LatencyP50);
    let rounds = Contender::ALL.into_iter().filter_map(of);
    let rounds = rounds.map(|it| it.rounds).collect();
    let caption = caption(results, &rounds);
    let svg = canvas::picture(title, &caption, |canvas| chart.draw(canvas));
    plot("latency.svg", title, svg)
}

/// The median over the rounds, for each percentile.
fn percentiles(results: &Results, trial: Trial, contender: Contender) -> Vec<(f64, f64)> {
    // Keyed by thousandths of a percent: f64 has no order.
    let mut rounds = BTreeMap::<u32, Vec<f64>>::new();
    let name = trial.name();
    let of_it = |it: &&_| is_of(it, &name, contender);
    for sample in results.samples.iter().filter(of_it) {
        for (percentile, latency) in &sample.latencies {
            if PERCENTILES.contains(percentile) {
                let key = (percentile * 1e3).round() as u32;
                rounds.entry(key).or_default().push(*latency);
            }
        }
    }
    let median = |(key, values): (u32, Vec<f64>)| {
        Some((f64::from(key) / 1e3, Estimate::of(&values)?.median))
    };
    rounds.into_iter().filter_map(median).collect()
}

fn is_of(sample: &crate::compare::results::Sample, trial: &str, contender: Contender) -> bool {
    sample.trial == trial && sample.contender == contender.name()
}

fn datapath(results: &Results) -> Result<Option<Plot>> {
    let title = "Time of a program for a packet, over the number of routes";
    let costs = results.datapath.iter().flat_map(|it| &it.costs);
    let mut points = BTreeMap::<String, Vec<(f64, f64)>>::new();
    let mut counts = BTreeSet::new();
    for cost in costs {
        if let Some(estimate) = Estimate::of(&cost.nanoseconds) {
            let line = points.entry(format!("{}, {}", cost.program, cost.case));
            line.or_default()
                .push((cost.routes as f64, estimate.median));
            counts.insert(cost.routes);
        }
    }
    let lines = points
        .into_iter()
        .enumerate()
        .map(|(style, (name, mut points))| {
            points.sort_by(|one, other| one.0.total_cmp(&other.0));
            Line {
                name,
                style,
                points,
            }
        });
    let lines: Vec<_> = lines.collect();
    let axes = (
        Axis::log_at("routes in the trie", &counts),
        Axis::from_zero("nanoseconds a packet", lines::values(&lines)),
    );
    let (Some(x), Some(y)) = axes else {
        return Ok(None);
    };
    let chart = Lines { x, y, lines };
    let caption = format!(
        "BPF_PROG_TEST_RUN, {} CPUs, Linux {}; medians, an empty program's time subtracted",
        results.setup.cpus, results.setup.kernel
    );
    let svg = canvas::picture(title, &caption, |canvas| chart.draw(canvas));
    plot("datapath.svg", title, svg)
}

/// With how many rounds what is drawn has.
fn caption(results: &Results, rounds: &BTreeSet<usize>) -> String {
    let setup = &results.setup;
    let rounds = match (rounds.first(), rounds.last()) {
        (Some(few), Some(many)) if few != many => format!("{few} to {many} rounds"),
        (Some(all), _) => format!("{all} rounds"),
        (None, _) => "no rounds".to_owned(),
    };
    format!(
        "veth lab, {} CPUs, Linux {}; medians of {rounds}",
        setup.cpus, setup.kernel
    )
}

fn plot(file: &'static str, title: &'static str, svg: Result<String>) -> Result<Option<Plot>> {
    let svg = svg.with_context(|| format!("cannot draw {file}"))?;
    Ok(Some(Plot { file, title, svg }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::report::testing;

    /// Fails unless every element that is opened is closed, in order, and no text holds a bare `<` or `&`.
    fn assert_well_formed(svg: &str) {
        let mut open = Vec::new();
        let mut rest = svg;
        while let Some((text, after)) = rest.split_once('<') {
            assert!(!text.contains('>'), "a bare > in {text:?}");
            for entity in text.split('&').skip(1) {
                let name = entity.split_once(';').unwrap_or_default().0;
                assert!(
                    ["amp", "apos", "gt", "lt", "quot"].contains(&name),
                    "a bare & in {text:?}"
                );
            }
            let (tag, after) = after.split_once('>').expect("a tag without end");
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            let name = tag.split_whitespace().next().unwrap_or_default();
            match name.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop(), Some(name)),
                None if tag.ends_with('/') || name.starts_with(['?', '!']) => {}
                None => open.push(name),
            }
            rest = after;
        }
        assert!(open.is_empty(), "never closed: {open:?}");
    }

    fn plot<'a>(plots: &'a [Plot], file: &str) -> &'a str {
        let found = plots.iter().find(|it| it.file == file);
        &found.unwrap_or_else(|| panic!("no {file}")).svg
    }

    #[test]
    fn plots_are_well_formed_and_name_everybody() {
        let plots = draw(&testing::results()).unwrap();
        assert_eq!(plots.len(), 6);
        for it in &plots {
            assert_well_formed(&it.svg);
            assert!(it.svg.contains(it.title), "{}", it.file);
            assert!(it.svg.contains("2 CPUs"), "{}", it.file);
        }
        for (file, target) in [
            ("throughput.svg", Target::Peer),
            ("cpu.svg", Target::Peer),
            ("packets.svg", Target::Peer),
            ("latency.svg", Target::Peer),
            ("transit.svg", Target::Transit),
        ] {
            let svg = plot(&plots, file);
            assert!(svg.contains("veth lab, 2 CPUs"));
            let runs = |it: &Contender| it.runs(trial(Traffic::Flood(64), target));
            for contender in Contender::ALL.into_iter().filter(runs) {
                let lines = svg.lines().map(str::trim);
                let count = lines.filter(|it| *it == contender.name()).count();
                assert_eq!(count, 1, "{contender} in {file}");
            }
        }
        assert!(plot(&plots, "datapath.svg").contains("from_pod, miss"));
    }

    #[test]
    fn names_fit_beside_what_they_name() {
        let cut: Vec<_> = Contender::ALL
            .into_iter()
            .map(Contender::name)
            .filter(|name| !bars::fits(name) || !lines::fits(name))
            .collect();
        assert!(cut.is_empty(), "{cut:?}");
        assert!(lines::fits("from_wire_xdp, transit, always"));
        assert!(!bars::fits("a contender of whom nobody has heard"));
    }

    #[test]
    fn a_plot_tells_the_rounds_of_what_it_shows() {
        let mut results = testing::results();
        results.setup.rounds = 42;
        let of_requests = trial(Traffic::Requests, Target::Peer).name();
        results
            .samples
            .retain(|it| it.trial != of_requests || it.round <= 5);
        results
            .samples
            .retain(|it| it.trial != "udp-64" || it.contender != "node" || it.round <= 6);
        let plots = draw(&results).unwrap();
        assert!(plot(&plots, "throughput.svg").contains("medians of 7 rounds"));
        assert!(plot(&plots, "latency.svg").contains("medians of 5 rounds"));
        assert!(plot(&plots, "packets.svg").contains("medians of 6 to 7 rounds"));
    }

    #[test]
    fn what_has_no_bars_is_not_in_the_legend() {
        let mut results = testing::results();
        let plots = draw(&results).unwrap();
        assert!(plot(&plots, "packets.svg").contains("1,400 B"));
        testing::remove_trial(&mut results, trial(Traffic::Flood(1400), Target::Peer));
        let plots = draw(&results).unwrap();
        assert!(!plot(&plots, "packets.svg").contains("1,400 B"));
        assert!(plot(&plots, "packets.svg").contains("64 B"));
    }

    #[test]
    fn who_was_not_measured_is_not_drawn() {
        let mut results = testing::results();
        testing::remove(&mut results, Contender::Vxlan);
        results.samples.retain(|it| it.trial != "udp-64");
        results.datapath = None;
        let plots = draw(&results).unwrap();
        assert_eq!(plots.len(), 5);
        for it in &plots {
            assert!(!it.svg.contains("vxlan"), "{}", it.file);
        }
        let service = trial(Traffic::Streams(1), Target::Service);
        testing::remove_trial(&mut results, service);
        assert_well_formed(plot(&draw(&results).unwrap(), "throughput.svg"));
    }

    #[test]
    fn figures_that_are_all_zero_make_no_plot() {
        let mut results = testing::results();
        for sample in &mut results.samples {
            sample.figures.values_mut().for_each(|it| *it = 0.0);
            sample.latencies.clear();
        }
        results.datapath = None;
        assert_eq!(draw(&results).unwrap().len(), 0);
    }

    #[test]
    fn a_latency_is_the_median_of_the_rounds() {
        let mut results = testing::results();
        for sample in &mut results.samples {
            let latency = [10.0, 30.0, 20.0][sample.round % 3];
            sample.latencies = vec![(10.0, 1.0), (99.9, latency), (100.0, 900.0)];
        }
        results.samples.retain(|it| it.round <= 3);
        let trial = trial(Traffic::Requests, Target::Peer);
        let points = percentiles(&results, trial, Contender::Routes);
        assert_eq!(points, [(99.9, 20.0)]);
    }
}
