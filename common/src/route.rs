//! An entry of the trie: the way to a peer node.

use crate::addr::Mac;

/// The way to the node that owns a podCIDR.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Interface index of the uplink; 0 leaves the prefix to the kernel, which carves an exception
    /// out of a longer route.
    pub ifindex: u32,
    /// The peer's MAC on our L2 segment.
    pub peer_mac: Mac,
    /// Our uplink's own MAC.
    pub own_mac: Mac,
}

const _: () = assert!(size_of::<Route>() == 16);

impl Route {
    /// An exception: the kernel decides for this prefix.
    pub const KERNEL: Self = Self {
        ifindex: 0,
        peer_mac: [0; 6],
        own_mac: [0; 6],
    };

    /// True where packets for this prefix are the kernel's.
    #[inline(always)]
    pub fn is_kernels(&self) -> bool {
        self.ifindex == 0
    }
}
