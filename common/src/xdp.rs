//! What the XDP program needs beside the maps of the others.

use crate::addr::Mac;

/// How long a [`Lease`] lasts, in nanoseconds. The agent renews it every second.
pub const LEASE_NS: u64 = 10_000_000_000;

/// The one entry of the map `xdp_lease`.
///
/// A veth drops what XDP hands it, without a word, once the pod's end has no NAPI any longer. Only an
/// agent that runs can tell; so without one XDP stops soon, and TC carries everything, as fast as ever.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// The uplink's own MAC: XDP sees no mark that says for whom a frame is.
    pub uplink_mac: Mac,
    /// Always 0.
    pub _pad: [u8; 2],
    /// XDP carries packets until then, in nanoseconds of `CLOCK_MONOTONIC`; 0: it carries none.
    pub until_ns: u64,
}

const _: () = assert!(size_of::<Lease>() == 16);
