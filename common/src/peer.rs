//! The other nodes, as `underpass peers` shows them. No program reads this map.

use crate::addr::Mac;

/// Key of the map `peers`: a node's name, ended by zeros (a Kubernetes node name is a DNS subdomain
/// name of at most 253 characters, RFC 1123).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerName {
    /// UTF-8.
    pub name: [u8; 256],
}

/// What became of a node's claim. The greater is the worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum PeerState {
    /// Its podCIDR stands in the trie.
    Ready = 1,
    /// Its address has no MAC yet, or the neighbour has failed: the kernel's road is taken.
    WaitingForNeighbour = 2,
    /// The kernel routes its podCIDR elsewhere, or not at all: the kernel's road is taken.
    KernelRoutesElsewhere = 3,
    /// The kernel keeps another MTU for the way than the uplink's own, which only it can honour:
    /// the kernel's road is taken.
    OtherMtu = 4,
    /// Its address is not on-link at our uplink.
    NotOnLink = 5,
    /// The claim is refused; the reason says why.
    Refused = 6,
}

/// Why a claim is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Refusal {
    /// Not refused.
    None = 0,
    /// The Node has no podCIDR.
    NoPodCidr = 1,
    /// The Node has no usable InternalIP.
    NoAddress = 2,
    /// A podCIDR or an address is not what it should be.
    Malformed = 3,
    /// The podCIDR is shorter than /8 (IPv6: /32).
    TooShort = 4,
    /// The podCIDR lies outside the cluster CIDR.
    OutsideClusterCidr = 5,
    /// The podCIDR overlaps our own.
    OverlapsOwn = 6,
    /// The podCIDR overlaps another node's.
    OverlapsPeer = 7,
    /// The podCIDR holds a node's address.
    HoldsNodeAddress = 8,
    /// Two Nodes of one name, or one address claimed twice.
    Duplicate = 9,
}

/// A node in one address family.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerFamily<A> {
    /// Its podCIDR; zeros: none. The first, where it has several.
    pub pod_cidr: A,
    /// Its address on our segment; zeros: none.
    pub address: A,
    /// Its MAC, as this family's neighbour table knows it; zeros: unknown.
    pub mac: Mac,
    /// Length of the podCIDR's prefix.
    pub pod_cidr_len: u8,
    /// A [`PeerState`]; 0: the node has no podCIDR of this family.
    pub state: u8,
    /// A [`Refusal`].
    pub refusal: u8,
    /// Always 0.
    pub _pad: [u8; 3],
}

/// Value of the map `peers`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// The node in IPv4.
    pub v4: PeerFamily<[u8; 4]>,
    /// The node in IPv6.
    pub v6: PeerFamily<[u8; 16]>,
    /// A [`PeerState`]: the worst of those families that it has a podCIDR and an address of.
    pub state: u8,
    /// A [`Refusal`].
    pub refusal: u8,
    /// Always 0.
    pub _pad: [u8; 2],
}

const _: () = assert!(size_of::<PeerName>() == 256);
const _: () = assert!(size_of::<PeerFamily<[u8; 4]>>() == 20);
const _: () = assert!(size_of::<PeerFamily<[u8; 16]>>() == 44);
const _: () = assert!(size_of::<Peer>() == 20 + 44 + 4);

impl PeerState {
    /// All states.
    pub const ALL: [Self; 6] = [
        Self::Ready,
        Self::WaitingForNeighbour,
        Self::KernelRoutesElsewhere,
        Self::OtherMtu,
        Self::NotOnLink,
        Self::Refused,
    ];

    /// The state of that number, where there is one.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| *state as u8 == number)
    }

    /// Its name in JSON and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::WaitingForNeighbour => "waiting_for_neighbour",
            Self::KernelRoutesElsewhere => "kernel_routes_elsewhere",
            Self::OtherMtu => "other_mtu",
            Self::NotOnLink => "not_on_link",
            Self::Refused => "refused",
        }
    }
}

impl Refusal {
    /// All reasons.
    pub const ALL: [Self; 10] = [
        Self::None,
        Self::NoPodCidr,
        Self::NoAddress,
        Self::Malformed,
        Self::TooShort,
        Self::OutsideClusterCidr,
        Self::OverlapsOwn,
        Self::OverlapsPeer,
        Self::HoldsNodeAddress,
        Self::Duplicate,
    ];

    /// The reason of that number, where there is one.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as u8 == number)
    }

    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::NoPodCidr => "no_pod_cidr",
            Self::NoAddress => "no_address",
            Self::Malformed => "malformed",
            Self::TooShort => "too_short",
            Self::OutsideClusterCidr => "outside_cluster_cidr",
            Self::OverlapsOwn => "overlaps_own",
            Self::OverlapsPeer => "overlaps_peer",
            Self::HoldsNodeAddress => "holds_node_address",
            Self::Duplicate => "duplicate",
        }
    }

    /// A few words for people.
    pub const fn description(self) -> &'static str {
        match self {
            Self::None => "not refused",
            Self::NoPodCidr => "the Node has no podCIDR",
            Self::NoAddress => "the Node has no usable InternalIP",
            Self::Malformed => "a podCIDR or an address is malformed",
            Self::TooShort => "the podCIDR is shorter than /8 (IPv6: /32)",
            Self::OutsideClusterCidr => "the podCIDR lies outside the cluster CIDR",
            Self::OverlapsOwn => "the podCIDR overlaps this node's own",
            Self::OverlapsPeer => "the podCIDR overlaps another node's",
            Self::HoldsNodeAddress => "the podCIDR holds a node's address",
            Self::Duplicate => "another Node has this name or address",
        }
    }
}
