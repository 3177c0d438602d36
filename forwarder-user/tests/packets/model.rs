//! The rules of the entrances once more, written from the design over plain bytes and with none of
//! the datapath's code: what a frame must look like to go past the kernel, and how it comes out.

mod kernel;
mod read;

use std::net::IpAddr;

use underpass_common::flow::{Direction, Flow, FlowKey, WayOut, confirmed};
use underpass_common::verdict::Hook;

use crate::builder::{ACK, FIN, RST, SYN, priority_of};
use crate::cast::{MTU, NARROW_MTU, NARROW_UPLINK, OTHER_VETH, POD_VETH, UPLINK, UPLINK_MAC};
use crate::family::Family;
use crate::world::World;
use read::{Ip, Kind, Names};

/// A frame, and where it comes in.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    pub hook: Hook,
    pub ifindex: u32,
    /// Payload bytes of each segment of a train; 0 for a single packet.
    pub gso_size: u32,
    pub frame: &'a [u8],
}

/// What comes out of a frame that goes past the kernel.
pub struct Fast {
    pub frame: Vec<u8>,
    /// `None`: what it was.
    pub priority: Option<u32>,
    /// It is an ICMP error.
    pub is_error: bool,
}

/// Whose packets those at a hook may be.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    /// One of our pods sends it.
    FromPod,
    /// It is for one of them.
    ToPod,
    /// It is on its way between other nodes' pods.
    Transit,
}

impl Side {
    fn of(world: &World, hook: Hook, ip: &Ip) -> Option<Self> {
        match hook {
            Hook::FromPod => is_own(ip.src).then_some(Self::FromPod),
            _ if is_own(ip.dst) => Some(Self::ToPod),
            _ => (world.settings.transit != 0 && !is_own(ip.src)).then_some(Self::Transit),
        }
    }

    /// Flows are seen from the pod that sends, or else from the one that receives.
    fn is_outgoing(self) -> bool {
        self != Self::ToPod
    }
}

/// `None`: the kernel has the frame, as it came.
pub fn fast(world: &World, arrival: Arrival<'_>) -> Option<Fast> {
    let Arrival { hook, frame, .. } = arrival;
    let is_from_a_station = frame[6] & 1 == 0 && frame[6..12] != [0; 6];
    let is_for_one = frame[0] & 1 == 0;
    let is_for_us = hook == Hook::FromPod || frame[..6] == UPLINK_MAC;
    if !is_from_a_station || !is_for_one || !is_for_us {
        return None;
    }
    let ip = Ip::of_frame(frame)?;
    let is_padded = ip.total_len < frame.len() - 14;
    if is_padded && arrival.gso_size != 0 {
        return None;
    }
    let side = Side::of(world, hook, &ip)?;
    let way_out = match ip.kind {
        Kind::Flow(names) => flows_way_out(world, arrival, side, &ip, names)?,
        Kind::Error => errors_way_out(world, arrival, side, &ip)?,
    };
    let mtu = mtu(way_out.ifindex)?;
    let fits = match arrival.gso_size as usize {
        0 => frame.len() <= 14 + mtu,
        segment => ip.headers_len + segment <= mtu,
    };
    (ip.hops > 1 && fits).then(|| Fast {
        frame: forwarded(&ip, frame, way_out),
        priority: (ip.family == Family::V4).then(|| priority_of(frame[15])),
        is_error: matches!(ip.kind, Kind::Error),
    })
}

/// The podCIDRs of the usual world.
fn is_own(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[..3] == [10, 244, 1],
        IpAddr::V6(v6) => v6.segments()[..4] == [0xfd00, 0x10, 0x244, 1],
    }
}

fn flows_way_out(
    world: &World,
    arrival: Arrival<'_>,
    side: Side,
    ip: &Ip,
    names: Names,
) -> Option<WayOut> {
    let has = |flag| names.tcp_flags & flag != 0;
    if names.is_tcp && (has(SYN) || !has(ACK)) {
        return None;
    }
    let flow = find(world, &key(ip, names, side.is_outgoing()))?;
    let direction = match side {
        Side::ToPod => flow.ingress,
        Side::FromPod | Side::Transit => flow.egress,
    };
    let closes_late =
        names.is_tcp && direction.confirmed == confirmed::MID_STREAM && (has(FIN) || has(RST));
    if !may_use(world, arrival, &direction) || closes_late {
        return None;
    }
    if direction.generation == world.settings.generation {
        return Some(direction.way_out);
    }
    looked_up(world, side, ip)
}

/// An error belongs to the flow of the packet that it quotes, which went the other way, and must come
/// from where the kernel would look for its sender.
fn errors_way_out(world: &World, arrival: Arrival<'_>, side: Side, ip: &Ip) -> Option<WayOut> {
    let quote = &arrival.frame[14..][..ip.total_len][ip.headers_len..];
    let (quoted, names) = Ip::quoted(ip.family, quote)?;
    let is_from_pod = side == Side::FromPod;
    if quoted.src != ip.dst || (is_from_pod && quoted.dst != ip.src) {
        return None;
    }
    let flow = find(world, &key(&quoted, names, !side.is_outgoing()))?;
    let (own, other) = match side {
        Side::FromPod => (flow.egress, flow.ingress),
        Side::ToPod => (flow.ingress, flow.egress),
        // Each direction is a flow of its own.
        Side::Transit => (flow.egress, find(world, &key(&quoted, names, true))?.egress),
    };
    let is_known = other.confirmed != confirmed::NO && other.epoch == world.settings.epoch;
    if !may_use(world, arrival, &own) || !is_known {
        return None;
    }
    if !is_from_pod && !kernel::sends_out_of(arrival.ifindex, ip.src) {
        return None;
    }
    looked_up(world, side, ip)
}

fn find(world: &World, key: &FlowKey<IpAddr>) -> Option<Flow> {
    let mut flows = world.flows.iter();
    flows.find(|(one, _)| one == key).map(|(_, flow)| *flow)
}

fn may_use(world: &World, arrival: Arrival<'_>, direction: &Direction) -> bool {
    let (ifindex, mac) = match arrival.hook {
        Hook::FromPod => (arrival.ifindex, &arrival.frame[..6]),
        // Of several uplinks it matters which.
        _ if world.settings.transit != 0 => (arrival.ifindex, &[0; 6][..]),
        _ => (0, &[0; 6][..]),
    };
    direction.confirmed != confirmed::NO
        && direction.epoch == world.settings.epoch
        && direction.generation != 0
        && direction.entrance.ifindex == ifindex
        && direction.entrance.mac == mac
}

/// The flow of a packet that a pod sends, or is sent.
fn key(ip: &Ip, names: Names, is_outgoing: bool) -> FlowKey<IpAddr> {
    let [src_port, dst_port] = names.ports;
    let (pod, remote, pod_port, remote_port) = match is_outgoing {
        true => (ip.src, ip.dst, src_port, dst_port),
        false => (ip.dst, ip.src, dst_port, src_port),
    };
    // What the pod sends: whom it asks, or whom it answers.
    let icmp_type = match (names.echo, ip.family) {
        (None, _) => 0,
        (Some(kind), _) if is_outgoing => kind,
        (Some(kind), Family::V4) => 8 - kind,
        // 128 and 129.
        (Some(kind), Family::V6) => kind ^ 1,
    };
    FlowKey {
        pod,
        remote,
        pod_port,
        remote_port: match names.echo {
            Some(_) => [0; 2],
            None => remote_port,
        },
        protocol: ip.protocol,
        icmp_type,
        _pad: [0; 2],
    }
}

/// Where trie or endpoints send the packet now.
fn looked_up(world: &World, side: Side, ip: &Ip) -> Option<WayOut> {
    if side == Side::ToPod {
        let endpoint = world.endpoints.get(&ip.dst)?;
        return Some(WayOut {
            ifindex: endpoint.ifindex,
            dst_mac: endpoint.pod_mac,
            src_mac: endpoint.gateway_mac,
        });
    }
    let holding = world
        .routes
        .iter()
        .filter(|(prefix, _)| prefix.contains(&ip.dst));
    let (_, route) = holding.max_by_key(|(prefix, _)| prefix.prefix_len())?;
    (route.ifindex != 0).then_some(WayOut {
        ifindex: route.ifindex,
        dst_mac: route.peer_mac,
        src_mac: route.own_mac,
    })
}

fn forwarded(ip: &Ip, frame: &[u8], way_out: WayOut) -> Vec<u8> {
    let mut frame = frame[..14 + ip.total_len].to_vec();
    frame[..6].copy_from_slice(&way_out.dst_mac);
    frame[6..12].copy_from_slice(&way_out.src_mac);
    if ip.family == Family::V6 {
        frame[14 + 7] -= 1;
        return frame;
    }
    frame[14 + 8] -= 1;
    // One less in the high byte of a halfword: 0x0100 more in the ones' complement of the sum
    // (RFC 1141), where 0xffff is written as 0, as the kernel does.
    let sum = u32::from(u16::from_be_bytes([frame[14 + 10], frame[14 + 11]])) + 0x0100;
    let sum = (sum + u32::from(sum >= 0xffff)) as u16;
    frame[14 + 10..14 + 12].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// The MTU of the devices that there are.
fn mtu(ifindex: u32) -> Option<usize> {
    match ifindex {
        UPLINK | POD_VETH | OTHER_VETH => Some(MTU),
        NARROW_UPLINK => Some(NARROW_MTU),
        _ => None,
    }
}
