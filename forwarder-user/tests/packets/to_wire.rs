//! The exit to the wire: what the kernel sends to other nodes confirms the pod's direction.

use underpass_common::flow::{Direction, Entrance, Flow, confirmed};
use underpass_common::route::Route;
use underpass_common::settings::Offload;
use underpass_common::tag;
use underpass_common::verdict::{Hook, Verdict};

use crate::builder::{ACK, FIN, Packet, SYN, echo_request, icmp, protocol, tcp, udp};
use crate::cast::{
    CONFIRMED, EGRESS, EPOCH, GATEWAY_MAC, GENERATION, INGRESS, NARROW_UPLINK, NO_DIRECTION,
    OTHER_POD, OTHER_VETH, PEER_MAC, PEER_ROUTE, POD_ENTRANCE, STRANGER_MAC, UPLINK_MAC,
};
use crate::rig::with_rig;
use crate::table::{Row, Witness, at, run};

const HOOK: Hook = Hook::ToWire;

const OTHER_ENTRANCE: Entrance = Entrance {
    ifindex: OTHER_VETH,
    ..POD_ENTRANCE
};

/// A flow of which only the pod's direction is confirmed.
const ONE_WAY: Flow = Flow {
    key_check: 0,
    egress: EGRESS,
    ingress: NO_DIRECTION,
};

#[test]
fn to_wire_confirms_what_it_sees() {
    with_rig("to_wire_confirms_what_it_sees", |rig| {
        drop(run(rig, &confirming()))
    });
}

#[test]
fn to_wire_doubts_what_it_cannot_witness() {
    with_rig("to_wire_doubts_what_it_cannot_witness", |rig| {
        drop(run(rig, &doubting()))
    });
}

pub fn rows() -> Vec<Row> {
    confirming().into_iter().chain(doubting()).collect()
}

fn confirming() -> Vec<Row> {
    let row = |name, packet| at(HOOK, name, packet).kernel(Verdict::Confirmed);
    let joined = |flow: Flow| Flow {
        key_check: 0,
        egress: Direction {
            confirmed: confirmed::MID_STREAM,
            ..flow.egress
        },
        ..flow
    };
    let only_back = Flow {
        key_check: 0,
        egress: NO_DIRECTION,
        ..CONFIRMED
    };
    let mut old = CONFIRMED;
    old.egress.epoch = EPOCH - 1;
    old.egress.generation = GENERATION - 1;
    let mut forgotten = CONFIRMED;
    forgotten.egress.confirmed = confirmed::NO;
    vec![
        row("a datagram", udp()).after_flow(ONE_WAY),
        row("a ping", echo_request(7)).after_flow(ONE_WAY),
        row("a SYN: known from its start", tcp(SYN)).after_flow(ONE_WAY),
        row("a SYN-ACK: likewise", tcp(SYN | ACK)).after_flow(ONE_WAY),
        row("data: joined in mid-stream", tcp(ACK)).after_flow(joined(ONE_WAY)),
        row("a FIN: joined in mid-stream", tcp(FIN | ACK)).after_flow(joined(ONE_WAY)),
        row("the other direction stays", udp())
            .flow(only_back)
            .after_flow(CONFIRMED),
        row("a direction that was cleared", udp())
            .flow(forgotten)
            .after_flow(CONFIRMED),
        row("a confirmation of old", udp())
            .flow(old)
            .after_flow(CONFIRMED),
        row(
            "a fallback in mid-stream: conntrack has joined in",
            tcp(ACK),
        )
        .flow(CONFIRMED)
        .after_flow(joined(CONFIRMED)),
        row("the kernel took the last hop but one", udp().ttl(1)).after_flow(ONE_WAY),
        row("under the mode that needs no confirmation", udp())
            .settings(|settings| settings.offload = Offload::Always as u8)
            .after_flow(ONE_WAY),
        row(
            "a pod whose veth is not known yet, by the note of the entrance",
            udp(),
        )
        .no_endpoints()
        .world(|world| world.last_stamped = POD_ENTRANCE)
        .after_flow(ONE_WAY),
    ]
}

fn doubting() -> Vec<Row> {
    let mut rows = unwitnessed();
    rows.extend(elsewhere());
    rows.extend(fast());
    rows
}

fn unwitnessed() -> Vec<Row> {
    let mut forgotten = CONFIRMED;
    forgotten.egress.confirmed = confirmed::NO;
    forgotten.ingress.confirmed = confirmed::NO;
    let row = |name, packet: Packet, witness| {
        at(HOOK, name, packet)
            .flow(CONFIRMED)
            .witness(witness)
            .kernel(Verdict::Unwitnessed)
            .after_flow(forgotten)
    };
    let to_service = udp().to([10, 96, 0, 10], 53);
    let other_gateway = Entrance {
        mac: STRANGER_MAC,
        ..POD_ENTRANCE
    };
    vec![
        row(
            "the host's own packet with a pod's tuple",
            udp(),
            Witness::Exactly(tag::NONE),
        ),
        row(
            "a translated packet",
            udp(),
            Witness::Translated(Box::new(to_service), POD_ENTRANCE),
        ),
        row(
            "a packet of another pod with this pod's address",
            udp(),
            Witness::From(OTHER_ENTRANCE),
        ),
        row(
            "a packet to another gateway",
            udp(),
            Witness::From(other_gateway),
        ),
        row(
            "a packet that came in by the wire",
            udp(),
            Witness::From(Entrance::WIRE),
        ),
        row("TCP likewise", tcp(ACK), Witness::Exactly(tag::NONE)),
        row(
            "another pod's packet, with its note",
            udp(),
            Witness::From(OTHER_ENTRANCE),
        )
        .world(|world| world.last_stamped = OTHER_ENTRANCE),
        row(
            "a note of somebody else",
            udp(),
            Witness::From(POD_ENTRANCE),
        )
        .no_endpoints()
        .world(|world| world.last_stamped = OTHER_ENTRANCE),
        row(
            "a pod that is not known, and no note",
            udp(),
            Witness::From(POD_ENTRANCE),
        )
        .no_endpoints(),
        row("nothing to forget", udp(), Witness::Exactly(tag::NONE))
            .world(|world| world.flows.clear())
            .after(|_| {}),
    ]
}

fn elsewhere() -> Vec<Row> {
    let mut cleared = CONFIRMED;
    cleared.egress.confirmed = confirmed::NO;
    let other_hop = |name, packet: Packet| {
        at(HOOK, name, packet)
            .flow(CONFIRMED)
            .kernel(Verdict::OtherNextHop)
            .after_flow(cleared)
    };
    let row = |name, verdict| at(HOOK, name, udp()).flow(CONFIRMED).kernel(verdict);
    vec![
        other_hop(
            "another neighbour than the trie says",
            udp().macs(STRANGER_MAC, UPLINK_MAC),
        ),
        other_hop("another source MAC", udp().macs(PEER_MAC, GATEWAY_MAC)),
        other_hop("another device", udp()).device(NARROW_UPLINK),
        other_hop("a longer prefix says otherwise", udp()).route(
            "10.244.2.2/32",
            Route {
                peer_mac: STRANGER_MAC,
                ..PEER_ROUTE
            },
        ),
        at(HOOK, "nothing to clear", udp())
            .device(NARROW_UPLINK)
            .kernel(Verdict::OtherNextHop),
        row("no prefix holds the destination", Verdict::NoRoute).no_routes(),
        row("an exception for the destination", Verdict::NoRoute)
            .route("10.244.2.0/28", Route::KERNEL),
        at(HOOK, "an ICMP error", icmp(11, 0, 0)).kernel(Verdict::Icmp),
        at(HOOK, "SCTP", protocol(132)).kernel(Verdict::Protocol),
        at(HOOK, "an unwitnessed ICMP error", icmp(11, 0, 0))
            .witness(Witness::Exactly(tag::NONE))
            .kernel(Verdict::Icmp),
        at(HOOK, "an unknown pod of this node", udp().src(OTHER_POD)).kernel(Verdict::Unwitnessed),
    ]
}

/// What went past the kernel has been counted at the entrance.
fn fast() -> Vec<Row> {
    let row = |name, packet, witness| {
        at(HOOK, name, packet)
            .flow(CONFIRMED)
            .witness(Witness::Exactly(witness))
            .unseen()
    };
    let ingress_only = Flow {
        key_check: 0,
        egress: NO_DIRECTION,
        ingress: INGRESS,
    };
    vec![
        row("a fast packet", udp(), tag::FAST),
        row("a fast packet with more bits", udp(), tag::FAST | 0x1234),
        row("a fast packet that nothing here confirms", udp(), tag::FAST)
            .world(move |world| *world.flow() = ingress_only),
    ]
}
