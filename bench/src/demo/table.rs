//! The table at the end.

use super::race::{Metric, Road};
use super::report::Measured;
use super::{comparison::Comparison, race::Results};
use crate::measure::statistics::{ENOUGH_ROUNDS, Summary, Verdict};
use crate::screen::Screen;

/// Both clusters over plain routes, in a few words: `twins` as [`race::twins`](super::race::twins)
/// measured them.
pub(super) fn twins(results: &Results) -> anyhow::Result<String> {
    let mut words = Vec::new();
    for metric in Metric::ALL {
        let show =
            |road| Ok::<_, anyhow::Error>(metric.show(results.summary(metric, road)?.median));
        let (one, other) = (show(Road::Routes)?, show(Road::Other)?);
        words.push(metric.phrase(&format!("{one} and {other}")));
    }
    Ok(words.join("; "))
}

/// Prints the figures and how to read them.
pub(super) fn print(screen: Screen, measured: &Measured) {
    screen.heading("Side by side");
    let header = ["", "routes", "underpass", "node", "ratio", "", "noise", ""];
    screen.line(&screen.dim(&row(header.map(str::to_owned))));
    for figure in &measured.figures {
        let (verdict, good) = match figure.verdict {
            Verdict::Better => ("better", Some(true)),
            Verdict::Worse => ("worse", Some(false)),
            Verdict::WithinNoise => ("level", None),
            Verdict::NotJudged => ("", None),
        };
        let line = row([
            figure.metric.title().to_owned(),
            figure.metric.show(figure.routes.median),
            figure.metric.show(figure.underpass.median),
            figure.metric.show(figure.node_to_node.median),
            format!("{:.2}", figure.ratio.median),
            format!("({})", spread(&figure.ratio)),
            spread(&figure.noise),
            verdict.to_owned(),
        ]);
        screen.line(&match good {
            Some(true) => screen.green(&line),
            Some(false) => screen.red(&line),
            None => line,
        });
    }
    screen.line("");
    screen.note(&notes(measured));
}

/// A line of 80 columns.
fn row(cells: [String; 8]) -> String {
    let [
        title,
        routes,
        underpass,
        node,
        ratio,
        spread,
        noise,
        verdict,
    ] = cells;
    format!(
        "{title:<17}{routes:>8}{underpass:>10}{node:>9}{ratio:>6} {spread:<11} {noise:<9}  {verdict}"
    )
}

fn spread(ratio: &Summary) -> String {
    let [lower, upper] = ratio.middle_half;
    format!("{lower:.2}-{upper:.2}")
}

fn notes(measured: &Measured) -> String {
    let Measured {
        cpus,
        kernel,
        wires,
        rounds,
        figures,
    } = measured;
    let stream = figures.iter().find(|it| it.metric == Metric::TcpStream);
    let to_node = stream.map_or_else(String::new, |stream: &Comparison| {
        let ratio = &stream.ratio_to_node;
        format!(
            " Of its TCP stream Underpass reaches {:.2} ({}).",
            ratio.median,
            spread(ratio)
        )
    });
    let judged = if *rounds < ENOUGH_ROUNDS {
        "With so few rounds nothing is called better or worse."
    } else {
        "Better or worse is what lies outside of it."
    };
    format!(
        "ratio: underpass by routes, in turns, {rounds} x each: median (middle half).\n\
         noise: the same of two like clusters, both with plain routes. {judged}\n\
         node: node to node without pods, the raw network.{to_node}\n\
         The wires are {wires} on this machine ({cpus} CPUs, Linux {kernel}), not network cards: \
         compare figures of one run only. Requests and UDP packets have one CPU for both ends, so \
         that they tell what a packet costs."
    )
}
