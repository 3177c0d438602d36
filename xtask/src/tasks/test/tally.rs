//! Counts of tests, from the lines that libtest prints.

use std::fmt;
use std::ops::AddAssign;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// What test programs came to.
#[derive(Debug, Default)]
pub struct Results {
    pub tally: Tally,
    /// The names of the tests that failed.
    pub failures: Vec<String>,
    /// The tests that skipped themselves, each with its reason. Only a guest tells them together with its tests;
    /// its tally has them among the skipped.
    pub skips: Vec<String>,
}

impl Results {
    /// Takes a line that a test program printed, whatever it is.
    pub fn absorb(&mut self, line: &str) {
        let line = without_colours(line);
        if let Some(counts) = counts(&line) {
            self.tally += counts;
        } else if let Some(name) = failed_test(&line) {
            self.failures.push(name.to_owned());
        }
    }
}

impl AddAssign for Results {
    fn add_assign(&mut self, other: Self) {
        self.tally += other.tally;
        self.failures.extend(other.failures);
        self.skips.extend(other.skips);
    }
}

/// Reads libtest's line of a test that failed: its name.
fn failed_test(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

/// Reads libtest's closing line, `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
fn counts(line: &str) -> Option<Tally> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut tally = Tally::default();
    for part in counts.split(';') {
        match part.trim().split_once(' ') {
            Some((count, "passed")) => tally.passed = count.parse().ok()?,
            Some((count, "failed")) => tally.failed = count.parse().ok()?,
            Some((count, "ignored")) => tally.skipped = count.parse().ok()?,
            _ => {}
        }
    }
    Some(tally)
}

/// The text without its escape sequences: `ESC [ ... letter`, and the `ESC ( B` of a terminal's reset.
fn without_colours(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\x1b' {
            plain.push(c);
        } else if chars.next() == Some('[') {
            chars.by_ref().find(char::is_ascii_alphabetic);
        } else {
            chars.next();
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn absorbed(lines: &[&str]) -> (String, Vec<String>) {
        let mut results = Results::default();
        for line in lines {
            results.absorb(line);
        }
        (results.tally.to_string(), results.failures)
    }

    #[test]
    fn the_closing_line_is_read_and_failures_are_named() {
        let (tally, failures) = absorbed(&[
            "running 15 tests",
            "test flow::pings ... FAILED",
            "test flow::passed ... ok",
            "test result: FAILED. 13 passed; 1 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.11s",
        ]);
        assert_eq!(tally, "13 passed, 1 failed, 1 skipped");
        assert_eq!(failures, ["flow::pings"]);
    }

    #[test]
    fn colours_hide_nothing() {
        let (tally, failures) = absorbed(&[
            "test flow::pings ... \x1b[31mFAILED\x1b(B\x1b[m",
            "test result: \x1b[31mFAILED\x1b(B\x1b[m. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out",
        ]);
        assert_eq!(tally, "3 passed, 1 failed, 0 skipped");
        assert_eq!(failures, ["flow::pings"]);
    }

    #[test]
    fn several_programs_add_up() {
        let line = "test result: ok. 2 passed; 0 failed; 3 ignored; 0 measured; 0 filtered out";
        assert_eq!(
            absorbed(&[line, "", line]).0,
            "4 passed, 0 failed, 6 skipped"
        );
    }
}
