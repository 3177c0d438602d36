//! The share of fast packets, as `underpass status` tells it.

use anyhow::{Context, Result, ensure};

use crate::Lab;
use crate::lab::Node;

/// Packets of pods that crossed between nodes, as all nodes of a cluster have counted them: each
/// where it leaves a node and where it enters one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub fast: u64,
    pub kernel: u64,
}

impl Counted {
    /// Since the agents were started.
    pub fn read(lab: &Lab) -> Result<Self> {
        let mut counted = Self::default();
        for node in lab.nodes() {
            let here = Self::of(lab, node)?;
            counted.fast += here.fast;
            counted.kernel += here.kernel;
        }
        Ok(counted)
    }

    /// On one node, since its maps were made.
    pub fn of(lab: &Lab, node: &Node) -> Result<Self> {
        let status = lab.underpass_json(node, &["status"])?;
        let number = |field: &str| {
            status["traffic"][field]
                .as_u64()
                .with_context(|| format!("`underpass status -o json` has no traffic.{field}"))
        };
        Ok(Self {
            fast: number("fast_packets")?,
            kernel: number("kernel_packets")?,
        })
    }

    pub fn since(self, before: Self) -> Self {
        Self {
            fast: self.fast.saturating_sub(before.fast),
            kernel: self.kernel.saturating_sub(before.kernel),
        }
    }

    /// Fast packets of all.
    pub fn share(self) -> f64 {
        self.fast as f64 / (self.fast + self.kernel).max(1) as f64
    }

    /// # Errors
    /// Where the share is less.
    pub fn at_least(self, share: f64) -> Result<()> {
        ensure!(
            self.share() >= share,
            "only {self}; expected at least {:.0} %: `underpass status` tells what kept the rest",
            share * 100.0
        );
        Ok(())
    }
}

impl std::fmt::Display for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never "100 %" where one was not.
        let percent = (self.share() * 10_000.0).floor() / 100.0;
        let (fast, all) = (self.fast, self.fast + self.kernel);
        write!(f, "{percent} % fast ({fast} of {all} packets)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_never_rounded_up() {
        let counted = Counted {
            fast: 999_999,
            kernel: 1,
        };
        assert_eq!(
            counted.to_string(),
            "99.99 % fast (999999 of 1000000 packets)"
        );
        assert!(counted.at_least(0.99).is_ok());
        assert!(Counted::default().at_least(0.01).is_err());
    }
}
