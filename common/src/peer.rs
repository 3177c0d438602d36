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

/// What became of a node's claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum PeerState {
    /// Its podCIDR stands in the trie.
    Ready = 1,
    /// Its address has no MAC yet, or the neighbour has failed: the kernel's road is taken.
    WaitingForNeighbour = 2,
    /// The kernel routes its podCIDR elsewhere, or not at all: the kernel's road is taken.
    KernelRoutesElsewhere = 3,
    /// Its address is not on-link at our uplink.
    NotOnLink = 4,
    /// The claim is refused; the reason says why.
    Refused = 5,
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

/// Value of the map `peers`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// IPv4 podCIDR; zeros: none.
    pub pod_cidr_v4: [u8; 4],
    /// The peer's IPv4 address on our segment; zeros: none.
    pub address_v4: [u8; 4],
    /// IPv6 podCIDR; zeros: none.
    pub pod_cidr_v6: [u8; 16],
    /// The peer's IPv6 address on our segment; zeros: none.
    pub address_v6: [u8; 16],
    /// Its MAC; zeros: unknown.
    pub mac: Mac,
    /// Length of the IPv4 podCIDR's prefix.
    pub pod_cidr_v4_len: u8,
    /// Length of the IPv6 podCIDR's prefix.
    pub pod_cidr_v6_len: u8,
    /// A [`PeerState`].
    pub state: u8,
    /// A [`Refusal`].
    pub refusal: u8,
    /// Always 0.
    pub _pad: [u8; 2],
}

const _: () = assert!(size_of::<PeerName>() == 256);
const _: () = assert!(size_of::<Peer>() == 52);

impl PeerState {
    /// All states.
    pub const ALL: [Self; 5] = [
        Self::Ready,
        Self::WaitingForNeighbour,
        Self::KernelRoutesElsewhere,
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
