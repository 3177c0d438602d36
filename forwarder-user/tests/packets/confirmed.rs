//! What an entrance makes of a flow that the kernel has confirmed, or has not; at both entrances
//! alike.

use underpass_common::addr::Block;
use underpass_common::endpoint::Endpoint;
use underpass_common::flow::{Direction, Flow, WayOut, confirmed};
use underpass_common::route::Route;
use underpass_common::settings::Settings;
use underpass_common::verdict::{Hook, Verdict};

use crate::builder::{ACK, PSH, Packet, echo_reply, echo_request, icmp, protocol, tcp, udp};
use crate::cast::{
    CONFIRMED, EPOCH, FAR, GENERATION, NO_DIRECTION, OTHER_VETH, PEER_ROUTE, POD, POD_ENDPOINT,
    STRANGER_MAC, TO_PEER, TO_POD,
};
use crate::parsing::{own_address, toward};
use crate::rig::with_rig;
use crate::table::{Row, at, run};

#[test]
fn from_pod_follows_the_confirmation() {
    with_rig("from_pod_follows_the_confirmation", |rig| {
        drop(run(rig, &rows(Hook::FromPod)))
    });
}

#[test]
fn from_wire_follows_the_confirmation() {
    with_rig("from_wire_follows_the_confirmation", |rig| {
        drop(run(rig, &rows(Hook::FromWire)))
    });
}

pub fn rows(hook: Hook) -> Vec<Row> {
    let mut rows = fast(hook);
    rows.extend(padded(hook));
    rows.extend(hops(hook));
    rows.extend(unconfirmed(hook));
    rows.extend(outdated(hook));
    rows.extend(no_flow_to_follow(hook));
    rows
}

/// The way out of an entrance's packets.
pub const fn way_out(hook: Hook) -> WayOut {
    match hook {
        Hook::FromPod | Hook::ToWire => TO_PEER,
        Hook::FromWire | Hook::FromWireXdp | Hook::ToPod => TO_POD,
    }
}

/// An entrance's own direction of a flow.
pub fn own(hook: Hook, flow: &mut Flow) -> &mut Direction {
    match hook {
        Hook::FromPod | Hook::ToWire => &mut flow.egress,
        Hook::FromWire | Hook::FromWireXdp | Hook::ToPod => &mut flow.ingress,
    }
}

/// A confirmed flow, but for what `change` does to this entrance's direction of it.
pub fn but(hook: Hook, change: impl FnOnce(&mut Direction)) -> Flow {
    let mut flow = CONFIRMED;
    change(own(hook, &mut flow));
    flow
}

fn fast(hook: Hook) -> Vec<Row> {
    let row = |name, packet| {
        at(hook, name, toward(hook, packet))
            .flow(CONFIRMED)
            .fast(way_out(hook))
    };
    let second = Block {
        network: [10, 9, 8, 0],
        mask: [255, 255, 255, 128],
    };
    let two_pod_cidrs = |settings: &mut Settings| {
        settings.pod_cidrs_v4[1] = second;
        settings.pod_cidrs_v4_len = 2;
    };
    vec![
        row("UDP", udp()),
        row("UDP without payload", udp().payload(b"")),
        row("UDP on port 0", udp().from(POD, 0)),
        row("TCP", tcp(ACK | PSH)),
        row(
            "TCP with options",
            tcp(ACK).tcp_options(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]),
        ),
        row("TCP without payload", tcp(ACK).payload(b"")),
        row("a ping", echo_request(7)),
        row("the answer to a ping", echo_reply(7)),
        row("DSCP and ECN stay", udp().tos(0xbb)),
        row("may be fragmented, and stays so", udp().may_be_fragmented()).no_twin(),
        row(
            "a header checksum that becomes 0",
            udp().right_checksum(0xfeff),
        )
        .no_twin(),
        row("a header checksum that wraps", udp().right_checksum(0xff12)).no_twin(),
        row("a header checksum of 0", udp().right_checksum(0)).no_twin(),
        row("a second podCIDR", udp().src([10, 9, 8, 127])).settings(two_pod_cidrs),
        at(
            hook,
            "beside a second podCIDR",
            own_address(hook, udp(), [10, 9, 8, 128]),
        )
        .settings(two_pod_cidrs)
        .kernel(Verdict::NotPodTraffic),
        row("the other direction is not confirmed", udp()).world(|world| {
            *own(opposite(hook), world.flow()) = NO_DIRECTION;
        }),
        row(
            "the cached way out is current, whatever the maps hold",
            udp(),
        )
        .no_routes()
        .no_endpoints(),
    ]
}

/// The entrance of the answers.
pub const fn opposite(hook: Hook) -> Hook {
    match hook {
        Hook::FromPod => Hook::FromWire,
        _ => Hook::FromPod,
    }
}

/// A frame on Ethernet has at least 60 bytes; what fills it up is not part of the packet.
fn padded(hook: Hook) -> Vec<Row> {
    let row = |name, packet: Packet| {
        at(hook, name, toward(hook, packet).padded())
            .flow(CONFIRMED)
            .fast(way_out(hook))
    };
    vec![
        row("padding is cut off", udp().payload(b"short")),
        row("padding behind nothing", udp().payload(b"")),
        row("padding of one byte", udp().payload(&[7; 17])),
        row("padding behind TCP", tcp(ACK).payload(b"")),
        row(
            "padding is left to the kernel with the rest",
            udp().payload(b""),
        )
        .world(|world| world.flows.clear())
        .kernel(Verdict::Unconfirmed),
        row("padding that cannot be cut off", udp().payload(b""))
            .tunnelled()
            .dropped(),
    ]
}

fn hops(hook: Hook) -> Vec<Row> {
    let row = |name, ttl| at(hook, name, toward(hook, udp().ttl(ttl))).flow(CONFIRMED);
    vec![
        row("TTL 255", 255).fast(way_out(hook)),
        row("TTL 2, the last hop but one", 2).fast(way_out(hook)),
        row("TTL 1", 1).kernel(Verdict::TtlExpired),
        row("TTL 0", 0).kernel(Verdict::TtlExpired),
        row("an unconfirmed TTL 1", 1)
            .world(|world| world.flows.clear())
            .kernel(Verdict::Unconfirmed),
    ]
}

fn unconfirmed(hook: Hook) -> Vec<Row> {
    let row = |name| at(hook, name, toward(hook, udp())).kernel(Verdict::Unconfirmed);
    let echo = |name, packet| at(hook, name, toward(hook, packet)).kernel(Verdict::Unconfirmed);
    let flow_of = |packet: Packet| {
        let tuple = packet.tuple().expect("an IP packet");
        (tuple.from_pod(), CONFIRMED)
    };
    let the_other_ping = match hook {
        Hook::FromPod => echo_reply(7),
        _ => echo_request(7),
    };
    let only_the_other = but(hook, |direction| *direction = NO_DIRECTION);
    vec![
        row("a flow that nobody knows"),
        row("only the other direction is confirmed").flow(only_the_other),
        row("taken off the fast path").flow(but(hook, |d| d.confirmed = confirmed::NO)),
        row("confirmed in an older epoch").flow(but(hook, |d| d.epoch = EPOCH - 1)),
        row("being written this moment").flow(but(hook, |d| d.generation = 0)),
        row("another port").world(|world| world.flows.push(flow_of(udp().from(POD, 40_001)))),
        row("the same ports by TCP").world(|world| {
            world.flows.push(flow_of(tcp(ACK).to(FAR, 53)));
        }),
        echo("a ping of another process", echo_request(8))
            .world(|world| world.flows.push(flow_of(echo_request(7)))),
        echo(
            "a ping the other way, with the same identifier",
            the_other_ping,
        )
        .world(|world| world.flows.push(flow_of(echo_request(7)))),
    ]
}

/// Guard 3: a route or an endpoint has changed since.
fn outdated(hook: Hook) -> Vec<Row> {
    let old = but(hook, |direction| direction.generation = GENERATION - 1);
    let row = |name| at(hook, name, toward(hook, udp())).flow(old);
    let elsewhere = WayOut {
        dst_mac: STRANGER_MAC,
        ..way_out(hook)
    };
    let route = Route {
        peer_mac: STRANGER_MAC,
        ..PEER_ROUTE
    };
    let endpoint = Endpoint {
        pod_mac: STRANGER_MAC,
        ..POD_ENDPOINT
    };
    let gone = match hook {
        Hook::FromPod => Verdict::NoRoute,
        _ => Verdict::NoEndpoint,
    };
    vec![
        row("an older generation is looked up again")
            .fast(way_out(hook))
            .after_flow(CONFIRMED),
        row("what was looked up is what counts")
            .route("10.244.2.0/24", route)
            .endpoint(POD, endpoint)
            .fast(elsewhere)
            .after_flow(but(hook, |direction| direction.way_out = elsewhere)),
        row("nothing is found any more")
            .no_routes()
            .no_endpoints()
            .kernel(gone),
        row("the entrance is checked before")
            .device(OTHER_VETH)
            .kernel(match hook {
                Hook::FromPod => Verdict::OtherEntrance,
                // Another uplink is as good as the first, but the frame must be for its MAC.
                _ => Verdict::NotForUs,
            }),
    ]
}

fn no_flow_to_follow(hook: Hook) -> Vec<Row> {
    let row = |name, packet| at(hook, name, toward(hook, packet)).kernel(Verdict::Protocol);
    let icmp_row = |name, packet| at(hook, name, toward(hook, packet)).kernel(Verdict::Icmp);
    let ping_of_no_process = || echo_request(0).tuple().expect("an IP packet").from_pod();
    vec![
        icmp_row("ICMP: unreachable", icmp(3, 4, 0)),
        icmp_row("ICMP: time exceeded", icmp(11, 0, 0)),
        icmp_row("ICMP: timestamp", icmp(13, 0, 7)),
        icmp_row("a ping with a code", icmp(8, 1, 7)),
        row("SCTP", protocol(132)),
        row("GRE", protocol(47)),
        row("a protocol without payload", protocol(253).payload(b"")),
        icmp_row("an ICMP error is no ping", icmp(3, 4, 0))
            .world(move |world| world.flows.push((ping_of_no_process(), CONFIRMED))),
    ]
}
