//! Packets' lives: what an entrance stamps, the kernel carries to an exit, and what follows from it.
//! The kernel's part is played here: it routes a packet, or translates it, and keeps `tc_index`.

use underpass_common::flow::{Direction, confirmed};
use underpass_common::tag;
use underpass_common::verdict::{Hook, Verdict};

use crate::builder::{ACK, FIN, Packet, SYN, echo_reply, echo_request, error_about, tcp, udp};
use crate::cast::{FAR, POD, device_at, macs_at};
use crate::family::{Family, Twin as _};
use crate::launcher::Metadata;
use crate::rig::{Rig, with_rig};
use crate::table::REDIRECT;
use crate::world::World;

/// A ClusterIP.
const SERVICE: [u8; 4] = [10, 96, 0, 10];

/// The node, and what passes through it: stories are told in IPv4, and may happen in IPv6.
struct Node<'a> {
    rig: &'a mut Rig,
    family: Family,
}

/// Runs a story in each family, on a node that knows its peer, and no pods yet.
fn story(test: &str, tell: impl Fn(&mut Node<'_>) + Send + Sync) {
    for family in Family::ALL {
        with_rig(test, |rig| {
            let mut world = World::usual();
            world.endpoints.clear();
            rig.put(&world).expect("maps");
            tell(&mut Node { rig, family });
        });
    }
}

impl Node<'_> {
    /// A pod's packet; the kernel forwards it as it is.
    fn sends(&mut self, packet: Packet) -> bool {
        self.passes([Hook::FromPod, Hook::ToWire], packet.clone(), packet)
    }

    /// A packet for a pod, likewise.
    fn receives(&mut self, packet: Packet) -> bool {
        self.passes([Hook::FromWire, Hook::ToPod], packet.clone(), packet)
    }

    /// A pod's packet that the kernel translates.
    fn sends_translated(&mut self, packet: Packet, translated: Packet) -> bool {
        self.passes([Hook::FromPod, Hook::ToWire], packet, translated)
    }

    fn receives_translated(&mut self, packet: Packet, translated: Packet) -> bool {
        self.passes([Hook::FromWire, Hook::ToPod], packet, translated)
    }

    /// A packet that the kernel drops.
    fn sends_in_vain(&mut self, packet: Packet) -> bool {
        self.enters(Hook::FromPod, packet).is_none()
    }

    /// True where it went past the kernel.
    fn passes(&mut self, [entrance, exit]: [Hook; 2], packet: Packet, leaving: Packet) -> bool {
        let Some(witness) = self.enters(entrance, packet) else {
            return true;
        };
        let (dst, src) = macs_at(exit);
        let metadata = Metadata {
            ifindex: device_at(exit),
            witness,
            ..Metadata::default()
        };
        let frame = leaving.in_family(self.family).routed(dst, src).bytes();
        let run = self.rig.run(exit, &frame, &metadata).expect("a run");
        assert_eq!(run.bytes, frame, "an exit only watches");
        assert_eq!(run.witness, tag::NONE, "nobody behind us finds the tag");
        false
    }

    /// The tag of a packet that is left to the kernel; `None`: it went past it.
    fn enters(&mut self, entrance: Hook, packet: Packet) -> Option<u16> {
        let metadata = Metadata {
            ifindex: device_at(entrance),
            ..Metadata::default()
        };
        let packet = packet.in_family(self.family);
        let frame = packet.or_macs(macs_at(entrance)).bytes();
        let run = self.rig.run(entrance, &frame, &metadata).expect("a run");
        (run.answer != REDIRECT).then_some(run.witness)
    }

    fn count(&self, hook: Hook, verdict: Verdict) -> u64 {
        self.rig.counts().expect("counts")[&(hook, verdict)].packets
    }

    /// The direction from the pod of the only flow.
    fn egress(&self) -> Direction {
        let flows = self.rig.world().expect("maps").flows;
        assert_eq!(flows.len(), 1, "one flow");
        flows[0].1.egress
    }
}

#[test]
fn the_kernel_goes_first_in_each_direction() {
    story("the_kernel_goes_first_in_each_direction", |node| {
        assert!(!node.sends(udp()));
        assert!(node.sends(udp()), "the direction is confirmed");
        assert!(!node.receives(udp().back()), "the other is not");
        assert!(node.receives(udp().back()));
        assert!(node.sends(udp()), "and took nothing from the first");
    });
}

#[test]
fn a_ping_is_fast_after_its_first_exchange() {
    story("a_ping_is_fast_after_its_first_exchange", |node| {
        assert!(!node.sends(echo_request(7)) && !node.receives(echo_reply(7).back()));
        assert!(node.sends(echo_request(7)) && node.receives(echo_reply(7).back()));
        // The far pod's ping, with the same identifier.
        assert!(!node.receives(echo_request(7).back()) && !node.sends(echo_reply(7)));
        assert!(node.receives(echo_request(7).back()) && node.sends(echo_reply(7)));
    });
}

#[test]
fn conntrack_sees_two_packets_of_a_connection() {
    story("conntrack_sees_two_packets_of_a_connection", |node| {
        for _ in 0..2 {
            assert!(!node.sends(tcp(SYN)));
            assert!(!node.receives(tcp(SYN | ACK).back()));
            assert!(node.sends(tcp(ACK)) && node.receives(tcp(ACK).back()));
            assert!(node.sends(tcp(FIN | ACK)) && node.receives(tcp(FIN | ACK).back()));
            assert_eq!(node.egress().confirmed, confirmed::FROM_START);
        }
    });
}

#[test]
fn a_connection_older_than_we_is_picked_up_and_closed_by_the_kernel() {
    story(
        "a_connection_older_than_we_is_picked_up_and_closed_by_the_kernel",
        |node| {
            assert!(!node.sends(tcp(ACK)) && node.sends(tcp(ACK)));
            for _ in 0..2 {
                assert!(!node.sends(tcp(FIN | ACK)), "guard 4");
            }
            assert_eq!(node.count(Hook::FromPod, Verdict::TcpClosing), 2);
        },
    );
}

#[test]
fn a_fin_that_the_kernel_drops_is_fast_when_sent_again() {
    story(
        "a_fin_that_the_kernel_drops_is_fast_when_sent_again",
        |node| {
            assert!(!node.sends(tcp(ACK)) && node.sends(tcp(ACK)));
            assert!(!node.sends_in_vain(tcp(FIN | ACK)), "guard 4");
            assert!(node.sends(tcp(FIN | ACK)));
        },
    );
}

#[test]
fn what_the_kernel_drops_is_never_confirmed() {
    story("what_the_kernel_drops_is_never_confirmed", |node| {
        for _ in 0..3 {
            assert!(!node.sends_in_vain(udp()));
        }
        assert_eq!(node.rig.world().expect("maps").flows, []);
    });
}

#[test]
fn an_error_follows_the_flow_that_it_is_about() {
    story("an_error_follows_the_flow_that_it_is_about", |node| {
        // Too big for a router on the way.
        let error = || error_about(&udp(), 3, 4);
        assert!(!node.receives(error()), "nobody knows the flow");
        assert!(!node.sends(udp()) && node.sends(udp()));
        assert!(!node.receives(error()), "answers are not confirmed");
        assert!(
            !node.sends(udp()),
            "conntrack has to see what the next error is about"
        );
        assert!(!node.receives(udp().back()) && node.receives(udp().back()));
        assert!(node.receives(error()));
        assert!(node.sends(udp()) && node.receives(udp().back()));
        // What the far pod sends is too big for us.
        assert!(node.sends(error_about(&udp().back(), 3, 4)));
    });
}

#[test]
fn each_family_has_flows_of_its_own() {
    story("each_family_has_flows_of_its_own", |node| {
        assert!(!node.sends(udp()) && node.sends(udp()));
        node.family = match node.family {
            Family::V4 => Family::V6,
            Family::V6 => Family::V4,
        };
        assert!(!node.sends(udp()) && node.sends(udp()));
        assert_eq!(node.rig.world().expect("maps").flows.len(), 2);
    });
}

#[test]
fn a_translated_flow_is_never_confirmed() {
    story("a_translated_flow_is_never_confirmed", |node| {
        let to_service = || udp().to(SERVICE, 53);
        let to_backend = || udp().to(FAR, 5353);
        for _ in 0..3 {
            assert!(!node.sends_translated(to_service(), to_backend()));
            assert!(!node.receives_translated(to_backend().back(), to_service().back()));
        }
        assert_eq!(node.rig.world().expect("maps").flows, []);
        assert_eq!(node.count(Hook::ToWire, Verdict::Unwitnessed), 3);
        assert_eq!(node.count(Hook::ToPod, Verdict::Unwitnessed), 3);
    });
}

#[test]
fn a_translated_flow_takes_the_tuple_of_a_direct_one() {
    story(
        "a_translated_flow_takes_the_tuple_of_a_direct_one",
        |node| {
            let direct = || udp().from(POD, 40_000).to(FAR, 5353);
            let to_service = || udp().from(POD, 40_000).to(SERVICE, 53);
            assert!(!node.sends(direct()) && !node.receives(direct().back()));
            assert!(node.sends(direct()) && node.receives(direct().back()));
            assert!(!node.sends_translated(to_service(), direct()));
            assert!(
                !node.receives_translated(direct().back(), to_service().back()),
                "the answer needs the kernel, which translates it back"
            );
            assert!(!node.sends(direct()), "guard 2 cleared both directions");
        },
    );
}

#[test]
fn a_new_seed_makes_packets_on_their_way_strangers() {
    story("a_new_seed_makes_packets_on_their_way_strangers", |node| {
        let witness = node
            .enters(Hook::FromPod, udp())
            .expect("left to the kernel");
        let mut world = World::usual();
        world.settings.tag_seed ^= 1;
        node.rig.put(&world).expect("maps");
        let metadata = Metadata {
            ifindex: device_at(Hook::ToWire),
            witness,
            ..Metadata::default()
        };
        let (dst, src) = macs_at(Hook::ToWire);
        let frame = udp().in_family(node.family).routed(dst, src).bytes();
        node.rig
            .run(Hook::ToWire, &frame, &metadata)
            .expect("a run");
        assert_eq!(node.count(Hook::ToWire, Verdict::Unwitnessed), 1);
    });
}

#[test]
fn a_pods_own_tc_index_is_no_witness() {
    story("a_pods_own_tc_index_is_no_witness", |node| {
        for claimed in [tag::FAST, tag::FAST | 1, 1, 0x7fff] {
            let metadata = Metadata {
                ifindex: device_at(Hook::FromPod),
                witness: claimed,
                ..Metadata::default()
            };
            for packet in [udp(), udp().fragment(0, true), udp().src(SERVICE)] {
                let packet = packet.in_family(node.family);
                let frame = packet.or_macs(macs_at(Hook::FromPod)).bytes();
                let run = node
                    .rig
                    .run(Hook::FromPod, &frame, &metadata)
                    .expect("a run");
                assert_ne!(run.witness, claimed, "{claimed:#x}");
                assert_eq!(run.witness & tag::FAST, 0, "{claimed:#x}");
            }
        }
    });
}
