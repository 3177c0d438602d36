//! What only one of the two entrances knows: veths and gateways, the trie, the uplink's MAC.

use underpass_common::flow::WayOut;
use underpass_common::route::Route;
use underpass_common::verdict::{Hook, Verdict};

use crate::builder::{ACK, tcp, udp};
use crate::cast::{
    CONFIRMED, GATEWAY_MAC, GENERATION, NARROW_UPLINK, NO_DIRECTION, OTHER_POD, OTHER_VETH,
    PEER_MAC, PEER_ROUTE, POD, POD_MAC, STRANGER_MAC, TO_PEER, TO_POD, UPLINK_MAC,
};
use crate::confirmed::but;
use crate::rig::with_rig;
use crate::table::{Row, at, run};

#[test]
fn from_pod_knows_its_own() {
    with_rig("from_pod_knows_its_own", |rig| drop(run(rig, &from_pod())));
}

#[test]
fn from_pod_asks_the_trie() {
    with_rig("from_pod_asks_the_trie", |rig| drop(run(rig, &trie())));
}

#[test]
fn from_wire_knows_its_own() {
    with_rig("from_wire_knows_its_own", |rig| {
        drop(run(rig, &from_wire()))
    });
}

pub fn rows() -> Vec<Row> {
    from_pod()
        .into_iter()
        .chain(trie())
        .chain(from_wire())
        .collect()
}

fn from_pod() -> Vec<Row> {
    let row = |name, packet| {
        at(Hook::FromPod, name, packet)
            .flow(CONFIRMED)
            .kernel(Verdict::OtherEntrance)
    };
    vec![
        row("another pod with this pod's address", udp()).device(OTHER_VETH),
        row("TCP likewise", tcp(ACK)).device(OTHER_VETH),
        row(
            "another MAC than the gateway's",
            udp().macs(STRANGER_MAC, POD_MAC),
        ),
        row(
            "from pod to pod, past the gateway",
            udp().macs(PEER_MAC, POD_MAC),
        ),
        at(
            Hook::FromPod,
            "another pod with its own address",
            udp().src(OTHER_POD),
        )
        .device(OTHER_VETH)
        .kernel(Verdict::Unconfirmed),
        at(Hook::FromPod, "the source MAC is the pod's affair", udp())
            .packet(|packet| packet.macs(GATEWAY_MAC, STRANGER_MAC))
            .flow(CONFIRMED)
            .fast(TO_PEER),
    ]
}

/// The way out is looked up again after a change: the longest prefix has it.
fn trie() -> Vec<Row> {
    let old = but(Hook::FromPod, |direction| {
        direction.generation = GENERATION - 1
    });
    let row = |name| at(Hook::FromPod, name, udp()).flow(old);
    let stranger = Route {
        peer_mac: STRANGER_MAC,
        ..PEER_ROUTE
    };
    let to_stranger = WayOut {
        dst_mac: STRANGER_MAC,
        ..TO_PEER
    };
    let at_stranger = but(Hook::FromPod, |direction| direction.way_out = to_stranger);
    vec![
        row("a shorter prefix beside the podCIDR")
            .route("10.244.0.0/16", stranger)
            .fast(TO_PEER)
            .after_flow(CONFIRMED),
        row("a shorter prefix instead of the podCIDR")
            .no_routes()
            .route("10.244.0.0/16", stranger)
            .fast(to_stranger)
            .after_flow(at_stranger),
        row("a longer prefix inside the podCIDR")
            .route("10.244.2.0/30", stranger)
            .fast(to_stranger)
            .after_flow(at_stranger),
        row("a longer prefix beside the destination")
            .route("10.244.2.4/30", stranger)
            .fast(TO_PEER)
            .after_flow(CONFIRMED),
        row("a host route")
            .route("10.244.2.2/32", stranger)
            .fast(to_stranger)
            .after_flow(at_stranger),
        row("a default route")
            .no_routes()
            .route("0.0.0.0/0", stranger)
            .fast(to_stranger)
            .after_flow(at_stranger),
        row("an exception for the destination")
            .route("10.244.2.2/32", Route::KERNEL)
            .kernel(Verdict::NoRoute),
        row("an exception for a part of the podCIDR")
            .route("10.244.2.0/25", Route::KERNEL)
            .kernel(Verdict::NoRoute),
        row("an exception for the rest of the podCIDR")
            .route("10.244.2.128/25", Route::KERNEL)
            .fast(TO_PEER)
            .after_flow(CONFIRMED),
        row("a route inside an exception")
            .route("10.244.2.0/25", Route::KERNEL)
            .route("10.244.2.2/32", stranger)
            .fast(to_stranger)
            .after_flow(at_stranger),
        row("no prefix at all").no_routes().kernel(Verdict::NoRoute),
    ]
}

fn from_wire() -> Vec<Row> {
    let row = |name, packet| at(Hook::FromWire, name, packet).flow(CONFIRMED);
    let answer = || udp().back();
    vec![
        row(
            "a frame for another station, seen by a promiscuous device",
            answer(),
        )
        .packet(|packet| packet.macs(STRANGER_MAC, PEER_MAC))
        .kernel(Verdict::NotForUs),
        row("whoever of the segment sends it", answer())
            .packet(|packet| packet.macs(UPLINK_MAC, STRANGER_MAC))
            .fast(TO_POD),
        row("by another uplink", answer())
            .device(NARROW_UPLINK)
            .fast(TO_POD),
        at(
            Hook::FromWire,
            "what pods send is none of its business",
            udp(),
        )
        .kernel(Verdict::NotPodTraffic),
        at(
            Hook::FromWire,
            "for a pod that is not known",
            udp().src(OTHER_POD).back(),
        )
        .kernel(Verdict::Unconfirmed),
        at(
            Hook::FromWire,
            "from a pod of this node to another",
            udp().src(OTHER_POD),
        )
        .packet(|packet| packet.dst(POD))
        .kernel(Verdict::Unconfirmed),
        row("only the pod's direction is confirmed", answer())
            .world(|world| world.flow().ingress = NO_DIRECTION)
            .kernel(Verdict::Unconfirmed),
    ]
}
