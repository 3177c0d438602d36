//! What fits the way out, at both entrances alike.

use underpass_common::flow::WayOut;
use underpass_common::verdict::{Hook, Verdict};

use crate::builder::{ACK, Packet, tcp, udp};
use crate::cast::{CONFIRMED, MTU, NARROW_MTU, NARROW_UPLINK, NO_DEVICE};
use crate::confirmed::{but, own, way_out};
use crate::parsing::toward;
use crate::rig::with_rig;
use crate::table::{Row, at, run};

/// A TCP header's timestamps with their padding.
const TIMESTAMPS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];

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
    let mut rows = single(hook);
    rows.extend(trains(hook));
    rows.extend(gone(hook));
    rows
}

fn single(hook: Hook) -> Vec<Row> {
    let row = |name, len| at(hook, name, toward(hook, udp().ip_len(len))).flow(CONFIRMED);
    let narrow = WayOut {
        ifindex: NARROW_UPLINK,
        ..way_out(hook)
    };
    let narrow_row = |name, len| {
        let flow = but(hook, |direction| direction.way_out = narrow);
        at(hook, name, toward(hook, udp().ip_len(len))).flow(flow)
    };
    vec![
        row("exactly the MTU", MTU).fast(way_out(hook)),
        row("one byte more than the MTU", MTU + 1).kernel(Verdict::TooBig),
        row("far more than the MTU", 3000).kernel(Verdict::TooBig),
        narrow_row("exactly a smaller MTU", NARROW_MTU).fast(narrow),
        narrow_row("one byte more than a smaller MTU", NARROW_MTU + 1).kernel(Verdict::TooBig),
        row("too big, and may be fragmented", MTU + 1)
            .packet(|packet| packet.may_be_fragmented())
            .no_twin()
            .kernel(Verdict::TooBig),
    ]
}

/// A train of segments (GSO): each of them must fit, with the headers that it will get.
fn trains(hook: Hook) -> Vec<Row> {
    let row = |name, packet: Packet, each| {
        at(hook, name, toward(hook, packet.ip_len(3000)))
            .flow(CONFIRMED)
            .segments_of(each)
    };
    let with_options = || tcp(ACK).tcp_options(&TIMESTAMPS);
    let way_out = way_out(hook);
    vec![
        row("TCP segments that just fit", tcp(ACK), MTU).fast(way_out),
        row("TCP segments of one byte too many", tcp(ACK), MTU + 1).kernel(Verdict::TooBig),
        row("TCP options are in every segment", with_options(), MTU).fast(way_out),
        row("and count", with_options(), MTU + 1).kernel(Verdict::TooBig),
        row("UDP segments that just fit", udp(), MTU).fast(way_out),
        row("UDP segments of one byte too many", udp(), MTU + 1).kernel(Verdict::TooBig),
        // Cutting the padding off would make one packet of the train, too big for the way out.
        row("a train with something behind it", tcp(ACK), MTU)
            .packet(|packet| packet.trailing(8))
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
        row("the way out of a train is gone", tcp(ACK).ip_len(3000)).segments_of(1000),
    ]
}
