//! The BPF programs alone.

use std::collections::{BTreeMap, BTreeSet};

use super::table::Table;
use crate::compare::report::show;
use crate::compare::results::{Datapath, Results};
use crate::measure::statistics::Estimate;

pub(super) fn sections(results: &Results) -> String {
    let Some(datapath) = &results.datapath else {
        return "## The programs alone\n\nnot measured\n".to_owned();
    };
    format!(
        "## The programs alone\n\n\
         By `BPF_PROG_TEST_RUN`, {} flows in turns; an empty program's time is subtracted. Nanoseconds a packet over \
         the number of routes in the trie:\n\n{}\n{}",
        datapath.flows,
        costs(datapath),
        sizes(datapath)
    )
}

fn costs(datapath: &Datapath) -> Table {
    let counts: BTreeSet<_> = datapath.costs.iter().map(|it| it.routes).collect();
    let mut lines = BTreeMap::<_, BTreeMap<_, _>>::new();
    for cost in &datapath.costs {
        let line = lines.entry((&cost.program, &cost.case)).or_default();
        line.insert(cost.routes, nanoseconds(&cost.nanoseconds));
    }
    let titles = counts.iter().map(|it| format!("{it} routes"));
    let mut table = Table::new(
        1,
        [String::from("program, packets")].into_iter().chain(titles),
    );
    for ((program, case), line) in lines {
        let hole = show::HOLE.to_owned();
        let cells = counts
            .iter()
            .map(|it| line.get(it).unwrap_or(&hole).clone());
        table.row([format!("{program}, {case}")].into_iter().chain(cells));
    }
    table
}

fn nanoseconds(values: &[f64]) -> String {
    let text = |it: Estimate| {
        let [low, high] = it.interval;
        format!("{:.1} ({low:.1}-{high:.1})", it.median)
    };
    Estimate::of(values).map_or(show::HOLE.to_owned(), text)
}

fn sizes(datapath: &Datapath) -> Table {
    let mut table = Table::new(
        1,
        [
            "program",
            "instructions",
            "machine code, bytes",
            "instructions verified",
        ],
    );
    for size in &datapath.programs {
        // 0: this kernel does not tell.
        let verified = Some(size.verified).filter(|it| *it > 0);
        table.row([
            size.program.clone(),
            size.instructions.to_string(),
            size.machine_code.to_string(),
            verified.map_or(show::HOLE.to_owned(), |it| it.to_string()),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::report::markdown::testing::row;
    use crate::compare::report::testing;

    const HEADING: &str = "## The programs alone";

    #[test]
    fn a_line_for_each_case_and_a_column_for_each_number_of_routes() {
        let mut results = testing::results();
        let costs = &mut results.datapath.as_mut().unwrap().costs;
        costs.retain(|it| it.program != "from_wire" || it.routes == 10);
        let text = sections(&results);
        assert!(text.contains("| program, packets | 10 routes | 5000 routes |"));
        let fast = row(&text, HEADING, "from_pod, fast");
        assert!(
            fast[1].starts_with("50.3 (") && fast[2].starts_with("52.3 ("),
            "{fast:?}"
        );
        assert_eq!(row(&text, HEADING, "from_wire, fast")[2], "-");
        assert_eq!(row(&text, HEADING, "from_pod")[1..], ["900", "5100", "-"]);
    }

    #[test]
    fn without_it_nothing_is_shown() {
        let mut results = testing::results();
        results.datapath = None;
        assert!(sections(&results).contains("not measured"));
    }
}
