//! A packet's priority among those that wait in a queue: by its TOS, as `ip_forward()` gives it
//! (`rt_tos2priority()` of the kernel's include/net/route.h); `ip6_forward()` gives none.

use underpass_common::verdict::Hook;

use crate::builder::{Packet, udp};
use crate::cast::{CONFIRMED, device_at, macs_at};
use crate::launcher::Metadata;
use crate::parsing::toward;
use crate::rig::with_rig;
use crate::table::REDIRECT;
use crate::twin;
use crate::world::World;

/// `ip_tos2prio` of the kernel's net/ipv4/route.c: best effort, bulk, interactive, interactive bulk
/// (include/uapi/linux/pkt_sched.h), each for four values of the field.
const PRIORITIES: [u32; 16] = [0, 0, 0, 0, 2, 2, 2, 2, 6, 6, 6, 6, 4, 4, 4, 4];

#[test]
fn a_fast_packet_has_the_priority_of_its_tos() {
    with_rig("a_fast_packet_has_the_priority_of_its_tos", |rig| {
        let mut world = World::usual();
        let key = udp().tuple().expect("an IP packet").from_pod();
        world.flows.push((key, CONFIRMED));
        let twin_world = world.twin().expect("a world that has a twin");
        for hook in [Hook::FromPod, Hook::FromWire] {
            let frame = |packet: Packet| toward(hook, packet).or_macs(macs_at(hook)).bytes();
            let with = Metadata {
                ifindex: device_at(hook),
                ..Metadata::default()
            };
            rig.put(&world).expect("maps");
            for tos in 0..=u8::MAX {
                let run = rig.run(hook, &frame(udp().tos(tos)), &with).expect("a run");
                assert_eq!(run.answer, REDIRECT);
                // The lowest bit and the highest three are not the TOS of RFC 1349.
                let expected = PRIORITIES[usize::from(tos & 0x1e) >> 1];
                assert_eq!(run.priority, expected, "{hook:?}: TOS {tos:#04x}");
            }
            rig.put(&twin_world).expect("maps");
            for tos in [0, 0x08, 0x10, 0x18, 0xff] {
                let frame = twin::of_frame(&frame(udp().tos(tos)));
                let run = rig.run(hook, &frame, &with).expect("a run");
                assert_eq!(
                    (run.answer, run.priority),
                    (REDIRECT, 0),
                    "{hook:?}: {tos:#04x}"
                );
            }
        }
    });
}
