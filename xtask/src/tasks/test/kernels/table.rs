//! The kernels side by side, as a table in Markdown.

use std::fmt;

use super::guest::Guest;
use super::suite;

/// A row for each kernel.
#[derive(Default)]
pub struct Table(Vec<Row>);

struct Row {
    kernel: String,
    loads: &'static str,
    attaches_by: &'static str,
    tests: String,
    why_not: String,
}

impl Table {
    /// Adds a kernel that ran.
    pub fn add(&mut self, kernel: &str, guest: &Guest) {
        let attaches_by = if guest.has_passed(suite::ATTACHES_BY_TCX) {
            "TCX"
        } else if guest.has_passed(suite::ATTACHES_BY_CLSACT) {
            "clsact"
        } else {
            "?"
        };
        let results = guest.results();
        let failures = results.failures.iter().map(|name| format!("{name} failed"));
        let why_not: Vec<_> = failures.chain(results.skips.iter().cloned()).collect();
        self.0.push(Row {
            kernel: kernel.to_owned(),
            loads: if guest.has_passed(suite::LOADS) {
                "yes"
            } else {
                "?"
            },
            attaches_by,
            tests: results.tally.to_string(),
            why_not: why_not.join("; "),
        });
    }

    /// Adds a kernel on which nothing ran.
    pub fn not_run(&mut self, kernel: &str, why: &str) {
        self.0.push(Row {
            kernel: kernel.to_owned(),
            loads: "-",
            attaches_by: "-",
            tests: "not run".to_owned(),
            why_not: why.to_owned(),
        });
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| kernel | loads | attaches by | tests | why not |")?;
        writeln!(f, "|---|---|---|---|---|")?;
        for row in &self.0 {
            // A line's end or a bar would end the cell; of a long text the first line says it.
            let why_not = row.why_not.lines().next().unwrap_or_default();
            writeln!(
                f,
                "| {} | {} | {} | {} | {} |",
                row.kernel,
                row.loads,
                row.attaches_by,
                row.tests,
                why_not.replace('|', "\\|")
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ran_and_what_could_not() {
        let mut guest = Guest::default();
        for line in [
            "underpass-guest: begin attach".to_owned(),
            format!("test {} ... ok", suite::ATTACHES_BY_TCX),
            format!("test {} ... ok", suite::ATTACHES_BY_CLSACT),
            "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out".to_owned(),
            "underpass-guest: end 0 attach".to_owned(),
            format!("SKIP {}: this kernel has no TCX", suite::ATTACHES_BY_TCX),
            "underpass-guest: done".to_owned(),
        ] {
            guest.absorb(&line);
        }
        guest.settle(&[]);
        let mut table = Table::default();
        table.add("6.1.0", &guest);
        table.not_run("5.10", "no | such kernel\nmore words");
        let text = table.to_string();
        let rows: Vec<_> = text.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| 6.1.0 | ? | clsact | 1 passed, 0 failed, 1 skipped \
                 | tcx_programs_live_and_leave: this kernel has no TCX |",
                "| 5.10 | - | - | not run | no \\| such kernel |"
            ]
        );
    }
}
