//! Pings between all pods.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::interrupt;
use crate::lab::{Lab, Pod};
use crate::traffic::Ping;

/// How long an answer may take; on one machine it takes a few dozen microseconds.
const LIMIT: Duration = Duration::from_millis(500);
/// So many pairs without an answer are enough to know.
const ENOUGH: usize = 3;

/// What was pinged.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pinged {
    /// Ordered pairs of pods.
    pub pairs: usize,
    /// Of these, on two nodes.
    pub across: usize,
    /// Pings, all of them answered.
    pub pings: usize,
}

/// Pings from each pod to each other one, `count` times.
///
/// # Errors
/// Where an answer is missing; names the pairs.
pub(super) fn all_pairs(lab: &Lab, count: u16) -> Result<Pinged> {
    pairs(lab, count, |from, to| from.address() != to.address())
}

/// As [`all_pairs`], without those on one node: their packets never leave its bridge.
pub(super) fn across_nodes(lab: &Lab, count: u16) -> Result<Pinged> {
    pairs(lab, count, |from, to| from.node() != to.node())
}

fn pairs(lab: &Lab, count: u16, wanted: impl Fn(&Pod, &Pod) -> bool) -> Result<Pinged> {
    let pods: Vec<&Pod> = lab.nodes().iter().flat_map(|node| node.pods()).collect();
    let (mut pinged, mut failed, mut missing) = (Pinged::default(), 0, String::new());
    for from in &pods {
        for to in pods.iter().filter(|to| wanted(from, to)) {
            interrupt::check()?;
            let ping = Ping::to(to.address()).count(count).timeout(LIMIT);
            let report = ping.interval(Duration::from_millis(1)).run(from)?;
            pinged.pairs += 1;
            pinged.across += usize::from(from.node() != to.node());
            pinged.pings += report.replies.len();
            if !report.all_replied() {
                let (got, sent) = (report.replies.len(), report.sent);
                let _ = write!(
                    missing,
                    "; {} to {}: {got} of {sent}",
                    from.name(),
                    to.name()
                );
                failed += 1;
            }
            if failed == ENOUGH {
                bail!("answers are missing, and the rest was not tried{missing}");
            }
        }
    }
    if failed > 0 {
        bail!("answers are missing{missing}");
    }
    Ok(pinged)
}
