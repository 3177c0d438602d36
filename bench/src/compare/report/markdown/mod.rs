//! `report.md`.

mod datapath;
mod overview;
mod table;
mod trials;

use super::aims;
use super::plots::Plot;
use super::show;
use crate::compare::results::{Results, Setup};
use table::Table;

/// The whole report; `plots` are shown where they belong, by links relative to it.
pub(super) fn report(results: &Results, plots: &[Plot]) -> String {
    let sections = [
        head(&results.setup),
        what_takes_part(results),
        failures(results),
        stolen(results),
        reading(),
        aims_table(results),
        overview::sections(results),
        show_plots(plots),
        trials::sections(results),
        datapath::sections(results),
    ];
    let sections: Vec<_> = sections.into_iter().filter(|it| !it.is_empty()).collect();
    sections.join("\n")
}

fn head(setup: &Setup) -> String {
    let mut table = Table::new(2, ["", ""]);
    let tools = setup.tools.iter();
    let tools: Vec<_> = tools
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    let gib = setup.memory as f64 / f64::from(1 << 30);
    for (title, text) in [
        ("began (UTC)", setup.began.clone()),
        ("commit", setup.commit.clone()),
        (
            "machine",
            format!("{}, {} CPUs, {gib:.1} GiB", setup.processor, setup.cpus),
        ),
        ("kernel", setup.kernel.clone()),
        ("versions", tools.join(", ")),
        (
            "busy before it began",
            format!("{:.2} CPUs", setup.busy_before),
        ),
        ("rounds", rounds(setup)),
        ("seconds of each trial", setup.seconds.to_string()),
        ("seed of the order", setup.seed.to_string()),
        (
            "CPU of the senders and of softirq",
            setup.client_cpu.to_string(),
        ),
        ("CPU of the receivers", setup.server_cpu.to_string()),
        (
            "Services of the proxied contenders",
            setup.services.to_string(),
        ),
        (
            "fixed rate",
            format!("{:.0} k/s", f64::from(setup.paced_rate) / 1e3),
        ),
    ] {
        table.row([title, or_hole(&text)]);
    }
    format!(
        "# Comparison\n\n{table}\n\
         The lab is veth pairs on {} CPUs, not NICs. Both nodes, both pods and the switch between them share these \
         CPUs, and a packet never leaves memory. So figures of one run may be compared with each other, and with no \
         other machine's. It cannot tell what a NIC adds or takes off: line rate, interrupts and their coalescing, \
         segmentation in hardware, RSS over many queues, NUMA, the latency of a real wire. Nor can it tell how many \
         cores scale.\n",
        setup.cpus
    )
}

/// How many, and those of tests with fewer: `27; 9 of udp-64`.
fn rounds(setup: &Setup) -> String {
    let fewer = setup.rounds_of.iter();
    let fewer = fewer.map(|(test, rounds)| format!("; {rounds} of {test}"));
    format!("{}{}", setup.rounds, fewer.collect::<String>())
}

fn or_hole(text: &str) -> &str {
    if text.is_empty() { show::HOLE } else { text }
}

fn what_takes_part(results: &Results) -> String {
    let mut table = Table::new(2, ["contender", "what it is"]);
    for contender in results.contenders() {
        table.row([contender.name(), contender.description()]);
    }
    format!("## What takes part\n\n{}", or_not_measured(&table))
}

fn failures(results: &Results) -> String {
    let failed = listed(
        "What could not be measured",
        "These turns failed twice, and are missing below.",
        &results.failures,
    );
    let repeated = listed(
        "What was measured at the second attempt",
        "These turns failed at first, and were run again at once.",
        &results.repeated,
    );
    failed + &repeated
}

/// Less of the machine's CPU time, stolen during a turn, is not worth telling.
const WORTH_TELLING: f64 = 0.01;

/// Where others took CPU time of this machine.
fn stolen(results: &Results) -> String {
    let mut table = Table::new(1, ["test", "turns", "with more than 1 % stolen", "most, %"]);
    for trial in results.trials() {
        let name = trial.name();
        let turns = results.samples.iter().filter(|it| it.trial == name);
        let stolen: Vec<_> = turns.map(|it| it.stolen).collect();
        let most = stolen.iter().copied().fold(0.0, f64::max);
        if most > WORTH_TELLING {
            let those = stolen.iter().filter(|it| **it > WORTH_TELLING).count();
            table.row([
                name,
                stolen.len().to_string(),
                those.to_string(),
                format!("{:.1}", most * 100.0),
            ]);
        }
    }
    if table.is_empty() {
        return String::new();
    }
    format!(
        "## Stolen time\n\nThe machine is a virtual one, and its hypervisor gave CPU time of it to others meanwhile \
         (steal in `/proc/stat`). It is no part of the CPU time below, but whatever was under way stood still.\n\n{table}"
    )
}

/// A section that lists these; nothing, where there are none.
fn listed(heading: &str, meaning: &str, these: &[String]) -> String {
    if these.is_empty() {
        return String::new();
    }
    let lines: String = these.iter().map(|it| format!("- {it}\n")).collect();
    format!("## {heading}\n\n{meaning}\n\n{lines}\n")
}

fn reading() -> String {
    "## How to read it\n\n\
     - Each contender ran each trial once a round, in an order that chance drew, and in the next round in \
     the reverse of it (A B B A); then it was drawn anew.\n\
     - A figure is the median of its rounds; in brackets stands the median's 95 % interval, by bootstrap: the rounds \
     are drawn again and again with replacement, and 95 % of the medians lie within it. Where rounds are few it is \
     widened to the exact interval, by the binomial distribution.\n\
     - A ratio is taken round by round, so that what disturbed a whole round falls out; then its median and interval \
     are taken likewise. Of throughput and rates more is better, of latency and CPU time less is.\n\
     - CPU time is the whole machine's, softirq and both ends included: what passed, on all CPUs, less what was idle or \
     stolen.\n\
     - Noise is the ratio of two like contenders, routes-twin by routes (an A/A test). A ratio is called better or \
     worse, and set in bold, only where its interval lies outside of the noise's, and half a percent or more from 1. \
     Where the noise's own interval is wider than ±15 % or lies off 1 by more than 5 %, the figure is too noisy to tell, \
     and nothing is judged; so too with fewer than five rounds.\n\
     - Where the two like contenders cannot run a trial, to a Service or to the outside, the noise of the same traffic from pod to \
     pod stands in.\n"
        .to_owned()
}

fn aims_table(results: &Results) -> String {
    let mut table = Table::new(
        2,
        [
            "what",
            "ratio of",
            "aim",
            "measured",
            "interval",
            "noise",
            "judged",
            "whole interval",
        ],
    );
    for outcome in aims::outcomes(results) {
        let [median, interval] = match outcome.ratio {
            Some(ratio) => [show::ratio(ratio.median), show::ratio_interval(ratio)],
            None => [show::HOLE.to_owned(), show::HOLE.to_owned()],
        };
        let whole = match outcome.whole_interval() {
            Some(true) => "meets it",
            Some(false) => "doesn't",
            None => show::HOLE,
        };
        table.row([
            outcome.what.to_owned(),
            outcome.pair,
            outcome.limit.to_string(),
            median,
            interval,
            outcome
                .noise
                .map_or(show::HOLE.to_owned(), show::ratio_estimate),
            format!("**{}**", outcome.judgement),
            whole.to_owned(),
        ]);
    }
    format!(
        "## Aims\n\nAn aim is met where the median meets it; the last column tells whether all of its interval does. \
         Traffic to a Service or to the outside is translated and never takes the fast path: of it is asked only that it \
         goes no slower.\n\n{table}"
    )
}

fn show_plots(plots: &[Plot]) -> String {
    let images = plots.iter();
    let images: Vec<_> = images
        .map(|it| format!("![{}]({})\n", it.title, it.file))
        .collect();
    if images.is_empty() {
        return String::new();
    }
    format!("## Plots\n\n{}", images.join("\n"))
}

/// The table, or that there is none.
fn or_not_measured(table: &Table) -> String {
    if table.is_empty() {
        "not measured\n".to_owned()
    } else {
        table.to_string()
    }
}

#[cfg(test)]
mod testing {
    /// Cells of the row that begins with `first`, below this heading.
    pub fn row(text: &str, heading: &str, first: &str) -> Vec<String> {
        let below = text
            .split_once(&format!("{heading}\n"))
            .unwrap_or_else(|| panic!("no heading {heading:?} in\n{text}"))
            .1;
        let start = format!("| {first} |");
        let row = below.lines().find(|it| it.starts_with(&start));
        let row = row.unwrap_or_else(|| panic!("no row {first:?} in\n{below}"));
        let cells = row.trim_matches('|').split(" | ");
        cells.map(|it| it.trim().to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::row;
    use super::*;
    use crate::compare::contender::Contender;
    use crate::compare::report::testing;

    #[test]
    fn the_head_tells_where_and_how() {
        let text = head(&testing::results().setup);
        let cell = |first| row(&text, "# Comparison", first)[1].clone();
        assert_eq!(cell("machine"), "Example CPU, 2 CPUs, 8.0 GiB");
        assert_eq!(cell("commit"), "0123456789ab");
        assert_eq!(cell("busy before it began"), "0.04 CPUs");
        assert_eq!(cell("fixed rate"), "20 k/s");
        assert!(text.contains("veth pairs on 2 CPUs, not NICs"));
        let mut setup = testing::results().setup;
        setup.rounds_of.insert("udp-64".to_owned(), 3);
        assert_eq!(
            row(&head(&setup), "# Comparison", "rounds")[1],
            "7; 3 of udp-64"
        );
        let unknown = head(&Setup::default());
        assert_eq!(row(&unknown, "# Comparison", "commit")[1], "-");
    }

    #[test]
    fn what_failed_is_told_and_nothing_else() {
        let mut results = testing::results();
        assert!(!report(&results, &[]).contains("could not be measured"));
        results.failures.push("round 2, vxlan: no answer".into());
        assert!(report(&results, &[]).contains("- round 2, vxlan: no answer\n"));
    }

    #[test]
    fn stolen_time_is_told_where_there_was_much() {
        let mut results = testing::results();
        results.samples[0].stolen = 0.009;
        assert!(!report(&results, &[]).contains("Stolen time"));
        let of_stream = |it: &&mut crate::compare::results::Sample| it.trial == "tcp-stream";
        let streams = results.samples.iter_mut().filter(of_stream);
        for (sample, stolen) in streams.zip([0.02, 0.034]) {
            sample.stolen = stolen;
        }
        let text = stolen(&results);
        assert_eq!(
            row(&text, "## Stolen time", "tcp-stream")[2..],
            ["2", "3.4"]
        );
        assert!(!text.contains("| tcp-requests |"));
    }

    #[test]
    fn all_who_took_part_are_described() {
        let mut results = testing::results();
        testing::remove(&mut results, Contender::Vxlan);
        let text = what_takes_part(&results);
        for contender in Contender::ALL {
            let is_there = text.contains(contender.description());
            assert_eq!(is_there, contender != Contender::Vxlan, "{contender}");
        }
    }

    #[test]
    fn aims_stand_with_what_was_measured() {
        let mut results = testing::results();
        let text = aims_table(&results);
        let met = row(&text, "## Aims", "TCP stream");
        assert_eq!(met[1..4], ["underpass / node", "≥ 0.97", "0.98"]);
        assert!(
            met[5].starts_with("1.00 (") && met[6] == "**met**",
            "{met:?}"
        );
        let missed = row(&text, "## Aims", "UDP 64 B");
        assert_eq!(missed[6..], ["**missed**", "doesn't"]);
        let growth = row(&text, "## Aims", "from_pod, fast packet");
        assert_eq!(growth[1..4], ["5000 routes / 10 routes", "≤ 1.10", "1.04"]);
        assert_eq!(growth[5..], ["-", "**met**", "meets it"]);
        testing::remove(&mut results, Contender::Node);
        let unknown = row(&aims_table(&results), "## Aims", "TCP stream");
        assert_eq!(unknown[3..5], ["-", "-"]);
        assert_eq!(unknown[6..], ["**not measured**", "-"]);
    }
}
