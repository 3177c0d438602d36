//! Room in the kernel's neighbour tables, which all network namespaces share; only the first one sees
//! their limits.

use std::fs;

use anyhow::{Context as _, Result};

/// What is enough for the largest cluster that can be asked for.
const WANTED: [(&str, u64); 3] = [
    ("gc_thresh3", 262_144),
    ("gc_thresh2", 131_072),
    ("gc_thresh1", 32_768),
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
        for family in ["ipv4", "ipv6"] {
            for (name, wanted) in WANTED {
                let path = format!("/proc/sys/net/{family}/neigh/default/{name}");
                let old = fs::read_to_string(&path).with_context(|| {
                    format!("cannot read {path}: run this in the first network namespace")
                })?;
                let is_less = old.trim().parse::<u64>().is_ok_and(|old| old < wanted);
                if is_less {
                    fs::write(&path, wanted.to_string())
                        .with_context(|| format!("cannot set {path} to {wanted}"))?;
                    raised.old.push((path, old));
                }
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
