//! What fits the way out, at both entrances alike.

use underpass_common::flow::WayOut;
use underpass_common::verdict::{Hook, Verdict};

use crate::builder::{ACK, tcp, udp};
use crate::cast::{CONFIRMED, MTU, NARROW_MTU, NARROW_UPLINK, NO_DEVICE};
use crate::confirmed::{but, own, way_out};
use crate::parsing::toward;
use crate::rig::with_rig;
use crate::table::{Family, Row, at, run};

/// Lengths of a TCP header's timestamps with their padding, and of the headers without them.
const TIMESTAMPS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
const TCP_HEADERS: usize = 20 + 20;
const UDP_HEADERS: usize = 20 + 8;

#[test]
fn from_pod_keeps_to_the_mtu() {
    with_rig("from_pod_keeps_to_the_mtu", |rig| {
        drop(run(rig, &rows(Hook::FromPod)))
    });
}

#[test]
fn from_wire_keeps_to_the_mtu() {
    with_rig("from_wire_keeps_to_the_mtu", |rig| {
        drop(run(rig, &rows(Hook::FromWire)))
    });
}

pub fn rows(hook: Hook) -> Vec<Row> {
    let mut rows = gone(hook);
    for family in Family::BOTH {
        let edges = single(hook, family).into_iter().chain(trains(hook, family));
        rows.extend(edges.map(|row| row.only_in(family)));
    }
    rows
}

/// How much longer the headers of a packet's twin are.
const fn longer(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 20,
    }
}

fn single(hook: Hook, family: Family) -> Vec<Row> {
    let longer = longer(family);
    let row =
        |name, len: usize| at(hook, name, toward(hook, udp().ip_len(len - longer))).flow(CONFIRMED);
    let narrow = WayOut {
        ifindex: NARROW_UPLINK,
        ..way_out(hook)
    };
    let narrow_row = |name, len: usize| {
        let flow = but(hook, |direction| direction.way_out = narrow);
        at(hook, name, toward(hook, udp().ip_len(len - longer))).flow(flow)
    };
    vec![
        row("exactly the MTU", MTU).fast(way_out(hook)),
        row("one byte more than the MTU", MTU + 1).kernel(Verdict::TooBig),
        row("far more than the MTU", 3000).kernel(Verdict::TooBig),
        narrow_row("exactly a smaller MTU", NARROW_MTU).fast(narrow),
        narrow_row("one byte more than a smaller MTU", NARROW_MTU + 1).kernel(Verdict::TooBig),
        row("too big, and may be fragmented", MTU + 1)
            .packet(|packet| packet.may_be_fragmented())
            .kernel(Verdict::TooBig),
    ]
}

/// A train of segments (GSO): each of them must fit, with the headers that it will get.
fn trains(hook: Hook, family: Family) -> Vec<Row> {
    let tcp_row = |name, payload: usize| {
        at(hook, name, toward(hook, tcp(ACK).ip_len(3000)))
            .flow(CONFIRMED)
            .train_of(payload as u32)
    };
    let options_row = |name, payload: usize| {
        at(
            hook,
            name,
            toward(hook, tcp(ACK).tcp_options(&TIMESTAMPS).ip_len(3000)),
        )
        .flow(CONFIRMED)
        .train_of(payload as u32)
    };
    let udp_row = |name, payload: usize| {
        at(hook, name, toward(hook, udp().ip_len(3000)))
            .flow(CONFIRMED)
            .train_of(payload as u32)
    };
    let tcp_fits = MTU - TCP_HEADERS - longer(family);
    let options_fit = tcp_fits - TIMESTAMPS.len();
    let udp_fits = MTU - UDP_HEADERS - longer(family);
    vec![
        tcp_row("TCP segments that just fit", tcp_fits).fast(way_out(hook)),
        tcp_row("TCP segments of one byte too many", tcp_fits + 1).kernel(Verdict::TooBig),
        options_row("TCP options are in every segment", options_fit).fast(way_out(hook)),
        options_row("and count", options_fit + 1).kernel(Verdict::TooBig),
        udp_row("UDP segments that just fit", udp_fits).fast(way_out(hook)),
        udp_row("UDP segments of one byte too many", udp_fits + 1).kernel(Verdict::TooBig),
        // Cutting the padding off would make one packet of the train, too big for the way out.
        at(
            hook,
            "a train with something behind it",
            toward(hook, tcp(ACK).ip_len(3000).trailing(8)),
        )
        .flow(CONFIRMED)
        .train_of(tcp_fits as u32)
        .kernel(Verdict::Malformed),
    ]
}

fn gone(hook: Hook) -> Vec<Row> {
    let row = |name, packet| {
        at(hook, name, toward(hook, packet))
            .flow(CONFIRMED)
            .world(|world| own(hook, world.flow()).way_out.ifindex = NO_DEVICE)
            .kernel(Verdict::WayOutGone)
    };
    vec![
        row("the way out is gone", udp()),
        row("the way out of a train is gone", tcp(ACK).ip_len(3000)).train_of(1000),
    ]
}
