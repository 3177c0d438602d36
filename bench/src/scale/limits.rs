//! Limits of the kernel that the whole machine shares, raised while the benchmark runs.
//!
//! The neighbour tables belong to all network namespaces, and only the first one sees their limits. A
//! queue between two ends of a veth has room for 1,000 packets; the kernel asks for thousands of neighbours
//! in one go, and a switch made of metal would have room for them.

use std::fs;

use anyhow::{Context as _, Result};

/// What is enough for the largest cluster that can be asked for.
const WANTED: [(&str, u64); 7] = [
    ("ipv4/neigh/default/gc_thresh3", 262_144),
    ("ipv4/neigh/default/gc_thresh2", 131_072),
    ("ipv4/neigh/default/gc_thresh1", 32_768),
    ("ipv6/neigh/default/gc_thresh3", 262_144),
    ("ipv6/neigh/default/gc_thresh2", 131_072),
    ("ipv6/neigh/default/gc_thresh1", 32_768),
    ("core/netdev_max_backlog", 131_072),
];

/// Raised limits. Dropping it puts them back.
pub(super) struct Limits {
    old: Vec<(String, String)>,
}

impl Limits {
    /// Raises them where they are lower.
    ///
    /// # Errors
    /// Where that is forbidden, or this is not the first network namespace.
    pub(super) fn raise() -> Result<Self> {
        let mut raised = Self { old: Vec::new() };
        for (name, wanted) in WANTED {
            let path = format!("/proc/sys/net/{name}");
            let old = fs::read_to_string(&path).with_context(|| {
                format!("cannot read {path}: run this in the first network namespace")
            })?;
            if old.trim().parse::<u64>().is_ok_and(|old| old < wanted) {
                eprintln!("{path} is {wanted} while this runs; it was {}", old.trim());
                fs::write(&path, wanted.to_string())
                    .with_context(|| format!("cannot set {path} to {wanted}"))?;
                raised.old.push((path, old));
            }
        }
        Ok(raised)
    }
}

impl Drop for Limits {
    fn drop(&mut self) {
        for (path, old) in &self.old {
            if let Err(error) = fs::write(path, old) {
                eprintln!("cannot set {path} back to {}: {error}", old.trim());
            }
        }
    }
}
