//! The switches of the datapath: one entry, written by the agent, read by every program.

use crate::addr::Block;

/// Version of every layout in this crate. Raise it with any change of a map's key, value or meaning:
/// an agent that finds another version in pinned maps starts afresh instead of misreading them.
pub const LAYOUT_VERSION: u32 = 4;

/// How many podCIDRs of one family a node may have.
pub const MAX_POD_CIDRS: usize = 4;

/// What may take the fast path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Offload {
    /// Nothing: every packet is the kernel's. Also what an unwritten map says.
    Off = 0,
    /// What the kernel itself has forwarded before.
    Confirmed = 1,
    /// Whatever the trie has an answer for.
    Always = 2,
}

/// The one entry of the map `settings`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// [`LAYOUT_VERSION`] of who made the maps.
    pub layout_version: u32,
    /// Goes up, skipping 0, *after* a route or an endpoint has changed: a flow's cached way out of
    /// an older generation is looked up again.
    pub generation: u32,
    /// Goes up when confirmations themselves may be wrong (the kernel's policy routing changed): a
    /// direction confirmed in an older epoch is the kernel's until confirmed again.
    pub epoch: u32,
    /// Seeds the tags; random.
    pub tag_seed: u32,
    /// An [`Offload`].
    pub offload: u8,
    /// How many of `pod_cidrs_v4` are set.
    pub pod_cidrs_v4_len: u8,
    /// How many of `pod_cidrs_v6` are set.
    pub pod_cidrs_v6_len: u8,
    /// 1: this node has several uplinks, and what other nodes' pods send one another by it may go fast, too
    /// (transit). 0: it has one, and carries what its own pods send and receive.
    pub transit: u8,
    /// This node's own IPv4 podCIDRs.
    pub pod_cidrs_v4: [Block<[u8; 4]>; MAX_POD_CIDRS],
    /// This node's own IPv6 podCIDRs.
    pub pod_cidrs_v6: [Block<[u8; 16]>; MAX_POD_CIDRS],
}

impl Settings {
    /// True where packets between other nodes' pods may go fast.
    #[inline(always)]
    pub fn has_transit(&self) -> bool {
        self.transit != 0
    }

    /// True where every packet is the kernel's.
    #[inline(always)]
    pub fn is_off(&self) -> bool {
        self.offload == Offload::Off as u8
    }
}

const _: () = assert!(size_of::<Settings>() == 20 + 4 * 8 + 4 * 32);
