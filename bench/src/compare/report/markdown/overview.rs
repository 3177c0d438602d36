//! Tables with the main figures of all contenders, in the form that is known from k8s-bench-suite: bandwidth and CPU
//! from pod to pod and from pod to Service, and the memory of the agents.

use super::table::Table;
use crate::compare::figure::Figure::{
    self, ConnectionRate, CpuPerGigabit, LatencyP50, PacketRate, Throughput,
};
use crate::compare::report::{show, trial};
use crate::compare::results::Results;
use crate::compare::trial::Target::{self, Outside, Peer, Service, Transit};
use crate::compare::trial::Traffic::{self, Connections, Flood, Requests, Streams};
use crate::compare::trial::Trial;
use crate::measure::statistics::Estimate;

/// A column: title, trial, figure.
type Column = (String, Trial, Figure);

/// What is shown of each target, where such a trial exists.
const COLUMNS: [(&str, Traffic, Figure); 8] = [
    ("TCP stream, Gb/s", Streams(1), Throughput),
    ("CPU, ms/Gb", Streams(1), CpuPerGigabit),
    ("TCP 8 streams, Gb/s", Streams(8), Throughput),
    ("CPU 8 streams, ms/Gb", Streams(8), CpuPerGigabit),
    ("UDP 64 B, k/s", Flood(64), PacketRate),
    ("UDP 1,400 B, k/s", Flood(1400), PacketRate),
    ("request p50, µs", Requests, LatencyP50),
    ("connections, k/s", Connections, ConnectionRate),
];

pub(super) fn sections(results: &Results) -> String {
    let tables = [
        section(results, "Pod to pod", of_target(Peer)),
        section(results, "Pod to Service", of_target(Service)),
        section(results, "Pod to outside", of_target(Outside)),
        section(
            results,
            "In transit between two segments",
            of_target(Transit),
        ),
        section(results, "Without segmentation offload", without_offload()),
    ];
    let text = format!("## Overview\n\nMedians.\n{}", tables.concat());
    text + &memory(results)
}

fn of_target(target: Target) -> Vec<Column> {
    let columns = COLUMNS
        .into_iter()
        .map(|(title, traffic, figure)| (title.to_owned(), trial(traffic, target), figure));
    columns
        .filter(|(_, trial, _)| Trial::ALL.contains(trial))
        .collect()
}

fn without_offload() -> Vec<Column> {
    let mut columns = Vec::new();
    for (target, to) in [(Peer, "pod"), (Service, "Service")] {
        for (title, traffic, figure) in COLUMNS {
            let trial = Trial {
                offload: false,
                ..trial(traffic, target)
            };
            if Trial::ALL.contains(&trial) {
                columns.push((format!("to {to}: {title}"), trial, figure));
            }
        }
    }
    columns
}

/// A table of the contenders that have at least one of these figures; nothing where none has.
fn section(results: &Results, heading: &str, columns: Vec<Column>) -> String {
    let titles = columns.iter().map(|(title, ..)| title.clone());
    let mut table = Table::new(1, [String::from("contender")].into_iter().chain(titles));
    for contender in results.contenders() {
        let estimates = columns.iter().map(|(_, trial, figure)| {
            Some((*figure, results.estimate(*trial, contender, *figure)?))
        });
        let estimates: Vec<_> = estimates.collect();
        if estimates.iter().any(Option::is_some) {
            let cell = |it: Option<(Figure, _)>| it.map_or(show::HOLE.to_owned(), median);
            let cells = estimates.into_iter().map(cell);
            table.row([contender.name().to_owned()].into_iter().chain(cells));
        }
    }
    if table.is_empty() {
        return String::new();
    }
    format!("\n### {heading}\n\n{table}")
}

fn median((figure, estimate): (Figure, Estimate)) -> String {
    figure.show(estimate.median)
}

fn memory(results: &Results) -> String {
    let mut table = Table::new(1, ["contender", "resident, MiB", "peak, MiB"]);
    for agent in &results.agents {
        let [resident, peak] = [agent.resident, agent.peak].map(show::mib);
        table.row([agent.contender.clone(), resident, peak]);
    }
    if table.is_empty() {
        return String::new();
    }
    format!(
        "\n### Memory of an agent\n\nAfter all trials, of the largest of a contender's agents. The others have none.\n\n{table}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::report::markdown::testing::row;
    use crate::compare::report::testing;

    #[test]
    fn each_target_has_its_table() {
        let text = sections(&testing::results());
        let routes = row(&text, "### Pod to pod", "routes");
        assert_eq!(routes[1..4], ["14.1", "81.0", "14.1"]);
        assert!(
            routes[5].starts_with("1") && routes[8] == "9.0",
            "{routes:?}"
        );
        let to_service = text.split_once("### Pod to Service").unwrap().1;
        let to_service = to_service.split_once("###").unwrap().0;
        assert!(to_service.contains("| underpass |") && !to_service.contains("| routes |"));
        let in_transit = row(
            &text,
            "### In transit between two segments",
            "underpass-xdp",
        );
        assert_eq!(in_transit.len(), 5);
        assert!(text.contains("### Pod to outside") && text.contains("to pod: TCP stream, Gb/s"));
        assert_eq!(
            row(&text, "### Memory of an agent", "underpass")[1..],
            ["14.0", "21.0"]
        );
    }

    #[test]
    fn what_was_not_run_leaves_a_hole_or_no_table() {
        let mut results = testing::results();
        for trial in Trial::ALL {
            if trial.target == Outside || trial.traffic == Requests {
                testing::remove_trial(&mut results, trial);
            }
        }
        results.agents.clear();
        let text = sections(&results);
        assert_eq!(row(&text, "### Pod to pod", "routes")[7], "-");
        assert!(!text.contains("Pod to outside") && !text.contains("Memory"));
    }
}
