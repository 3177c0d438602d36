//! What the XDP program needs beside the maps of the others.

use crate::addr::Mac;

/// How long a [`Lease`] lasts, in nanoseconds. The agent renews it every second.
pub const LEASE_NS: u64 = 10_000_000_000;

/// How many uplinks a node may have.
pub const MAX_UPLINKS: usize = 16;

/// An entry of the map `xdp_lease`, by the interface index of the device that receives: whether XDP may carry what
/// comes in by it.
///
/// A veth drops what XDP hands it, without a word, once the pod's end has no NAPI any longer. Only an
/// agent that runs can tell; so without one XDP stops soon, and TC carries everything, as fast as ever.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// XDP carries packets until then, in nanoseconds of `CLOCK_MONOTONIC`; 0: it carries none.
    pub until_ns: u64,
    /// Interface index of the uplink: the key itself, or the bond that the key is a part of.
    pub uplink: u32,
    /// The uplink's own MAC: XDP sees no mark that says for whom a frame is.
    pub uplink_mac: Mac,
    /// Always 0.
    pub _pad: [u8; 6],
}

const _: () = assert!(size_of::<Lease>() == 24);
