//! What keeps traffic on the kernel's road and somebody could mend.

use std::fmt;

use ipnet::IpNet;

/// A line for the log. Its text stays the same as long as the problem does, so that the agent can
/// tell what is new.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// What it is about.
    pub subject: Subject,
    /// One line, whole by itself.
    pub text: String,
}

/// What a problem is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// This node's own Node object.
    OwnNode,
    /// The main uplink.
    Uplink,
    /// An uplink that was asked for besides, by name.
    ExtraUplink(String),
    /// Another node, by name.
    Node(String),
    /// A route of the kernel.
    KernelRoute(IpNet),
    /// A pod's veth, by the name of the host's end.
    Pod(String),
}

impl Problem {
    pub(super) fn new(subject: Subject, text: String) -> Self {
        Self { subject, text }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
