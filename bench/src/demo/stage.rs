//! Runs the steps: each has its line on the screen and its entry in the report.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::report::{Check, Report};
use crate::interrupt::{self, Interrupted};
use crate::screen::{Progress, Screen};

/// Lines of each agent's log that are shown beside a failure.
const LOG_TAIL: usize = 4;

/// A step to be run.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// Its name in the report.
    pub name: &'static str,
    /// What the screen calls it.
    pub title: String,
    /// About how long it takes, where that is long.
    pub takes: Option<Duration>,
}

impl Step {
    pub fn new(name: &'static str, title: impl Into<String>) -> Self {
        Self {
            name,
            title: title.into(),
            takes: None,
        }
    }

    /// Takes about this long.
    pub fn takes(mut self, duration: Duration) -> Self {
        self.takes = Some(duration);
        self
    }
}

/// A step that held: what it made, and what was seen.
#[derive(Debug)]
pub(super) struct Held<T> {
    pub value: T,
    pub detail: String,
}

/// A step that made nothing but sure.
pub(super) fn held(detail: impl Into<String>) -> Held<()> {
    Held {
        value: (),
        detail: detail.into(),
    }
}

/// The screen and the report.
#[derive(Debug)]
pub(super) struct Stage {
    pub screen: Screen,
    pub report: Report,
    /// What the agents log, and on which node; shown where a step fails.
    pub logs: Vec<(String, PathBuf)>,
}

impl Stage {
    pub fn new(screen: Screen) -> Self {
        Self {
            screen,
            report: Report::default(),
            logs: Vec::new(),
        }
    }

    /// Runs a step; where it fails the demo goes on. `None`: it failed.
    ///
    /// # Errors
    /// [`Interrupted`] only.
    pub fn check<T>(
        &mut self,
        step: Step,
        work: impl FnOnce(&Progress) -> Result<Held<T>>,
    ) -> Result<Option<T>> {
        interrupt::check()?;
        let done = self.run(step, work);
        // Whatever failed then may have failed because of that.
        interrupt::check()?;
        Ok(done)
    }

    /// Runs a step that all the others stand on.
    ///
    /// # Errors
    /// [`Interrupted`], or where it fails.
    pub fn need<T>(
        &mut self,
        step: Step,
        work: impl FnOnce(&Progress) -> Result<Held<T>>,
    ) -> Result<T> {
        let title = step.title.clone();
        self.check(step, work)?
            .ok_or_else(|| anyhow!("nothing more can be shown without this: {title}"))
    }

    /// Runs a step, also when the demo was interrupted.
    pub fn run<T>(
        &mut self,
        step: Step,
        work: impl FnOnce(&Progress) -> Result<Held<T>>,
    ) -> Option<T> {
        let begin = Instant::now();
        let progress = self.screen.begin(&step.title, step.takes);
        let done = work(&progress);
        drop(progress);
        let elapsed = begin.elapsed();
        let (ok, detail, value) = match done {
            Ok(Held { value, detail }) => (true, detail, Some(value)),
            Err(error) if error.is::<Interrupted>() => return None,
            Err(error) => (false, tell(&error), None),
        };
        self.screen.end(ok, &step.title, elapsed);
        if ok {
            self.screen.detail(&detail);
        } else {
            self.screen.trouble(&detail);
            self.show_logs();
        }
        self.report.checks.push(Check {
            name: step.name,
            ok,
            detail,
            seconds: elapsed.as_secs_f64(),
        });
        value
    }

    fn show_logs(&self) {
        for (node, log) in &self.logs {
            let text = fs::read(log).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<_> = text.lines().collect();
            let tail = &lines[lines.len().saturating_sub(LOG_TAIL)..];
            self.screen
                .detail(&format!("the agent on {node} said last:"));
            for line in tail {
                self.screen.detail(line);
            }
        }
    }
}

/// An error and its causes; what takes many lines, such as a log, comes last.
fn tell(error: &anyhow::Error) -> String {
    let words = error.chain().map(ToString::to_string);
    let (long, short): (Vec<_>, Vec<_>) = words.partition(|text| text.contains('\n'));
    let mut parts = vec![short.join(": ")];
    parts.extend(long.iter().map(|text| text.trim_end().to_owned()));
    parts.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_comes_after_what_it_explains() {
        let error = anyhow!("exit code 1")
            .context("its log:\nfirst\nsecond\n")
            .context("the agent has ended");
        let expected = "the agent has ended: exit code 1\nits log:\nfirst\nsecond";
        assert_eq!(tell(&error), expected);
    }
}
