//! Who is who in the tables: one node with two pods, its peer, and the devices between them.
//!
//! ```text
//!     POD .2  OTHER_POD .3              FAR_POD 10.244.2.2
//!       |        |                          |
//!   POD_VETH  OTHER_VETH                 the peer
//!       +--------+------ UPLINK -------------+
//! ```
//!
//! All addresses are IPv4's: each has a twin in IPv6, see `family`.

use underpass_common::addr::Mac;
use underpass_common::endpoint::Endpoint;
use underpass_common::flow::{Direction, Entrance, Flow, WayOut, confirmed};
use underpass_common::pod::{Pod, PodState};
use underpass_common::route::Route;
use underpass_common::verdict::Hook;

/// The node's own pods live in 10.244.1.0/24.
pub const POD: [u8; 4] = [10, 244, 1, 2];
pub const OTHER_POD: [u8; 4] = [10, 244, 1, 3];
/// The peer's pods live in 10.244.2.0/24.
pub const FAR: [u8; 4] = [10, 244, 2, 2];
/// Nobody's pod.
pub const OUTSIDE: [u8; 4] = [192, 0, 2, 1];
/// The node itself, its peer, and a router on their segment.
pub const NODE: [u8; 4] = [172, 18, 0, 2];
pub const PEER: [u8; 4] = [172, 18, 0, 3];
pub const ROUTER: [u8; 4] = [172, 18, 0, 9];

/// The kernel's own routes, and the device of each; none: a blackhole.
pub const KERNEL_ROUTES: [(&str, Option<u32>); 6] = [
    ("0.0.0.0/0", Some(UPLINK)),
    ("10.244.2.0/24", Some(UPLINK)),
    ("10.244.1.2/32", Some(POD_VETH)),
    ("10.244.1.3/32", Some(OTHER_VETH)),
    ("198.51.100.0/24", Some(NARROW_UPLINK)),
    ("203.0.113.0/24", None),
];

pub const POD_MAC: Mac = [0x02, 0, 0, 0, 0x01, 0x02];
pub const OTHER_POD_MAC: Mac = [0x02, 0, 0, 0, 0x01, 0x03];
/// The MAC that the pods see their node with.
pub const GATEWAY_MAC: Mac = [0x02, 0, 0, 0, 0x01, 0x01];
pub const UPLINK_MAC: Mac = [0x02, 0, 0, 0, 0x0a, 0x01];
pub const PEER_MAC: Mac = [0x02, 0, 0, 0, 0x0a, 0x02];
pub const STRANGER_MAC: Mac = [0x02, 0, 0, 0, 0x0a, 0x77];
pub const BROADCAST_MAC: Mac = [0xff; 6];
pub const MULTICAST_MAC: Mac = [0x01, 0, 0x5e, 0, 0, 0x01];
/// IPv6's multicast to all nodes.
pub const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 0x01];

pub const UPLINK: u32 = 10;
/// A second way to the wire, with a smaller MTU.
pub const NARROW_UPLINK: u32 = 12;
pub const POD_VETH: u32 = 20;
pub const OTHER_VETH: u32 = 22;
/// No device has this index.
pub const NO_DEVICE: u32 = 999;

/// MTU of all devices but the narrow one.
pub const MTU: usize = 1500;
pub const NARROW_MTU: usize = 1280;

pub const TO_PEER: WayOut = WayOut {
    ifindex: UPLINK,
    dst_mac: PEER_MAC,
    src_mac: UPLINK_MAC,
};

pub const TO_POD: WayOut = WayOut {
    ifindex: POD_VETH,
    dst_mac: POD_MAC,
    src_mac: GATEWAY_MAC,
};

pub const PEER_ROUTE: Route = Route {
    ifindex: UPLINK,
    peer_mac: PEER_MAC,
    own_mac: UPLINK_MAC,
};

pub const POD_ENDPOINT: Endpoint = Endpoint {
    ifindex: POD_VETH,
    pod_mac: POD_MAC,
    gateway_mac: GATEWAY_MAC,
};

pub const POD_ENTRANCE: Entrance = Entrance {
    ifindex: POD_VETH,
    mac: GATEWAY_MAC,
    _pad: [0; 2],
};

pub const GENERATION: u32 = 7;
pub const EPOCH: u32 = 3;
pub const TAG_SEED: u32 = 0x5eed_1e55;

pub const NO_DIRECTION: Direction = Direction {
    generation: 0,
    epoch: 0,
    way_out: WayOut {
        ifindex: 0,
        dst_mac: [0; 6],
        src_mac: [0; 6],
    },
    entrance: Entrance::WIRE,
    confirmed: confirmed::NO,
    _pad: [0; 3],
};

/// From the pod to the wire, as the kernel confirmed it.
pub const EGRESS: Direction = Direction {
    generation: GENERATION,
    epoch: EPOCH,
    way_out: TO_PEER,
    entrance: POD_ENTRANCE,
    confirmed: confirmed::FROM_START,
    _pad: [0; 3],
};

/// From the wire to the pod, as the kernel confirmed it.
pub const INGRESS: Direction = Direction {
    way_out: TO_POD,
    entrance: Entrance::WIRE,
    ..EGRESS
};

/// A flow whose two directions are confirmed.
pub const CONFIRMED: Flow = Flow {
    key_check: 0,
    egress: EGRESS,
    ingress: INGRESS,
};

/// What the agent writes of a veth that it has attached to.
pub fn attached(mac: Mac) -> Pod {
    Pod {
        mac,
        state: PodState::Attached as u8,
        ..Pod::default()
    }
}

/// The MACs, destination and source, of a frame that goes its right way through a hook.
pub const fn macs_at(hook: Hook) -> (Mac, Mac) {
    match hook {
        Hook::FromPod => (GATEWAY_MAC, POD_MAC),
        Hook::ToWire => (PEER_MAC, UPLINK_MAC),
        Hook::FromWire | Hook::FromWireXdp => (UPLINK_MAC, PEER_MAC),
        Hook::ToPod => (POD_MAC, GATEWAY_MAC),
    }
}

/// The device of a hook.
pub const fn device_at(hook: Hook) -> u32 {
    match hook {
        Hook::FromPod | Hook::ToPod => POD_VETH,
        Hook::FromWire | Hook::FromWireXdp | Hook::ToWire => UPLINK,
    }
}
