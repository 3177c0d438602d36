//! `underpass check`: is this machine fit?
//!
//! [`gather`] looks at the machine and makes [`Facts`] of it; each check is a pure function of them.

pub mod facts;
mod foreign;
mod gather;
mod machine;
mod network;
mod nodes;
mod peers;
mod probes;
mod programs;
mod reach;
mod settings;
#[cfg(test)]
mod tests;
mod xdp;

use std::borrow::Cow;

use anyhow::{Result, bail};
use serde::Serialize;

use self::facts::Facts;
pub(super) use self::network::listed;
pub(super) use self::probes::release;
use super::paint::{Colour, Paint};
use super::print::{self, fold};
use crate::cli::CheckArgs;

/// One precondition. Its JSON form is stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub name: Cow<'static, str>,
    /// How it stands.
    pub outcome: Outcome,
    /// What was found.
    pub detail: String,
    /// What to do about it; `null` where there is nothing to do.
    pub fix: Option<String>,
}

/// How a precondition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it should be.
    Pass,
    /// Works, but somebody should know.
    Warn,
    /// The agent cannot work like this.
    Fail,
}

impl Finding {
    fn pass(name: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self::of(name, Outcome::Pass, detail, None)
    }

    fn warn(
        name: impl Into<Cow<'static, str>>,
        detail: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self::of(name, Outcome::Warn, detail, Some(fix.into()))
    }

    fn fail(
        name: impl Into<Cow<'static, str>>,
        detail: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self::of(name, Outcome::Fail, detail, Some(fix.into()))
    }

    fn of(
        name: impl Into<Cow<'static, str>>,
        outcome: Outcome,
        detail: impl Into<String>,
        fix: Option<String>,
    ) -> Self {
        Self {
            name: name.into(),
            outcome,
            detail: detail.into(),
            fix,
        }
    }
}

/// Runs `underpass check`.
///
/// # Errors
/// Where a precondition fails, so that the exit code tells: 0 where all pass or warn, 1 where one fails.
pub async fn run(args: &CheckArgs) -> Result<()> {
    let findings = findings(&gather::gather(args).await);
    let paint = Paint::of_stdout();
    print::print(args.read.output, &findings, |findings| {
        show(findings, paint)
    })?;
    let failed = findings
        .iter()
        .filter(|finding| finding.outcome == Outcome::Fail)
        .count();
    if failed > 0 {
        bail!("{failed} of {} preconditions fail", findings.len());
    }
    Ok(())
}

/// All preconditions, judged.
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let mut findings = machine::findings(&facts.machine);
    findings.extend(settings::findings(facts));
    findings.extend(network::findings(&facts.network));
    findings.extend(peers::findings(&facts.network.peers));
    findings.push(programs::finding(&facts.network.programs));
    findings.extend(xdp::findings(&facts.network));
    findings
}

/// The list for people: a line for each, and what to do below it.
fn show(findings: &[Finding], paint: Paint) -> String {
    const BELOW: &str = "      ";
    let mut screen = String::new();
    for finding in findings {
        let (word, colour) = match finding.outcome {
            Outcome::Pass => ("PASS", Colour::Green),
            Outcome::Warn => ("WARN", Colour::Yellow),
            Outcome::Fail => ("FAIL", Colour::Red),
        };
        let text = fold(&format!("{}: {}", finding.name, finding.detail), BELOW);
        screen += &format!("{}  {text}\n", paint.paint(colour, word));
        if let Some(fix) = &finding.fix {
            screen += &format!("{BELOW}{}\n", fold(&format!("fix: {fix}"), "           "));
        }
    }
    let count = |outcome| findings.iter().filter(|one| one.outcome == outcome).count();
    screen += &format!(
        "\n{} pass, {} warn, {} fail\n",
        count(Outcome::Pass),
        count(Outcome::Warn),
        count(Outcome::Fail)
    );
    screen
}
