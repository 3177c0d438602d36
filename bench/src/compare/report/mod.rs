//! What the comparison found: `report.json` for programs, `report.md` with plots for people, and a summary for the
//! terminal.

mod aims;
mod markdown;
mod plots;
mod show;
mod terminal;
#[cfg(test)]
pub(crate) mod testing;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::results::{FORM, Results};
use super::trial::{Target, Traffic, Trial};

pub use terminal::summary;

/// Writes the report into `dir`, which is made where it is missing: `report.json` (the [`Results`]), `report.md`, and
/// the plots that it shows, as SVG. Returns what was written. What was not measured leaves a hole, no error; a
/// plot without any value is left out.
///
/// # Errors
/// Where a file cannot be written.
pub fn write(results: &Results, dir: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let json = serde_json::to_string_pretty(results).context("cannot write the results as JSON")?;
    let plots = plots::draw(results)?;
    let mut files = vec![
        ("report.json", json + "\n"),
        ("report.md", markdown::report(results, &plots)),
    ];
    files.extend(plots.into_iter().map(|plot| (plot.file, plot.svg)));
    let write = |(name, text): (&str, String)| {
        let path = dir.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    };
    files.into_iter().map(write).collect()
}

/// Results that were written as `report.json` before.
///
/// # Errors
/// Where the file cannot be read, or holds something else or of another form.
pub fn read(path: &Path) -> Result<Results> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let results: Results = serde_json::from_str(&text)
        .with_context(|| format!("{} is no report.json of this program's", path.display()))?;
    ensure!(
        results.form == FORM,
        "{} has the form {}, and this program reads {FORM}",
        path.display(),
        results.form
    );
    Ok(results)
}

/// The trial with offload, as Linux has it.
const fn trial(traffic: Traffic, target: Target) -> Trial {
    Trial {
        traffic,
        target,
        offload: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::contender::Contender;
    use crate::compare::results::Setup;

    /// A directory of this test's own, removed at its end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let name = format!("underpass-report-{name}-{}", std::process::id());
            Self(std::env::temp_dir().join(name))
        }

        fn read(&self, file: &str) -> String {
            fs::read_to_string(self.0.join(file)).unwrap()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            _ = fs::remove_dir_all(&self.0);
        }
    }

    /// One trial for each plot.
    fn few_trials() -> Results {
        let mut results = testing::results();
        let trials = [
            trial(Traffic::Streams(1), Target::Peer),
            trial(Traffic::Requests, Target::Peer),
            trial(Traffic::Flood(64), Target::Peer),
            trial(Traffic::Flood(64), Target::Transit),
        ];
        testing::keep_trials(&mut results, &trials);
        results
    }

    #[test]
    fn a_report_is_written_and_its_json_read_again() {
        let scratch = Scratch::new("whole");
        let results = few_trials();
        let written = write(&results, &scratch.0).unwrap();
        let names: Vec<_> = written
            .iter()
            .map(|it| it.strip_prefix(&scratch.0).unwrap().to_str().unwrap())
            .collect();
        let plots = [
            "throughput.svg",
            "cpu.svg",
            "packets.svg",
            "transit.svg",
            "latency.svg",
            "datapath.svg",
        ];
        assert_eq!(names[..2], ["report.json", "report.md"]);
        assert_eq!(names[2..], plots);
        let again = read(&scratch.0.join("report.json")).unwrap();
        assert_eq!(format!("{again:?}"), format!("{results:?}"));
        let text = scratch.read("report.md");
        for plot in plots {
            assert!(text.contains(&format!("]({plot})")), "{plot}");
        }
    }

    #[test]
    fn nothing_measured_makes_a_report_without_plots() {
        let scratch = Scratch::new("empty");
        let results = Results {
            form: FORM,
            setup: Setup::default(),
            samples: Vec::new(),
            failures: Vec::new(),
            repeated: Vec::new(),
            agents: Vec::new(),
            datapath: None,
        };
        assert_eq!(write(&results, &scratch.0).unwrap().len(), 2);
        let text = scratch.read("report.md");
        assert!(!text.contains(".svg") && text.contains("not measured"));
        assert!(summary(&results).contains("not measured"));
    }

    #[test]
    fn a_report_without_the_likes_judges_nothing() {
        let mut results = few_trials();
        results.datapath = None;
        assert!(markdown::report(&results, &[]).contains(" better** |"));
        testing::remove(&mut results, Contender::RoutesTwin);
        let text = markdown::report(&results, &[]);
        assert!(text.contains("| 1.22 ("), "{text}");
        assert!(!text.contains(" better** |"));
        assert!(!text.contains("**met**") && !text.contains("**missed**"));
        assert!(text.contains("**noise unknown**"));
    }
}
