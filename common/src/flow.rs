//! Flows: what the kernel has been seen to forward, and the cached way out of each direction.

use crate::addr::{Address, Mac};
use crate::endpoint::Endpoint;
use crate::route::Route;

/// A flow's name, seen from the local pod, so that both directions meet in one entry.
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

/// Where a pod's packets enter, and how they are addressed when they are meant to be routed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entrance {
    /// Interface index of the pod's host-side veth; 0 for the wire.
    pub ifindex: u32,
    /// Destination MAC of the frames: the gateway's.
    pub mac: Mac,
    /// Always 0.
    pub _pad: [u8; 2],
}

const _: () = assert!(size_of::<Entrance>() == 12);

impl Entrance {
    /// The entrance of everything that comes in by an uplink.
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
    /// From the pod to the wire.
    pub egress: Direction,
    /// From the wire to the pod.
    pub ingress: Direction,
}

const _: () = assert!(size_of::<Flow>() == 80);

/// A packet's addresses, ports and protocol, in the packet's own direction.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
/// IP protocol number of ICMP.
pub const PROTOCOL_ICMP: u8 = 1;
/// IP protocol number of TCP.
pub const PROTOCOL_TCP: u8 = 6;
/// IP protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;

impl<A: Address> Tuple<A> {
    /// The flow of a packet that a pod sends.
    #[inline(always)]
    pub fn from_pod(&self) -> FlowKey<A> {
        FlowKey {
            pod: self.src,
            remote: self.dst,
            pod_port: self.src_port,
            remote_port: if self.protocol == PROTOCOL_ICMP {
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
        let icmp = self.protocol == PROTOCOL_ICMP;
        FlowKey {
            pod: self.dst,
            remote: self.src,
            pod_port: self.dst_port,
            remote_port: if icmp { [0; 2] } else { self.src_port },
            protocol: self.protocol,
            // What the pod itself sends is the opposite of what it receives.
            icmp_type: match icmp {
                true if self.icmp_type == ICMP_ECHO_REQUEST => ICMP_ECHO_REPLY,
                true => ICMP_ECHO_REQUEST,
                false => 0,
            },
            _pad: [0; 2],
        }
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
    fn pings_of_both_ends_are_two_flows_even_with_equal_identifiers() {
        let ours = tuple(POD, FAR, [7, 7], PROTOCOL_ICMP, ICMP_ECHO_REQUEST);
        let theirs = tuple(FAR, POD, [7, 7], PROTOCOL_ICMP, ICMP_ECHO_REQUEST);
        assert_ne!(ours.from_pod(), theirs.to_pod());
    }
}
