//! A node with several uplinks: what one peer's pods send another's, at the entrance of the uplink that it
//! comes in by, at the exit of the one that it leaves by, and by XDP.
//!
//! ```text
//!     FAR 10.244.2.2                        THIRD 10.244.3.2
//!         |                                       |
//!     the peer ---- UPLINK   NARROW_UPLINK ---- the third node
//! ```

use std::net::IpAddr;

use underpass_common::addr::Mac;
use underpass_common::flow::{Direction, Entrance, Flow, FlowKey, WayOut, confirmed};
use underpass_common::route::Route;
use underpass_common::settings::Offload;
use underpass_common::tag;
use underpass_common::verdict::{Hook, Verdict};
use underpass_common::xdp::Lease;

use crate::builder::{
    ACK, FIN, Packet, SYN, echo_reply, echo_request, error_about, icmp, protocol, tcp, udp,
};
use crate::cast::{
    CONFIRMED, EGRESS, EPOCH, FAR, GENERATION, INGRESS, NARROW_MTU, NARROW_UPLINK, NO_DIRECTION,
    NODE, OUTSIDE, PEER, PEER_MAC, POD, STRANGER_MAC, TO_POD, UPLINK, UPLINK_MAC,
};
use crate::express::is_carried;
use crate::family::{Family, Twin as _};
use crate::rig::{LEASE, RECEIVER, with_rig};
use crate::table::{Row, Witness, at, run, run_express};
use crate::world::World;

/// A pod of the third node, which is on the segment of the narrow uplink.
const THIRD: [u8; 4] = [10, 244, 3, 2];
const THIRD_MAC: Mac = [0x02, 0, 0, 0, 0x0a, 0x03];

const TO_THIRD: WayOut = WayOut {
    ifindex: NARROW_UPLINK,
    dst_mac: THIRD_MAC,
    src_mac: UPLINK_MAC,
};

const THIRD_ROUTE: Route = Route {
    ifindex: NARROW_UPLINK,
    peer_mac: THIRD_MAC,
    own_mac: UPLINK_MAC,
};

const fn by(uplink: u32) -> Entrance {
    Entrance {
        ifindex: uplink,
        ..Entrance::WIRE
    }
}

/// One direction of a flow in transit, as the kernel confirmed it.
const THERE: Flow = Flow {
    key_check: 0,
    egress: Direction {
        way_out: TO_THIRD,
        entrance: by(UPLINK),
        ..EGRESS
    },
    ingress: NO_DIRECTION,
};

/// The direction of its answers.
const BACK: Flow = Flow {
    key_check: 0,
    egress: Direction {
        way_out: WayOut {
            ifindex: UPLINK,
            dst_mac: PEER_MAC,
            src_mac: UPLINK_MAC,
        },
        entrance: by(NARROW_UPLINK),
        ..EGRESS
    },
    ingress: NO_DIRECTION,
};

fn but(change: impl FnOnce(&mut Direction)) -> Flow {
    let mut flow = THERE;
    change(&mut flow.egress);
    flow
}

/// A packet from the peer's pod to the third node's.
fn through(packet: Packet) -> Packet {
    let tuple = packet.tuple().expect("an IP packet");
    let [src_port, dst_port] = [tuple.src_port, tuple.dst_port].map(u16::from_be_bytes);
    match tuple.protocol {
        6 | 17 => packet.from(FAR, src_port).to(THIRD, dst_port),
        _ => packet.src(FAR).dst(THIRD),
    }
}

/// The flow of the answers to a packet, seen from who answers.
fn answers(packet: &Packet) -> FlowKey<IpAddr> {
    packet.tuple().expect("an IP packet").answer().from_pod()
}

/// A row of a node with two uplinks.
fn row_at(hook: Hook, name: &str, packet: Packet) -> Row {
    at(hook, name, packet)
        .in_transit()
        .route("10.244.3.0/24", THIRD_ROUTE)
}

fn entering(name: &str, packet: Packet) -> Row {
    row_at(Hook::FromWire, name, through(packet))
}

fn leaving(name: &str, packet: Packet) -> Row {
    row_at(
        Hook::ToWire,
        name,
        through(packet).or_macs((THIRD_MAC, UPLINK_MAC)),
    )
    .device(NARROW_UPLINK)
    .came_in_by(UPLINK)
    .witness(Witness::From(by(UPLINK)))
}

#[test]
fn from_wire_carries_what_the_kernel_forwards_to_another_node() {
    with_rig(
        "from_wire_carries_what_the_kernel_forwards_to_another_node",
        |rig| drop(run(rig, &entrance())),
    );
}

#[test]
fn errors_in_transit_follow_their_flow() {
    with_rig("errors_in_transit_follow_their_flow", |rig| {
        drop(run(rig, &errors()))
    });
}

#[test]
fn to_wire_confirms_what_came_in_by_another_uplink() {
    with_rig("to_wire_confirms_what_came_in_by_another_uplink", |rig| {
        drop(run(rig, &exit()))
    });
}

#[test]
fn with_two_uplinks_a_pods_packets_are_confirmed_for_one() {
    with_rig(
        "with_two_uplinks_a_pods_packets_are_confirmed_for_one",
        |rig| drop(run(rig, &to_own_pods())),
    );
}

#[test]
fn xdp_carries_in_transit_what_from_wire_would() {
    with_rig("xdp_carries_in_transit_what_from_wire_would", |rig| {
        let mut rows = entrance();
        rows.extend(to_own_pods().into_iter().filter(Row::is_from_wire));
        let carried = run_express(rig, &rows, |name| name.ends_with("(not by XDP)"));
        println!(
            "{carried} of {} rows and their twins were carried",
            rows.len()
        );
        assert!(carried > 20, "{carried}");
        assert_eq!(run_express(rig, &errors(), |_| true), 0);
    });
}

#[test]
fn an_uplink_that_takes_nothing_from_xdp_stays_with_tc() {
    with_rig(
        "an_uplink_that_takes_nothing_from_xdp_stays_with_tc",
        |rig| {
            for family in Family::ALL {
                let packet = through(udp())
                    .in_family(family)
                    .or_macs((UPLINK_MAC, PEER_MAC));
                let frame = packet.bytes();
                let mut world = World::usual();
                world.settings.transit = 1;
                let key = packet.tuple().expect("an IP packet").from_pod();
                world.flows.push((key, THERE));
                rig.put(&world).expect("maps");
                assert!(is_carried(rig, &frame), "{family:?}");
                rig.loaded
                    .maps
                    .remove_xdp_uplink(NARROW_UPLINK)
                    .expect("maps");
                assert!(!is_carried(rig, &frame), "{family:?}");
                // Nor is it enough that a pod there takes them.
                rig.loaded.maps.add_xdp_pod(NARROW_UPLINK).expect("maps");
                assert!(!is_carried(rig, &frame), "{family:?}");
                rig.loaded.maps.add_xdp_uplink(NARROW_UPLINK).expect("maps");
                assert!(is_carried(rig, &frame), "{family:?}");

                let other_uplink = Lease {
                    uplink: NARROW_UPLINK,
                    ..LEASE
                };
                let maps = &mut rig.loaded.maps;
                maps.set_xdp_lease(RECEIVER, &other_uplink).expect("maps");
                assert!(!is_carried(rig, &frame), "{family:?}: another entrance");
                let maps = &mut rig.loaded.maps;
                maps.set_xdp_lease(RECEIVER, &LEASE).expect("maps");
            }
        },
    );
}

pub fn rows() -> Vec<Row> {
    let mut rows = entrance();
    rows.extend(errors());
    rows.extend(exit());
    rows.extend(to_own_pods());
    rows
}

fn entrance() -> Vec<Row> {
    let fast = |name, packet| entering(name, packet).flow(THERE).fast(TO_THIRD);
    let always = |row: Row| row.settings(|settings| settings.offload = Offload::Always as u8);
    let left = |name, packet, verdict| entering(name, packet).kernel(verdict);
    let mut rows = vec![
        fast("a datagram", udp()),
        fast("TCP", tcp(ACK)),
        fast("a ping", echo_request(7)),
        fast("the answer to a ping", echo_reply(7)),
        fast("padding is cut off", udp().payload(b"").padded()),
        fast(
            "as large as the other segment takes",
            udp().ip_len(NARROW_MTU),
        ),
        fast(
            "the cached way out is current, whatever the maps hold",
            udp(),
        )
        .no_routes(),
        fast("back out of the uplink that it came in by", udp())
            .world(|world| world.flow().egress.way_out.ifindex = UPLINK)
            .fast(WayOut {
                ifindex: UPLINK,
                ..TO_THIRD
            }),
        fast("TTL 2", udp().ttl(2)),
        entering(
            "too large for the other segment",
            udp().ip_len(NARROW_MTU + 1),
        )
        .flow(THERE)
        .kernel(Verdict::TooBig),
        entering("TTL 1", udp().ttl(1))
            .flow(THERE)
            .kernel(Verdict::TtlExpired),
        entering("an older generation is looked up again (not by XDP)", udp())
            .flow(but(|direction| direction.generation = GENERATION - 1))
            .fast(TO_THIRD)
            .after_flow(THERE),
        entering("of an older generation, and no peer's any more", udp())
            .flow(but(|direction| direction.generation = GENERATION - 1))
            .no_routes()
            .kernel(Verdict::NotPodTraffic),
        left("a flow that nobody knows", udp(), Verdict::Unconfirmed),
        entering("only the answers are confirmed", udp())
            .world(|world| world.flows.push((answers(&through(udp())), BACK)))
            .kernel(Verdict::Unconfirmed),
        entering("confirmed as a local pod's would be", udp())
            .world(|world| {
                let key = through(udp()).tuple().expect("an IP packet").to_pod();
                world.flows.push((key, CONFIRMED));
            })
            .kernel(Verdict::Unconfirmed),
        entering("confirmed for another uplink", udp())
            .flow(but(|direction| direction.entrance = by(NARROW_UPLINK)))
            .kernel(Verdict::OtherEntrance),
        entering("confirmed when there was but one uplink", udp())
            .flow(but(|direction| direction.entrance = Entrance::WIRE))
            .kernel(Verdict::OtherEntrance),
        entering("taken off the fast path", udp())
            .flow(but(|direction| direction.confirmed = confirmed::NO))
            .kernel(Verdict::Unconfirmed),
        entering("confirmed in an older epoch", udp())
            .flow(but(|direction| direction.epoch = EPOCH - 1))
            .kernel(Verdict::Unconfirmed),
        entering(
            "the end of a connection known from its start",
            tcp(FIN | ACK),
        )
        .flow(THERE)
        .fast(TO_THIRD),
        entering("a SYN forgets both directions", tcp(SYN))
            .flow(THERE)
            .world(|world| world.flows.push((answers(&through(tcp(SYN))), BACK)))
            .kernel(Verdict::TcpOpening)
            .after(|world| {
                for (_, flow) in &mut world.flows {
                    flow.egress.confirmed = confirmed::NO;
                }
            }),
        entering("a SYN-ACK its own", tcp(SYN | ACK))
            .flow(THERE)
            .world(|world| world.flows.push((answers(&through(tcp(SYN))), BACK)))
            .kernel(Verdict::TcpOpening)
            .after(|world| world.flow().egress.confirmed = confirmed::NO),
        left("SCTP", protocol(132), Verdict::Protocol),
        left("other ICMP", icmp(13, 0, 7), Verdict::Icmp),
        row_at(
            Hook::FromWire,
            "for the host itself",
            udp().src(PEER).dst(NODE),
        )
        .kernel(Verdict::NotPodTraffic),
        row_at(
            Hook::FromWire,
            "for somebody else",
            udp().src(FAR).dst(OUTSIDE),
        )
        .kernel(Verdict::NotPodTraffic),
        row_at(
            Hook::FromWire,
            "from one of our own pods, or who says so",
            udp().dst(THIRD),
        )
        .flow(THERE)
        .kernel(Verdict::NotPodTraffic),
        entering("an exception for the destination", udp())
            .route("10.244.3.0/28", Route::KERNEL)
            .kernel(Verdict::NotPodTraffic),
        entering("on a node with one uplink", udp())
            .flow(THERE)
            .settings(|settings| settings.transit = 0)
            .kernel(Verdict::NotPodTraffic),
        entering("for another station", udp().macs(STRANGER_MAC, PEER_MAC))
            .flow(THERE)
            .kernel(Verdict::NotForUs),
        entering("offload switched off", udp())
            .flow(THERE)
            .settings(|settings| settings.offload = Offload::Off as u8)
            .kernel(Verdict::Off),
        always(entering("by the trie alone", udp())).fast(TO_THIRD),
        always(entering("a SYN by the trie alone", tcp(SYN))).fast(TO_THIRD),
        always(entering("by a trie that has no answer", udp()))
            .no_routes()
            .kernel(Verdict::NotPodTraffic),
    ];
    // Conntrack holds the connection as established: the kernel sees its end.
    rows.push(
        entering("the end of a connection from mid-stream", tcp(FIN | ACK))
            .flow(but(|direction| direction.confirmed = confirmed::MID_STREAM))
            .kernel(Verdict::TcpClosing)
            .after_flow(THERE),
    );
    rows
}

/// An error that comes back by the first uplink: about a packet to the peer's pod from the third node's.
fn errors() -> Vec<Row> {
    let subject = || {
        let answer = through(udp());
        let tuple = answer.tuple().expect("an IP packet");
        let [src_port, dst_port] = [tuple.src_port, tuple.dst_port].map(u16::from_be_bytes);
        udp().from(THIRD, dst_port).to(FAR, src_port)
    };
    // Seen from the peer's pod, in whose direction the error goes, and from the third node's.
    let there = move || through(udp()).tuple().expect("an IP packet").from_pod();
    let back = move || subject().tuple().expect("an IP packet").from_pod();
    let row = move |name: &str, source: [u8; 4]| {
        let error = error_about(&subject(), 3, 3).src(source).dst(THIRD);
        row_at(Hook::FromWire, name, error)
    };
    vec![
        row("about a flow confirmed both ways", FAR)
            .world(move |world| world.flows.extend([(there(), THERE), (back(), BACK)]))
            .fast(TO_THIRD),
        row("from a router on the way", PEER)
            .world(move |world| world.flows.extend([(there(), THERE), (back(), BACK)]))
            .fast(TO_THIRD),
        row("whose own direction is not confirmed", FAR)
            .world(move |world| {
                world.flows.extend([
                    (there(), but(|d| d.confirmed = confirmed::NO)),
                    (back(), BACK),
                ])
            })
            .kernel(Verdict::Icmp)
            .after(move |world| world.flows[1].1.egress.confirmed = confirmed::NO),
        row("whose own direction nobody knows", FAR)
            .world(move |world| world.flows.push((back(), BACK)))
            .kernel(Verdict::Icmp),
        row("about packets that are not confirmed", FAR)
            .world(move |world| world.flows.push((there(), THERE)))
            .kernel(Verdict::Icmp),
        row(
            "from where the kernel would not look for it",
            [198, 51, 100, 7],
        )
        .world(move |world| world.flows.extend([(there(), THERE), (back(), BACK)]))
        .kernel(Verdict::Icmp),
    ]
}

fn exit() -> Vec<Row> {
    let confirms = |name, packet| leaving(name, packet).kernel(Verdict::Confirmed);
    let mid_stream = but(|direction| direction.confirmed = confirmed::MID_STREAM);
    let cleared = but(|direction| direction.confirmed = confirmed::NO);
    let mut back_cleared = BACK;
    back_cleared.egress.confirmed = confirmed::NO;
    let unwitnessed = move |name, witness| {
        leaving(name, udp())
            .flow(THERE)
            .world(|world| world.flows.push((answers(&through(udp())), BACK)))
            .witness(witness)
            .kernel(Verdict::Unwitnessed)
            .after(move |world| {
                world.flows[0].1 = cleared;
                world.flows[1].1 = back_cleared;
            })
    };
    vec![
        confirms("a datagram", udp()).after_flow(THERE),
        confirms("a ping", echo_request(7)).after_flow(THERE),
        confirms("a SYN", tcp(SYN)).after_flow(THERE),
        confirms("data in mid-stream", tcp(ACK)).after_flow(mid_stream),
        confirms("a direction that was cleared", udp())
            .flow(cleared)
            .after_flow(THERE),
        confirms("under the mode that needs no confirmation", udp())
            .settings(|settings| settings.offload = Offload::Always as u8)
            .after_flow(THERE),
        unwitnessed("without a tag", Witness::Exactly(tag::NONE)),
        unwitnessed(
            "stamped at another uplink",
            Witness::From(by(NARROW_UPLINK)),
        ),
        unwitnessed(
            "stamped on another tuple, and translated",
            Witness::Translated(Box::new(through(udp()).to(OUTSIDE, 53)), by(UPLINK)),
        ),
        leaving("of a flow that nobody knows, without a tag", udp())
            .witness(Witness::Exactly(tag::NONE))
            .kernel(Verdict::NotPodTraffic),
        leaving("the host's own", udp().src(NODE).dst(PEER))
            .came_in_by(0)
            .witness(Witness::Exactly(tag::NONE))
            .kernel(Verdict::NotPodTraffic),
        leaving("the host's own ICMP", icmp(11, 0, 0).src(NODE).dst(PEER))
            .came_in_by(0)
            .witness(Witness::Exactly(tag::NONE))
            .kernel(Verdict::NotPodTraffic),
        leaving("another next hop than the trie says", udp())
            .packet(|packet| packet.macs(STRANGER_MAC, UPLINK_MAC))
            .flow(THERE)
            .kernel(Verdict::OtherNextHop)
            .after_flow(cleared),
        leaving("out of another uplink than the trie says", udp())
            .device(UPLINK)
            .flow(THERE)
            .kernel(Verdict::OtherNextHop)
            .after_flow(cleared),
        leaving("no peer's", udp())
            .no_routes()
            .kernel(Verdict::NoRoute),
        leaving("on a node with one uplink", udp())
            .settings(|settings| settings.transit = 0)
            .kernel(Verdict::NotPodTraffic),
        leaving("a fast packet", udp())
            .witness(Witness::Exactly(tag::FAST))
            .unseen(),
    ]
}

/// This node's own pods: what was confirmed for one uplink is not for the other.
fn to_own_pods() -> Vec<Row> {
    let by_uplink = |uplink| Flow {
        key_check: 0,
        egress: NO_DIRECTION,
        ingress: Direction {
            entrance: by(uplink),
            ..INGRESS
        },
    };
    let two = |hook, name, packet: Packet| {
        at(hook, name, packet).settings(|settings| settings.transit = 1)
    };
    let to_pod = |packet: Packet| {
        let tuple = packet.tuple().expect("an IP packet");
        let [src_port, dst_port] = [tuple.src_port, tuple.dst_port].map(u16::from_be_bytes);
        packet.from(FAR, dst_port).to(POD, src_port)
    };
    vec![
        two(
            Hook::FromWire,
            "by the uplink that was confirmed",
            to_pod(udp()),
        )
        .flow(by_uplink(UPLINK))
        .fast(TO_POD),
        two(Hook::FromWire, "by another uplink", to_pod(udp()))
            .flow(by_uplink(NARROW_UPLINK))
            .kernel(Verdict::OtherEntrance),
        two(
            Hook::FromWire,
            "confirmed when there was but one",
            to_pod(udp()),
        )
        .flow(by_uplink(0))
        .kernel(Verdict::OtherEntrance),
        two(
            Hook::ToPod,
            "the exit notes by which it came",
            to_pod(udp()),
        )
        .came_in_by(UPLINK)
        .witness(Witness::From(by(UPLINK)))
        .kernel(Verdict::Confirmed)
        .after_flow(by_uplink(UPLINK)),
        two(Hook::ToPod, "stamped at another uplink", to_pod(udp()))
            .came_in_by(NARROW_UPLINK)
            .witness(Witness::From(by(UPLINK)))
            .kernel(Verdict::Unwitnessed),
    ]
}
