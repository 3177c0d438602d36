//! Which Events a plan is worth: a pure function.

use std::collections::BTreeSet;

use underpass_common::peer::{PeerState, Refusal};

use crate::plan::{Plan, Subject};

/// The longest note, in bytes: what `events.k8s.io/v1` takes.
const LONGEST_NOTE: usize = 1024;
/// Nodes that a note names one by one.
const NAMED: usize = 10;

/// How serious it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// How it is meant to be, for somebody who wonders.
    Normal,
    /// Somebody should look at it.
    Warning,
}

impl Kind {
    /// As Kubernetes writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// What an Event is to say. Two agents that find the same make the same notice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Notice {
    /// The Node that it is about, by name.
    pub node: String,
    /// `Normal` or `Warning`.
    pub kind: Kind,
    /// Why, in UpperCamelCase.
    pub reason: &'static str,
    /// One line, at most 1,024 bytes.
    pub note: String,
}

impl Notice {
    /// Cuts the note where it is too long.
    pub fn new(node: &str, kind: Kind, reason: &'static str, note: &str) -> Self {
        let end = note.floor_char_boundary(LONGEST_NOTE);
        Self {
            node: node.to_owned(),
            kind,
            reason,
            note: note[..end].to_owned(),
        }
    }
}

/// What is worth an Event. `own_name` is the name of this node.
///
/// About another Node's claim that is refused, the Event is about that Node, as every agent finds the
/// same. What only this node sees is about this one.
pub fn notices(plan: &Plan, own_name: &str) -> BTreeSet<Notice> {
    let own_problems = plan.problems.iter().filter_map(|problem| {
        let reason = match &problem.subject {
            Subject::OwnNode => "PodTrafficLeftToKernel",
            Subject::Uplink => "NoUplink",
            Subject::ExtraUplink(_) => "NoExtraUplink",
            _ => return None,
        };
        Some(Notice::new(own_name, Kind::Warning, reason, &problem.text))
    });
    refused(plan)
        .chain(off_segment(plan, own_name))
        .chain(own_problems)
        .collect()
}

/// Claims that are refused. A Node that has no podCIDR or no address yet claims nothing: each one
/// begins like that.
fn refused(plan: &Plan) -> impl Iterator<Item = Notice> {
    let says_something = |refusal| {
        !matches!(
            refusal,
            Refusal::None | Refusal::NoPodCidr | Refusal::NoAddress
        )
    };
    let refused = plan
        .peers
        .iter()
        .filter(move |(_, peer)| says_something(peer.refusal));
    refused.filter_map(|(name, peer)| {
        let detail = peer.detail.as_deref()?;
        let note = format!("Traffic to its pods is left to the kernel: {detail}");
        Some(Notice::new(name, Kind::Warning, "PodCIDRRefused", &note))
    })
}

/// Nodes on other L2 segments, together: in a cluster of several segments there may be thousands.
fn off_segment(plan: &Plan, own_name: &str) -> Option<Notice> {
    let off: Vec<_> = plan
        .peers
        .iter()
        .filter(|(_, peer)| peer.state == PeerState::NotOnLink)
        .collect();
    let first = off.iter().find_map(|(_, peer)| peer.detail.as_deref())?;
    let names: Vec<&str> = off.iter().map(|(name, _)| name.as_str()).collect();
    let listed = names[..names.len().min(NAMED)].join(", ");
    let more = match names.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let note = format!(
        "Traffic to nodes that are not on this node's L2 segment is left to the kernel: {listed}{more} ({first})"
    );
    Some(Notice::new(own_name, Kind::Normal, "NotOnLink", &note))
}

#[cfg(test)]
mod tests;
