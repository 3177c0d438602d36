//! Flows: what the kernel has been seen to forward, and the cached way out of each direction.

use crate::addr::{Address, Mac};
use crate::endpoint::Endpoint;
use crate::route::Route;

/// A flow's name, seen from the local pod, so that both directions meet in one entry.
///
/// In transit (see [`Settings::transit`](crate::settings::Settings::transit)) no pod is local: each direction
/// is a flow of its own, seen from the pod that sends, and only its [`Flow::egress`] is used.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey<A> {
    /// The local pod's address.
    pub pod: A,
    /// The address of the far end.
    pub remote: A,
    /// The pod's port, network order; for ICMP echo its identifier.
    pub pod_port: [u8; 2],
    /// The far end's port, network order; 0 for ICMP echo.
    pub remote_port: [u8; 2],
    /// IP protocol number.
    pub protocol: u8,
    /// For ICMP echo the type of what the *pod* sends, request or reply: a ping from the pod and
    /// one to it are two flows, even where the identifiers are equal. Else 0.
    pub icmp_type: u8,
    /// Always 0.
    pub _pad: [u8; 2],
}

const _: () = assert!(size_of::<FlowKey<[u8; 4]>>() == 16);
const _: () = assert!(size_of::<FlowKey<[u8; 16]>>() == 40);

impl<A> FlowKey<A> {
    /// The same key with other addresses, or with these in another form.
    pub fn with_addresses<B>(&self, pod: B, remote: B) -> FlowKey<B> {
        FlowKey {
            pod,
            remote,
            pod_port: self.pod_port,
            remote_port: self.remote_port,
            protocol: self.protocol,
            icmp_type: self.icmp_type,
            _pad: self._pad,
        }
    }
}

impl<A: Address> FlowKey<A> {
    /// The key in 32 bits, to stand in the entry itself: see [`Flow::key_check`].
    #[inline(always)]
    pub fn check(&self) -> u32 {
        let ports = [self.pod_port, self.remote_port].map(u16::from_ne_bytes);
        let addresses = [self.pod.fold(), self.remote.fold()];
        check(addresses, ports, self.protocol, self.icmp_type)
    }
}

/// [`FlowKey::check`] of a key's parts: the addresses [folded](Address::fold), the ports as the machine loads them,
/// the pod's first.
#[inline(always)]
pub fn check(addresses: [u64; 2], ports: [u16; 2], protocol: u8, icmp_type: u8) -> u32 {
    // Three multiplications that do not wait for one another; odd constants of Weyl sequences
    // (the golden ratio's, and those of Steele and Vigna's SplitMix).
    let ports = u64::from(ports[0]) << 16 | u64::from(ports[1]);
    let rest = ports << 16 | u64::from(protocol) << 8 | u64::from(icmp_type);
    let pod = addresses[0].wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let remote = addresses[1].wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let rest = rest.wrapping_mul(0x94d0_49bb_1331_11eb);
    ((pod ^ remote.rotate_left(21) ^ rest.rotate_left(42)) >> 32) as u32
}

/// How a direction came to be confirmed.
pub mod confirmed {
    /// The kernel has not been seen to forward this direction.
    pub const NO: u8 = 0;
    /// By a packet that may begin a flow: for conntrack the flow is as new as for us.
    pub const FROM_START: u8 = 1;
    /// By a TCP packet in mid-stream: conntrack holds the connection as established, so its FIN and
    /// RST go by the kernel (guard 4).
    pub const MID_STREAM: u8 = 2;
}

/// Where packets enter, and how they are addressed when they are meant to be routed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entrance {
    /// Interface index of the pod's host-side veth, or of the uplink where there are several; 0 for the only
    /// one.
    pub ifindex: u32,
    /// Destination MAC of the frames: the gateway's. All zeros for an uplink, whose frames are for its own.
    pub mac: Mac,
    /// Always 0.
    pub _pad: [u8; 2],
}

const _: () = assert!(size_of::<Entrance>() == 12);

impl Entrance {
    /// The entrance of everything that comes in by the only uplink.
    pub const WIRE: Self = Self {
        ifindex: 0,
        mac: [0; 6],
        _pad: [0; 2],
    };
}

/// Everything that a fast packet needs: where it leaves, and with which MACs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WayOut {
    /// Interface to redirect to; for a pod its host-side veth, whose other end receives.
    pub ifindex: u32,
    /// Destination MAC of the frame.
    pub dst_mac: Mac,
    /// Source MAC of the frame.
    pub src_mac: Mac,
}

impl From<Route> for WayOut {
    #[inline(always)]
    fn from(route: Route) -> Self {
        Self {
            ifindex: route.ifindex,
            dst_mac: route.peer_mac,
            src_mac: route.own_mac,
        }
    }
}

impl From<Endpoint> for WayOut {
    #[inline(always)]
    fn from(endpoint: Endpoint) -> Self {
        Self {
            ifindex: endpoint.ifindex,
            dst_mac: endpoint.pod_mac,
            src_mac: endpoint.gateway_mac,
        }
    }
}

/// One direction of a flow.
///
/// Several CPUs may read and write it at once, without locks. A writer stores `generation` 0 first
/// and the true one last; a reader that sees the same current generation before and after it copied
/// the rest has a whole copy.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Direction {
    /// [`Settings::generation`](crate::settings::Settings::generation) of the way out; 0: none yet,
    /// or just being written.
    pub generation: u32,
    /// [`Settings::epoch`](crate::settings::Settings::epoch) of the confirmation.
    pub epoch: u32,
    /// The cached way out.
    pub way_out: WayOut,
    /// Where the confirmed packet came in; another entrance is not confirmed by it.
    pub entrance: Entrance,
    /// One of [`confirmed`].
    pub confirmed: u8,
    /// Always 0.
    pub _pad: [u8; 3],
}

const _: () = assert!(size_of::<Direction>() == 40);

/// A flow's two directions, each with its own confirmation.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// [`FlowKey::check`] of the key that this is the value of.
    ///
    /// The kernel uses the entry of an evicted flow again while a program may still hold a pointer
    /// to it. It writes a new value from its first byte on: who reads this word last, and finds its
    /// own key's, has read its own flow.
    pub key_check: u32,
    /// From the pod to the wire.
    pub egress: Direction,
    /// From the wire to the pod.
    pub ingress: Direction,
}

const _: () = assert!(size_of::<Flow>() == 84);

/// A packet's addresses, ports and protocol, in the packet's own direction.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tuple<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Source port, network order; for ICMP echo the identifier.
    pub src_port: [u8; 2],
    /// Destination port, network order; for ICMP echo the identifier again.
    pub dst_port: [u8; 2],
    /// IP protocol number.
    pub protocol: u8,
    /// ICMP type, else 0.
    pub icmp_type: u8,
}

/// ICMP echo reply (RFC 792).
pub const ICMP_ECHO_REPLY: u8 = 0;
/// ICMP echo request (RFC 792).
pub const ICMP_ECHO_REQUEST: u8 = 8;
/// ICMPv6 echo request (RFC 4443).
pub const ICMPV6_ECHO_REQUEST: u8 = 128;
/// ICMPv6 echo reply (RFC 4443).
pub const ICMPV6_ECHO_REPLY: u8 = 129;
/// IP protocol number of ICMP.
pub const PROTOCOL_ICMP: u8 = 1;
/// IP protocol number of TCP.
pub const PROTOCOL_TCP: u8 = 6;
/// IP protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;
/// IP protocol number of ICMPv6.
pub const PROTOCOL_ICMPV6: u8 = 58;

impl<A> Tuple<A> {
    /// The same tuple with other addresses, or with these in another form.
    pub fn with_addresses<B>(&self, src: B, dst: B) -> Tuple<B> {
        Tuple {
            src,
            dst,
            src_port: self.src_port,
            dst_port: self.dst_port,
            protocol: self.protocol,
            icmp_type: self.icmp_type,
        }
    }
}

impl<A: Copy> Tuple<A> {
    /// The flow of a packet that a pod sends.
    #[inline(always)]
    pub fn from_pod(&self) -> FlowKey<A> {
        FlowKey {
            pod: self.src,
            remote: self.dst,
            pod_port: self.src_port,
            remote_port: if self.is_echo() {
                [0; 2]
            } else {
                self.dst_port
            },
            protocol: self.protocol,
            icmp_type: self.icmp_type,
            _pad: [0; 2],
        }
    }

    /// The flow of a packet that a pod receives.
    #[inline(always)]
    pub fn to_pod(&self) -> FlowKey<A> {
        FlowKey {
            pod: self.dst,
            remote: self.src,
            pod_port: self.dst_port,
            remote_port: if self.is_echo() {
                [0; 2]
            } else {
                self.src_port
            },
            protocol: self.protocol,
            // What the pod itself sends is the opposite of what it receives.
            icmp_type: if self.is_echo() {
                opposite(self.icmp_type)
            } else {
                0
            },
            _pad: [0; 2],
        }
    }

    /// The tuple of an answer to this packet.
    pub fn answer(&self) -> Self {
        Self {
            src: self.dst,
            dst: self.src,
            src_port: self.dst_port,
            dst_port: self.src_port,
            protocol: self.protocol,
            icmp_type: if self.is_echo() {
                opposite(self.icmp_type)
            } else {
                0
            },
        }
    }

    /// Of ICMP only echo has a tuple. Each family has a protocol number of its own for it, and no
    /// packet of the other's is ever named.
    #[inline(always)]
    fn is_echo(&self) -> bool {
        self.protocol == PROTOCOL_ICMP || self.protocol == PROTOCOL_ICMPV6
    }
}

/// The type of the answer to an echo request, and of the request to a reply.
#[inline(always)]
pub const fn opposite(echo: u8) -> u8 {
    match echo {
        ICMP_ECHO_REQUEST => ICMP_ECHO_REPLY,
        ICMPV6_ECHO_REQUEST => ICMPV6_ECHO_REPLY,
        ICMPV6_ECHO_REPLY => ICMPV6_ECHO_REQUEST,
        _ => ICMP_ECHO_REQUEST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: [u8; 4] = [10, 244, 1, 2];
    const FAR: [u8; 4] = [10, 244, 2, 3];

    fn tuple(
        src: [u8; 4],
        dst: [u8; 4],
        ports: [u16; 2],
        protocol: u8,
        icmp_type: u8,
    ) -> Tuple<[u8; 4]> {
        Tuple {
            src,
            dst,
            src_port: ports[0].to_be_bytes(),
            dst_port: ports[1].to_be_bytes(),
            protocol,
            icmp_type,
        }
    }

    #[test]
    fn both_directions_meet_in_one_entry() {
        let out = tuple(POD, FAR, [40000, 80], PROTOCOL_TCP, 0);
        let back = tuple(FAR, POD, [80, 40000], PROTOCOL_TCP, 0);
        assert_eq!(out.from_pod(), back.to_pod());
        assert_ne!(out.from_pod(), back.from_pod());
    }

    #[test]
    fn a_ping_and_its_answer_are_one_flow() {
        let request = tuple(POD, FAR, [7, 7], PROTOCOL_ICMP, ICMP_ECHO_REQUEST);
        let reply = tuple(FAR, POD, [7, 7], PROTOCOL_ICMP, ICMP_ECHO_REPLY);
        assert_eq!(request.from_pod(), reply.to_pod());
    }

    #[test]
    fn the_same_holds_of_icmpv6() {
        let mut request = Tuple {
            src: [1; 16],
            dst: [2; 16],
            src_port: [0, 7],
            dst_port: [0, 7],
            protocol: PROTOCOL_ICMPV6,
            icmp_type: ICMPV6_ECHO_REQUEST,
        };
        let reply = request.answer();
        assert_eq!(reply.icmp_type, ICMPV6_ECHO_REPLY);
        assert_eq!(reply.answer(), request);
        assert_eq!(request.from_pod(), reply.to_pod());
        assert_eq!(request.to_pod(), reply.from_pod());
        request.icmp_type = ICMPV6_ECHO_REPLY;
        assert_ne!(request.from_pod(), reply.to_pod());
    }

    #[test]
    fn keys_that_differ_in_one_bit_have_other_checks() {
        let key = tuple(POD, FAR, [40000, 80], PROTOCOL_TCP, 0).from_pod();
        let flip = |key: &FlowKey<[u8; 4]>, bit: usize| {
            let mut key = *key;
            let (byte, mask) = (bit / 8, 1 << (bit % 8));
            match byte {
                0..4 => key.pod[byte] ^= mask,
                4..8 => key.remote[byte - 4] ^= mask,
                8..10 => key.pod_port[byte - 8] ^= mask,
                10..12 => key.remote_port[byte - 10] ^= mask,
                12 => key.protocol ^= mask,
                _ => key.icmp_type ^= mask,
            }
            key
        };
        for bit in 0..14 * 8 {
            let other = flip(&key, bit);
            assert_ne!(key.check(), other.check(), "bit {bit}");
            for second in 0..bit {
                let third = flip(&key, second);
                assert_ne!(other.check(), third.check(), "bits {bit} and {second}");
            }
        }
    }

    #[test]
    fn pings_of_both_ends_are_two_flows_even_with_equal_identifiers() {
        let ours = tuple(POD, FAR, [7, 7], PROTOCOL_ICMP, ICMP_ECHO_REQUEST);
        let theirs = tuple(FAR, POD, [7, 7], PROTOCOL_ICMP, ICMP_ECHO_REQUEST);
        assert_ne!(ours.from_pod(), theirs.to_pod());
    }
}
