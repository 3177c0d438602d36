//! What map entries and packets hold, as the programs work on it: the same bytes as the types of
//! `underpass-common`, in words.
//!
//! Of a MAC or a port in bytes the compiler makes loads and stores of bytes, for it knows no better
//! alignment, and a word that is loaded from bytes just stored waits until they have reached the
//! cache.

use core::mem::offset_of;

use underpass_common::{
    addr::Address,
    endpoint::Endpoint,
    flow::{self, FlowKey, PROTOCOL_ICMP, PROTOCOL_ICMPV6},
    route::Route,
    settings::Settings,
    tag,
};

/// A MAC: its first four bytes, and the other two with zeros behind them.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Mac(pub [u32; 2]);

impl Mac {
    /// From bytes.
    #[inline(always)]
    pub fn of([a, b, c, d, e, f]: underpass_common::addr::Mac) -> Self {
        Self([
            u32::from_ne_bytes([a, b, c, d]),
            u32::from_ne_bytes([e, f, 0, 0]),
        ])
    }

    /// True for a group's (IEEE 802).
    #[inline(always)]
    pub fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// True for no MAC at all.
    #[inline(always)]
    pub fn is_none(self) -> bool {
        self.0[0] | self.0[1] == 0
    }
}

/// The two MACs that begin a frame, destination first.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Macs(pub [u32; 3]);

impl Macs {
    #[inline(always)]
    pub fn dst(self) -> Mac {
        let [first, middle, _] = self.0;
        Mac([first, middle & 0xffff])
    }

    #[inline(always)]
    pub fn src(self) -> Mac {
        let [_, middle, last] = self.0;
        Mac([middle >> 16 | last << 16, last >> 16])
    }
}

/// [`flow::WayOut`], and likewise a [`Route`] and an [`Endpoint`], whose MACs are those of the frames
/// to them.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct WayOut {
    pub ifindex: u32,
    pub macs: Macs,
}

const _: () = {
    assert!(size_of::<WayOut>() == size_of::<flow::WayOut>());
    assert!(offset_of!(flow::WayOut, dst_mac) == 4 && offset_of!(flow::WayOut, src_mac) == 10);
    assert!(size_of::<WayOut>() == size_of::<Route>());
    assert!(offset_of!(Route, peer_mac) == 4 && offset_of!(Route, own_mac) == 10);
    assert!(size_of::<WayOut>() == size_of::<Endpoint>());
    assert!(offset_of!(Endpoint, pod_mac) == 4 && offset_of!(Endpoint, gateway_mac) == 10);
};

impl WayOut {
    /// True where packets are the kernel's: see [`Route::is_kernels`].
    #[inline(always)]
    pub fn is_kernels(&self) -> bool {
        self.ifindex == 0
    }
}

/// [`flow::Entrance`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Entrance {
    pub ifindex: u32,
    pub mac: Mac,
}

const _: () = {
    assert!(size_of::<Entrance>() == size_of::<flow::Entrance>());
    assert!(offset_of!(flow::Entrance, mac) == 4);
};

impl Entrance {
    /// That of what comes in by an uplink: with several, which one is part of what was confirmed.
    #[inline(always)]
    pub fn of_wire(settings: &Settings, uplink: u32) -> Self {
        Self {
            ifindex: if settings.has_transit() { uplink } else { 0 },
            ..Self::WIRE
        }
    }

    /// [`flow::Entrance::WIRE`].
    pub const WIRE: Self = Self {
        ifindex: 0,
        mac: Mac([0; 2]),
    };
}

/// [`flow::Tuple`]. Its ports are a word as on the wire: the source's in its lower half, as a
/// little-endian machine loads it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Tuple<A> {
    pub src: A,
    pub dst: A,
    pub ports: u32,
    pub protocol: u8,
    pub icmp_type: u8,
}

/// [`FlowKey`]. Its ports are a word likewise, the pod's in its lower half.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key<A> {
    pub pod: A,
    pub remote: A,
    ports: u32,
    /// Protocol, and the ICMP type in the next byte.
    kind: u32,
}

const _: () = {
    assert!(size_of::<Key<[u32; 1]>>() == size_of::<FlowKey<[u8; 4]>>());
    assert!(size_of::<Key<[u32; 4]>>() == size_of::<FlowKey<[u8; 16]>>());
    assert!(
        offset_of!(FlowKey<[u8; 4]>, pod_port) == 8
            && offset_of!(FlowKey<[u8; 4]>, remote_port) == 10
    );
    assert!(
        offset_of!(FlowKey<[u8; 4]>, protocol) == 12
            && offset_of!(FlowKey<[u8; 4]>, icmp_type) == 13
    );
};

/// Lower and upper half of a word of ports.
#[inline(always)]
fn halves(ports: u32) -> [u16; 2] {
    [ports as u16, (ports >> 16) as u16]
}

impl<A: Address> Tuple<A> {
    /// See [`flow::Tuple::from_pod`].
    #[inline(always)]
    pub fn key_from_pod(&self) -> Key<A> {
        let is_echo = self.is_echo();
        Key {
            pod: self.src,
            remote: self.dst,
            ports: if is_echo {
                self.ports & 0xffff
            } else {
                self.ports
            },
            kind: u32::from(self.protocol) | u32::from(self.icmp_type) << 8,
        }
    }

    /// See [`flow::Tuple::to_pod`].
    #[inline(always)]
    pub fn key_to_pod(&self) -> Key<A> {
        let is_echo = self.is_echo();
        // What the pod itself sends is the opposite of what it receives.
        let icmp_type = if is_echo {
            flow::opposite(self.icmp_type)
        } else {
            0
        };
        Key {
            pod: self.dst,
            remote: self.src,
            ports: if is_echo {
                self.ports >> 16
            } else {
                self.ports.rotate_right(16)
            },
            kind: u32::from(self.protocol) | u32::from(icmp_type) << 8,
        }
    }

    /// See [`tag::tag`].
    #[inline(always)]
    pub fn tag(&self, seed: u32, entrance: &Entrance) -> u16 {
        let [low, high] = entrance.mac.0;
        let parts = tag::Parts {
            addresses: [self.src.fold(), self.dst.fold()],
            ports: halves(self.ports),
            protocol: self.protocol,
            icmp_type: self.icmp_type,
            mac: u64::from(low) | u64::from(high) << 32,
            ifindex: entrance.ifindex,
        };
        parts.tag(seed)
    }

    #[inline(always)]
    fn is_echo(&self) -> bool {
        self.protocol == PROTOCOL_ICMP || self.protocol == PROTOCOL_ICMPV6
    }
}

impl<A: Address> Key<A> {
    /// See [`FlowKey::check`].
    #[inline(always)]
    pub fn check(&self) -> u32 {
        let addresses = [self.pod.fold(), self.remote.fold()];
        let [protocol, icmp_type, ..] = self.kind.to_ne_bytes();
        flow::check(addresses, halves(self.ports), protocol, icmp_type)
    }
}
