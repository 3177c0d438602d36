//! What the steps of a test run came to.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::tally::{Results, Tally};
use crate::terminal::{heading, seconds};

/// The steps so far. Whatever happens, it closes with one line of counts.
#[derive(Default)]
pub struct Report {
    steps: Vec<Step>,
}

struct Step {
    name: String,
    result: StepResult,
    duration: Duration,
}

/// How a step ended that counts tests, unless it failed as a whole.
pub enum Outcome {
    Tests(Results),
    /// This machine cannot run it, for this reason: one test skipped.
    Skipped(String),
}

enum StepResult {
    Passed,
    Tests(Results),
    Failed(String),
    /// Not possible on this machine.
    Skipped(String),
    /// Not run because a step before it failed.
    NotRun(String),
    /// Not run because nobody wanted it.
    LeftOut(String),
}

impl Report {
    /// Runs a step that is no test; what it yields, unless it fails.
    pub fn value<T>(&mut self, name: &str, run: impl FnOnce() -> Result<T>) -> Option<T> {
        let mut value = None;
        self.step(name, || {
            value = Some(run()?);
            Ok(StepResult::Passed)
        });
        value
    }

    /// Runs a step that counts tests.
    pub fn tests(&mut self, name: &str, run: impl FnOnce() -> Result<Results>) {
        self.step(name, || run().map(StepResult::Tests));
    }

    /// Runs a step that counts tests, or that may be impossible here.
    pub fn outcome(&mut self, name: &str, run: impl FnOnce() -> Result<Outcome>) {
        self.step(name, || {
            Ok(match run()? {
                Outcome::Tests(results) => StepResult::Tests(results),
                Outcome::Skipped(why) => StepResult::Skipped(why),
            })
        });
    }

    /// Notes a step that a failure before it made impossible.
    pub fn not_run(&mut self, name: &str, why: &str) {
        self.step(name, || Ok(StepResult::NotRun(why.to_owned())));
    }

    /// Notes a step that nobody wanted.
    pub fn left_out(&mut self, name: &str, why: &str) {
        self.step(name, || Ok(StepResult::LeftOut(why.to_owned())));
    }

    fn step(&mut self, name: &str, run: impl FnOnce() -> Result<StepResult>) {
        println!("{}", heading(&format!("== {name}")));
        let start = Instant::now();
        let result = run().unwrap_or_else(|error| StepResult::Failed(format!("{error:#}")));
        let step = Step {
            name: name.to_owned(),
            result,
            duration: start.elapsed(),
        };
        println!("{}\n", step.line());
        self.steps.push(step);
    }

    /// Prints every step, every test that failed or was skipped, and the counts, alone on the last line.
    pub fn finish(&self, skips: &[String]) -> ExitCode {
        println!("{}", heading("== summary"));
        for step in &self.steps {
            println!("{}", step.line());
            for failure in step.failures() {
                println!("  failed: {failure}");
            }
            for skip in step.skips() {
                println!("  skipped: {skip}");
            }
        }
        for skip in skips {
            println!("skipped: {skip}");
        }
        let total = self.total(skips.len());
        let nothing_ran = total == Tally::default();
        if nothing_ran {
            println!("no test was run");
        }
        println!("{total}");
        if nothing_ran || total.failed > 0 {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }

    /// All counts. A step that fails without a test's name, such as a build, is one failure.
    fn total(&self, skips: usize) -> Tally {
        let mut total = Tally::default();
        for step in &self.steps {
            total += step.tally();
        }
        // libtest took the tests that skipped themselves for passed.
        let skips = total.passed.min(skips as u64);
        total.passed -= skips;
        total.skipped += skips;
        total
    }
}

impl Step {
    fn tally(&self) -> Tally {
        match &self.result {
            StepResult::Tests(results) => results.tally,
            StepResult::Failed(_) => Tally {
                failed: 1,
                ..Tally::default()
            },
            StepResult::Skipped(_) => Tally {
                skipped: 1,
                ..Tally::default()
            },
            StepResult::Passed | StepResult::NotRun(_) | StepResult::LeftOut(_) => Tally::default(),
        }
    }

    fn failures(&self) -> &[String] {
        match &self.result {
            StepResult::Tests(results) => &results.failures,
            _ => &[],
        }
    }

    fn skips(&self) -> &[String] {
        match &self.result {
            StepResult::Tests(results) => &results.skips,
            _ => &[],
        }
    }

    fn line(&self) -> String {
        let result = match &self.result {
            StepResult::Passed => "ok".to_owned(),
            StepResult::Tests(Results { tally, .. }) if tally.failed > 0 => {
                format!("FAILED, {tally}")
            }
            StepResult::Tests(Results { tally, .. }) => format!("ok, {tally}"),
            StepResult::Failed(why) => format!("FAILED, {why}"),
            StepResult::NotRun(why) => return format!("{}: not run, {why}", self.name),
            StepResult::LeftOut(why) | StepResult::Skipped(why) => {
                return format!("{}: skipped, {why}", self.name);
            }
        };
        format!("{}: {result} ({})", self.name, seconds(self.duration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(results: Vec<StepResult>, skips: usize) -> String {
        let step = |result| Step {
            name: "step".to_owned(),
            result,
            duration: Duration::ZERO,
        };
        Report {
            steps: results.into_iter().map(step).collect(),
        }
        .total(skips)
        .to_string()
    }

    #[test]
    fn tests_that_skip_themselves_have_not_passed() {
        let tally = Tally {
            passed: 5,
            failed: 0,
            skipped: 1,
        };
        let tests = StepResult::Tests(Results {
            tally,
            ..Results::default()
        });
        assert_eq!(
            total(vec![StepResult::Passed, tests], 2),
            "3 passed, 0 failed, 3 skipped"
        );
    }

    #[test]
    fn a_failing_build_is_one_failure() {
        let steps = vec![
            StepResult::Failed("no".to_owned()),
            StepResult::NotRun("no build".to_owned()),
        ];
        assert_eq!(total(steps, 0), "0 passed, 1 failed, 0 skipped");
    }

    #[test]
    fn what_cannot_run_here_is_a_skip() {
        let steps = vec![StepResult::Passed, StepResult::Skipped("no".to_owned())];
        assert_eq!(total(steps, 0), "0 passed, 0 failed, 1 skipped");
    }

    #[test]
    fn a_failing_step_does_not_stop_the_next() {
        let mut report = Report::default();
        assert_eq!(
            report.value("bad", || -> Result<()> { anyhow::bail!("broken") }),
            None
        );
        assert_eq!(report.value("good", || Ok(7)), Some(7));
        assert_eq!(report.steps.len(), 2);
    }
}
