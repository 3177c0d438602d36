//! What an agent takes and keeps: memory, descriptors, pins.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::measure::usage::memory;

/// Of one node, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Vitals {
    /// Resident memory of the agent, in KiB.
    pub resident_kib: u64,
    /// Its open file descriptors.
    pub descriptors: u64,
    /// Files under the node's pin directory, links not counted.
    pub pins: u64,
    /// Pinned links.
    pub links: u64,
}

impl Vitals {
    /// Reads them.
    ///
    /// # Errors
    /// Where the agent has ended, or nothing is pinned.
    pub(super) fn of(pid: u32, pins: &Path) -> Result<Self> {
        let links = files(&pins.join("links"))?;
        Ok(Self {
            resident_kib: memory(pid)?.resident_kib,
            descriptors: files(Path::new(&format!("/proc/{pid}/fd")))?,
            pins: files(pins)? + files(&pins.join("programs"))?,
            links,
        })
    }
}

/// How many entries a directory has, without its directories.
fn files(dir: &Path) -> Result<u64> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut count = 0;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", dir.display()))?;
        // A descriptor may have been closed since.
        count += u64::from(entry.file_type().is_ok_and(|kind| !kind.is_dir()));
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_counted() {
        let own = || files(Path::new("/proc/self/fd")).unwrap();
        assert!(own() > 2);
        assert!(files(Path::new("/nonexistent")).is_err());
    }
}
