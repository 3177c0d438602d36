//! A node with several uplinks: the flows of its own pods, and those between other nodes' pods.

use std::net::IpAddr;

use underpass_common::flow::{Direction, Entrance, Flow};
use underpass_common::verdict::Hook;

use super::{frames as frames_of_own, packets, world as world_of_one_uplink};
use crate::builder::{Packet, error_about};
use crate::cast::{NO_DIRECTION, OUTSIDE, PEER, ROUTER, UPLINK, macs_at};
use crate::family::{Family, Twin as _};
use crate::world::World;

/// Another pod of the peer's: the two talk by this node.
const NEAR: [u8; 4] = [10, 244, 2, 5];

const BY_UPLINK: Entrance = Entrance {
    ifindex: UPLINK,
    ..Entrance::WIRE
};

/// The packets of [`packets`], from the peer's one pod to its other.
fn in_transit() -> Vec<(Packet, Flow)> {
    let sent = packets().into_iter();
    sent.map(|(packet, flow)| (packet.src(NEAR), flow))
        .collect()
}

pub fn world() -> World {
    let mut world = world_of_one_uplink();
    world.settings.transit = 1;
    for (_, flow) in &mut world.flows {
        flow.ingress.entrance = BY_UPLINK;
    }
    for family in Family::ALL {
        for (packet, flow) in in_transit() {
            for packet in [packet.clone().back(), packet] {
                let key = packet.tuple().expect("an IP packet").from_pod();
                let key = key.in_family(family);
                if !world.flows.iter().any(|(one, _)| *one == key) {
                    world.flows.push((key, one_way(flow)));
                }
            }
        }
    }
    world
}

fn one_way(flow: Flow) -> Flow {
    Flow {
        egress: Direction {
            entrance: BY_UPLINK,
            ..flow.egress
        },
        ingress: NO_DIRECTION,
        ..flow
    }
}

/// As [`frames`](super::frames) makes them.
pub fn frames() -> [Vec<Vec<u8>>; 2] {
    let [mut of_flows, mut errors] = frames_of_own(Hook::FromWire);
    let bytes = |packet: Packet| packet.or_macs(macs_at(Hook::FromWire)).bytes();
    for family in Family::ALL {
        for (packet, _) in in_transit() {
            let packet = packet.in_family(family);
            let subject = packet.clone().back();
            of_flows.push(bytes(packet));
            let kinds: &[(u8, u8)] = match family {
                Family::V4 => &[(3, 4), (11, 0), (5, 0)],
                Family::V6 => &[(1, 4), (2, 0), (137, 0)],
            };
            for &(kind, code) in kinds {
                errors.push(bytes(error_about(&subject, kind, code)));
            }
            for source in [PEER, ROUTER, OUTSIDE, [198, 51, 100, 7]] {
                let source = IpAddr::from(source).in_family(family);
                errors.push(bytes(error_about(&subject, 3, 0).src(source)));
            }
        }
    }
    [of_flows, errors]
}
