//! The L2 segments between the nodes. A lab has one, or two and a node that routes between them:
//!
//! ```text
//!     node1-pod1         node3-pod1         node2-pod1
//!         |                  |                  |
//!       node1              node3              node2      10.244.M.0/24 via node3's address on the segment,
//!       eth0           eth0     eth1          eth0       where node M is on the other
//!         +----- br0 -----+       +----- br1 ---+        switch
//!          192.168.77.0/24         192.168.78.0/24
//! ```
//!
//! In IPv6 the segments are `fd00:77::/64` and `fd00:78::/64`.

use super::names;

/// An L2 segment: a bridge in the switch, with a network of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Segment {
    /// Where all nodes are, unless it is said otherwise, and the outside host.
    First,
    /// Behind the node that routes.
    Second,
}

impl Segment {
    /// Both, in the order of a router's uplinks.
    pub const BOTH: [Self; 2] = [Self::First, Self::Second];

    /// Its bridge, in the switch.
    pub fn bridge(self) -> &'static str {
        match self {
            Self::First => names::SWITCH_BRIDGE,
            Self::Second => names::SECOND_BRIDGE,
        }
    }
}

/// A node's wire to a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uplink {
    pub(super) node: usize,
    /// Its place among the node's, from 0.
    pub(super) place: usize,
    pub(super) segment: Segment,
}

impl Uplink {
    /// The interface's name on the node: `eth0`, `eth1`.
    pub fn interface(self) -> &'static str {
        match self.place {
            0 => names::UPLINK,
            _ => names::SECOND_UPLINK,
        }
    }

    /// The segment that it leads to.
    pub fn segment(self) -> Segment {
        self.segment
    }

    /// Its MAC as the lab made it.
    pub fn mac(self) -> underpass_common::addr::Mac {
        match self.place {
            0 => names::node_mac(self.node),
            _ => names::second_mac(self.node),
        }
    }

    /// The name of its other end, in the switch: `node3`, `node3-eth1`.
    pub fn switch_port(self) -> String {
        let node = names::node(self.node);
        match self.place {
            0 => node,
            _ => format!("{node}-{}", self.interface()),
        }
    }
}

/// Who is on which segment, where there are two.
#[derive(Clone, Debug)]
pub(super) struct TwoSegments {
    /// Nodes on the second alone, from 1.
    pub behind: Vec<usize>,
    /// The node on both, from 1.
    pub router: usize,
}

impl TwoSegments {
    /// The segments of a node, in the order of its uplinks.
    pub fn of(&self, node: usize) -> &'static [Segment] {
        if node == self.router {
            &Segment::BOTH
        } else if self.behind.contains(&node) {
            &[Segment::Second]
        } else {
            &[Segment::First]
        }
    }
}
