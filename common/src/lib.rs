//! What the BPF programs and user space agree on: the layout of every map, the verdicts and the
//! arithmetic that both must do alike.
//!
//! All types are `repr(C)`, have their padding spelled out and hold addresses, MACs and ports as
//! bytes in network order. Counters and indexes are in the byte order of the machine.
//! Whatever changes a layout here must raise [`settings::LAYOUT_VERSION`].
#![no_std]

pub mod addr;
pub mod agent;
pub mod checksum;
pub mod endpoint;
pub mod flow;
pub mod packet_trace;
pub mod peer;
pub mod pod;
pub mod route;
pub mod settings;
pub mod tag;
pub mod verdict;
pub mod xdp;

/// The names under which maps are pinned, in `<bpffs dir>/<name>`, and shown by `bpftool map`.
pub mod map_names {
    /// LPM trie: IPv4 podCIDR -> [`Route`](crate::route::Route).
    pub const ROUTES_V4: &str = "routes_v4";
    /// Hash: local pod's IPv4 address -> [`Endpoint`](crate::endpoint::Endpoint).
    pub const ENDPOINTS_V4: &str = "endpoints_v4";
    /// LRU hash: [`FlowKey`](crate::flow::FlowKey) -> [`Flow`](crate::flow::Flow).
    pub const FLOWS_V4: &str = "flows_v4";
    /// LPM trie: IPv6 podCIDR -> [`Route`](crate::route::Route).
    pub const ROUTES_V6: &str = "routes_v6";
    /// Hash: local pod's IPv6 address -> [`Endpoint`](crate::endpoint::Endpoint).
    pub const ENDPOINTS_V6: &str = "endpoints_v6";
    /// LRU hash: [`FlowKey`](crate::flow::FlowKey) -> [`Flow`](crate::flow::Flow).
    pub const FLOWS_V6: &str = "flows_v6";
    /// Per-CPU array: [`verdict::index`](crate::verdict::index) -> [`Count`](crate::verdict::Count).
    pub const VERDICTS: &str = "verdicts";
    /// Array of one [`Settings`](crate::settings::Settings).
    pub const SETTINGS: &str = "settings";
    /// Hash: veth's interface index -> [`Pod`](crate::pod::Pod).
    pub const PODS: &str = "pods";
    /// Hash: [`PeerName`](crate::peer::PeerName) -> [`Peer`](crate::peer::Peer); for people.
    pub const PEERS: &str = "peers";
    /// Array of one [`Agent`](crate::agent::Agent); for people and for `detach`.
    pub const AGENT: &str = "agent";
    /// Per-CPU array of one [`Traced`](crate::packet_trace::Traced); not pinned.
    pub const TRACED: &str = "traced";
    /// Per-CPU array of one [`Entrance`](crate::flow::Entrance): the last pod packet stamped.
    pub const LAST_STAMPED: &str = "last_stamped";
    /// Hash: interface index of an uplink, or of a bonded part of one -> [`Lease`](crate::xdp::Lease): whether
    /// XDP may carry what comes in by it.
    pub const XDP_LEASE: &str = "xdp_lease";
    /// Devmap (hash): interface index of a pod's host-side veth -> the same, where the pod's end takes
    /// frames from XDP.
    pub const XDP_PODS: &str = "xdp_pods";
    /// Devmap (hash): uplink's interface index -> the same, where it sends what XDP hands it.
    pub const XDP_UPLINKS: &str = "xdp_uplinks";
}

/// Lets user space read and write these types through aya.
#[cfg(feature = "user")]
macro_rules! plain_old_data {
    ($($type:ty),+ $(,)?) => {$(
        // SAFETY: `repr(C)`, no padding that is not a field (asserted beside each type), and every
        // bit pattern is a value.
        unsafe impl aya::Pod for $type {}
    )+};
}
#[cfg(feature = "user")]
plain_old_data!(
    agent::Agent,
    endpoint::Endpoint,
    flow::Entrance,
    flow::Flow,
    flow::FlowKey<[u8; 4]>,
    flow::FlowKey<[u8; 16]>,
    packet_trace::Filter,
    packet_trace::Traced,
    peer::Peer,
    peer::PeerName,
    pod::Pod,
    route::Route,
    settings::Settings,
    verdict::Count,
    xdp::Lease,
);
