//! What a guest reports.

use crate::tasks::test::skips;
use crate::tasks::test::tally::{Results, Tally};

/// The guest's own words begin with this; all others are those of its programs.
const MARK: &str = "underpass-guest: ";

/// A guest's report, as far as it has come.
#[derive(Default)]
pub struct Guest {
    results: Results,
    /// Names of the tests that passed, those that skipped themselves among them.
    passed: Vec<String>,
    /// Names of all tests that ended, or were ignored.
    heard_of: Vec<String>,
    /// The program that runs now, and the failures before it.
    running: Option<(String, u64)>,
    /// What `underpass check` found wrong.
    findings: Vec<String>,
    unfit: bool,
    done: bool,
}

impl Guest {
    /// Takes a line that came over the serial line.
    pub fn absorb(&mut self, line: &str) {
        if let Some(words) = line.strip_prefix(MARK) {
            self.obey(words);
        } else if let Some(note) = skips::note(line) {
            // Said twice, on standard error and in the file of notes.
            self.results.skips.push(note.to_owned());
        } else if let Some(finding) = line.strip_prefix("FAIL ") {
            let words: Vec<_> = finding.split_whitespace().collect();
            self.findings.push(words.join(" "));
        } else {
            let test = line.strip_prefix("test ");
            if let Some((name, outcome)) = test.and_then(|rest| rest.split_once(" ... ")) {
                self.heard_of.push(name.to_owned());
                if outcome == "ok" {
                    self.passed.push(name.to_owned());
                }
            }
            self.results.absorb(line);
        }
    }

    fn obey(&mut self, words: &str) {
        match words.split_once(' ').unwrap_or((words, "")) {
            ("begin", title) => {
                self.running = Some((title.to_owned(), self.results.tally.failed));
            }
            ("end", rest) => {
                let code = rest.split(' ').next().unwrap_or_default();
                let Some((title, failed_before)) = self.running.take() else {
                    return;
                };
                if code != "0" && self.results.tally.failed == failed_before {
                    // It crashed before it could count: no test of it is proven.
                    self.fail(format!("{title} ended early, with exit code {code}"));
                }
            }
            ("broken", why) => self.fail(why.to_owned()),
            ("unfit", _) => self.unfit = true,
            ("done", _) => self.done = true,
            _ => {}
        }
    }

    /// Notes that something failed that is no test.
    pub fn fail(&mut self, why: String) {
        self.results.tally.failed += 1;
        let why = match self.running.take() {
            Some((title, _)) => format!("{title}: {why}"),
            None => why,
        };
        self.results.failures.push(why);
    }

    /// Whether nothing more is to come.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Whether a test of this name passed, and did not skip itself.
    pub fn has_passed(&self, test: &str) -> bool {
        let skipped = self.results.skips.iter().any(|skip| names(skip, test));
        self.passed.iter().any(|name| name == test) && !skipped
    }

    /// Once all is said: counts the tests that skipped themselves as what they are (libtest took them for passed),
    /// and misses those that were to run and that nothing was heard of.
    pub fn settle(&mut self, expected: &[&str]) {
        let results = &mut self.results;
        results.skips = skips::each_once(std::mem::take(&mut results.skips));
        let skipped = results.tally.passed.min(results.skips.len() as u64);
        results.tally.passed -= skipped;
        results.tally.skipped += skipped;
        if self.unfit {
            return;
        }
        if results.tally == Tally::default() {
            self.fail("no test was run".to_owned());
        }
        for test in expected {
            if !self.heard_of.iter().any(|name| name == test) {
                self.fail(format!("{test} was not run: gone, or called otherwise?"));
            }
        }
    }

    /// What it came to.
    pub fn results(&self) -> &Results {
        &self.results
    }

    /// What it came to, to keep.
    pub fn into_results(self) -> Results {
        self.results
    }

    /// Why nothing ran, where `underpass check` finds the kernel unfit: in its words.
    pub fn unfit(&self) -> Option<String> {
        self.unfit.then(|| {
            let findings = self.findings.join("; ");
            format!("`underpass check` says: {findings}")
        })
    }
}

/// Whether a note of a skip is about the test: it may leave out the modules before the name.
fn names(skip: &str, test: &str) -> bool {
    let name = skips::test_of(skip);
    test == name || test.rsplit("::").next() == Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(lines: &[&str]) -> Guest {
        let mut guest = Guest::default();
        lines.iter().for_each(|line| guest.absorb(line));
        guest.settle(&[]);
        guest
    }

    #[test]
    fn a_test_that_skipped_itself_has_not_passed() {
        let guest = guest(&[
            "underpass-guest: begin scenarios",
            "test never_worse::vlan ... ok",
            "test never_worse::ttl ... ok",
            "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
            "underpass-guest: end 0 scenarios",
            "SKIP vlan: no VLAN devices",
            "SKIP vlan: no VLAN devices",
            "underpass-guest: done",
        ]);
        assert!(guest.is_done());
        assert!(guest.has_passed("never_worse::ttl"));
        assert!(!guest.has_passed("never_worse::vlan"));
        assert_eq!(
            guest.results().tally.to_string(),
            "1 passed, 0 failed, 1 skipped"
        );
    }

    #[test]
    fn a_program_that_crashes_is_a_failure() {
        let guest = guest(&[
            "underpass-guest: begin attach",
            "running 3 tests",
            "underpass-guest: end 139 attach",
        ]);
        assert_eq!(guest.results().tally.failed, 1);
        assert_eq!(
            guest.results().failures,
            ["attach ended early, with exit code 139"]
        );
        assert!(!guest.is_done());
    }

    #[test]
    fn failed_tests_count_once() {
        let guest = guest(&[
            "underpass-guest: begin attach",
            "test a ... FAILED",
            "test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out",
            "underpass-guest: end 101 attach",
        ]);
        assert_eq!(guest.results().failures, ["a"]);
    }

    #[test]
    fn a_test_that_nothing_was_heard_of_has_failed() {
        let mut guest = Guest::default();
        for line in [
            "test deep::here ... FAILED",
            "test ignored ... ignored, for a reason",
            "test result: FAILED. 0 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out",
        ] {
            guest.absorb(line);
        }
        guest.settle(&["deep::here", "ignored", "renamed"]);
        assert_eq!(guest.results().tally.failed, 2);
        assert_eq!(
            guest.results().failures,
            [
                "deep::here",
                "renamed was not run: gone, or called otherwise?"
            ]
        );
    }

    #[test]
    fn a_guest_that_says_nothing_has_failed() {
        assert_eq!(guest(&[]).results().tally.failed, 1);
    }

    #[test]
    fn an_unfit_kernel_is_told_in_the_words_of_the_check() {
        let guest = guest(&[
            "PASS  BTF: the kernel describes its types",
            "FAIL  kernel: 5.10.0-32-amd64; 5.12 is the oldest that can work",
            "      fix: boot a newer kernel, best 6.6 or later",
            "underpass-guest: unfit",
            "underpass-guest: done",
        ]);
        assert_eq!(
            guest.unfit().unwrap(),
            "`underpass check` says: kernel: 5.10.0-32-amd64; 5.12 is the oldest that can work"
        );
        assert_eq!(guest.results().tally, Tally::default());
    }
}
