//! Tests that cannot run on this machine say so, one line each, `SKIP <test-name>: <reason>`, in a file that
//! they are told of: libtest itself knows of no such thing and counts them as passed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::workspace;

/// The file, while the tests run. Dropped, it is gone.
pub struct SkipLog(PathBuf);

impl SkipLog {
    /// Makes it, so that it belongs to the user who calls even where tests run as root. It is not in /tmp, where
    /// a kernel may forbid root to write to files of others.
    ///
    /// # Errors
    /// The target folder cannot be written.
    pub fn create() -> Result<Self> {
        let dir = workspace::target_dir();
        let path = dir.join(format!("skipped-tests-{}.log", std::process::id()));
        fs::create_dir_all(&dir)
            .and_then(|()| fs::write(&path, ""))
            .with_context(|| format!("making {}", path.display()))?;
        Ok(Self(path))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What the tests noted: `<test-name>: <reason>`, in order, each test once.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self) -> Result<Vec<String>> {
        let text =
            fs::read_to_string(&self.0).with_context(|| format!("reading {}", self.0.display()))?;
        Ok(parse(&text))
    }
}

impl Drop for SkipLog {
    fn drop(&mut self) {
        // A file left behind in the target folder hurts nobody.
        let _ = fs::remove_file(&self.0);
    }
}

fn parse(text: &str) -> Vec<String> {
    each_once(text.lines().filter_map(note).map(str::to_owned).collect())
}

/// What a line notes: `<test-name>: <reason>`.
pub fn note(line: &str) -> Option<&str> {
    line.strip_prefix("SKIP ")
}

/// The test that a note is about.
pub fn test_of(note: &str) -> &str {
    note.split(": ").next().unwrap_or_default()
}

/// The notes in order, each test once.
pub fn each_once(mut skips: Vec<String>) -> Vec<String> {
    let name = |skip: &String| test_of(skip).to_owned();
    skips.sort_by_key(name);
    skips.dedup_by_key(|skip| name(skip));
    skips
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_test_counts_once() {
        let text = "SKIP ttl: no BPF_PROG_TEST_RUN\nSKIP icmp: no ping\nSKIP ttl: no namespaces\n\nother words\n\
                    SKIP deep::one: no\nSKIP deep::two: no\n";
        assert_eq!(
            parse(text),
            [
                "deep::one: no",
                "deep::two: no",
                "icmp: no ping",
                "ttl: no BPF_PROG_TEST_RUN"
            ]
        );
    }
}
