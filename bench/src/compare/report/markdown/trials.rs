//! Each trial: figures with their intervals, ratios, and what may be said of them.

use super::table::Table;
use crate::compare::contender::Contender::{self, Routes, RoutesProxied, RoutesTwin, Wire};
use crate::compare::figure::Figure;
use crate::compare::report::show;
use crate::compare::results::{Ratio, Results};
use crate::compare::trial::Trial;
use crate::measure::statistics::Verdict;

/// What the others are measured by.
const BASES: [Contender; 3] = [Routes, RoutesProxied, Wire];

pub(super) fn sections(results: &Results) -> String {
    let trials: Vec<_> = results.trials();
    let sections = trials.into_iter().map(|trial| section(results, trial));
    let text = sections.collect::<Vec<_>>().join("\n");
    if text.is_empty() {
        return "## Trials\n\nnot measured\n".to_owned();
    }
    format!("## Trials\n\n{text}")
}

fn section(results: &Results, trial: Trial) -> String {
    let figures = trial.figures().iter();
    let tables = figures.map(|figure| table(results, trial, *figure));
    let tables: Vec<_> = tables.collect();
    format!(
        "### {}\n\n`{}`\n\n{}",
        trial.title(),
        trial.name(),
        tables.join("\n")
    )
}

/// One figure of all contenders.
fn table(results: &Results, trial: Trial, figure: Figure) -> String {
    // To a Service there are no plain routes and no wire: no column for them.
    let bases: Vec<_> = BASES
        .into_iter()
        .filter(|it| figure.has_ratios() && results.estimate(trial, *it, figure).is_some())
        .collect();
    let by = bases.iter().map(|it| format!("by {it}"));
    let header = ["contender".to_owned(), show::figure_and_unit(figure)];
    let mut table = Table::new(1, header.into_iter().chain(by));
    for contender in results.contenders() {
        if !contender.runs(trial) {
            continue;
        }
        let estimate = results.estimate(trial, contender, figure);
        let estimate = estimate.map_or(show::HOLE.to_owned(), |it| show::estimate(figure, it));
        let ratios = bases
            .iter()
            .map(|base| cell(results, trial, figure, [contender, *base]));
        let cells = [contender.name().to_owned(), estimate];
        table.row(cells.into_iter().chain(ratios));
    }
    format!("{table}{}", noise(results, trial, figure))
}

fn cell(results: &Results, trial: Trial, figure: Figure, pair: [Contender; 2]) -> String {
    let [these, those] = pair;
    if these == those {
        return "1".to_owned();
    }
    let Some(ratio) = results.ratio(trial, figure, these, those) else {
        return show::HOLE.to_owned();
    };
    if pair == [RoutesTwin, Routes] {
        return format!("{}, the noise", show::ratio_estimate(ratio.estimate));
    }
    judged(ratio)
}

/// A ratio and its verdict, in bold where it lies outside of the noise.
fn judged(ratio: Ratio) -> String {
    let Ratio { estimate, verdict } = ratio;
    let text = show::ratio_estimate(estimate);
    let word = show::verdict(verdict);
    match verdict {
        Verdict::Better | Verdict::Worse => format!("**{text} {word}**"),
        Verdict::WithinNoise => format!("{text} {word}"),
        Verdict::NotJudged => text,
    }
}

/// What the figures are judged by.
fn noise(results: &Results, trial: Trial, figure: Figure) -> String {
    if !figure.has_ratios() {
        return String::new();
    }
    let Some(noise) = results.noise(trial, figure) else {
        return "\nNoise: not measured; nothing is judged.\n".to_owned();
    };
    let noise = show::ratio_estimate(noise);
    let is_lent = !RoutesTwin.runs(trial) || results.estimate(trial, RoutesTwin, figure).is_none();
    let source = if is_lent {
        ", of the same traffic from pod to pod"
    } else {
        ""
    };
    let doubt = if results.is_too_noisy(trial, figure) {
        " **Too noisy to tell**: nothing is judged."
    } else {
        ""
    };
    format!("\nNoise, routes-twin by routes{source}: {noise}.{doubt}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::report::markdown::testing::row;
    use crate::compare::report::{testing, trial};
    use crate::compare::trial::{Target, Traffic};

    const STREAM: Trial = trial(Traffic::Streams(1), Target::Peer);
    const HEADING: &str = "### TCP, one stream, pod to pod";

    #[test]
    fn a_ratio_outside_of_the_noise_is_bold() {
        let text = section(&testing::results(), STREAM);
        let underpass = row(&text, HEADING, "underpass");
        assert!(underpass[1].starts_with("17.2 (17."), "{underpass:?}");
        assert!(underpass[2].starts_with("**1.22 (") && underpass[2].ends_with(") better**"));
        assert!(underpass[3].starts_with("**1.5") && underpass[4].ends_with(") worse**"));
        let twin = row(&text, HEADING, "routes-twin");
        assert!(twin[2].ends_with("), the noise") && !twin[2].contains('*'));
        assert_eq!(row(&text, HEADING, "routes")[2], "1");
    }

    #[test]
    fn to_a_service_only_proxied_ones_are_compared() {
        let text = section(
            &testing::results(),
            trial(Traffic::Streams(1), Target::Service),
        );
        assert!(text.contains("| contender | throughput, Gb/s | by routes-proxied |"));
        assert!(!text.contains("| wire |"));
        assert!(text.contains("of the same traffic from pod to pod: 1.00 ("));
    }

    #[test]
    fn too_much_noise_is_told_and_nothing_judged() {
        let mut results = testing::results();
        testing::make_noisy(&mut results, STREAM);
        let text = section(&results, STREAM);
        assert!(text.contains("Too noisy to tell"));
        assert!(!text.contains("better") && !text.contains("worse"));
        let quiet = section(&testing::results(), STREAM);
        assert!(!quiet.contains("Too noisy"));
    }

    #[test]
    fn one_who_fell_out_leaves_holes() {
        let mut results = testing::results();
        results
            .samples
            .retain(|it| it.contender != "vxlan" || it.trial != STREAM.name());
        let text = section(&results, STREAM);
        assert_eq!(row(&text, HEADING, "vxlan")[1..], ["-"; 4]);
    }

    #[test]
    fn a_loss_has_no_ratios() {
        let text = section(&testing::results(), trial(Traffic::Paced(64), Target::Peer));
        assert!(text.contains("| contender | loss, % |\n"));
    }
}
