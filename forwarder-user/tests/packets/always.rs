//! `--offload always`: the trie alone decides.

use underpass_common::endpoint::Endpoint;
use underpass_common::route::Route;
use underpass_common::settings::Offload;
use underpass_common::verdict::{Hook, Verdict};

use crate::builder::{ACK, FIN, Packet, RST, SYN, echo_request, icmp, protocol, tcp, udp};
use crate::cast::{
    BROADCAST_MAC, MTU, NO_DEVICE, OTHER_POD, OTHER_VETH, OUTSIDE, PEER_ROUTE, POD, POD_ENDPOINT,
    POD_MAC, STRANGER_MAC, TO_PEER, TO_POD,
};
use crate::confirmed::way_out;
use crate::parsing::toward;
use crate::rig::with_rig;
use crate::table::{Row, at, run};

#[test]
fn always_trusts_the_trie_from_pods() {
    with_rig("always_trusts_the_trie_from_pods", |rig| {
        drop(run(rig, &rows(Hook::FromPod)))
    });
}

#[test]
fn always_trusts_the_endpoints_from_the_wire() {
    with_rig("always_trusts_the_endpoints_from_the_wire", |rig| {
        drop(run(rig, &rows(Hook::FromWire)))
    });
}

pub fn rows(hook: Hook) -> Vec<Row> {
    let mut rows = both(hook);
    rows.extend(match hook {
        Hook::FromPod => from_pod(),
        _ => from_wire(),
    });
    rows
}

fn always(hook: Hook, name: &'static str, packet: Packet) -> Row {
    at(hook, name, packet).settings(|settings| settings.offload = Offload::Always as u8)
}

fn both(hook: Hook) -> Vec<Row> {
    let fast = |name, packet| always(hook, name, toward(hook, packet)).fast(way_out(hook));
    let kernel = |name, packet, verdict| always(hook, name, toward(hook, packet)).kernel(verdict);
    vec![
        fast("a flow that nobody knows", udp()),
        fast("a SYN", tcp(SYN)),
        fast("a FIN", tcp(FIN | ACK)),
        fast("a RST without ACK", tcp(RST)),
        fast("a ping", echo_request(7)),
        fast("an ICMP error", icmp(3, 4, 0)),
        fast("SCTP", protocol(132)),
        fast("padded", udp().payload(b"").padded()),
        kernel("TTL 1", udp().ttl(1), Verdict::TtlExpired),
        kernel("too big", udp().ip_len(MTU + 1), Verdict::TooBig),
        kernel("a fragment", udp().fragment(0, true), Verdict::Fragment),
        kernel("IP options", udp().options(&[1; 4]), Verdict::IpOptions),
        kernel(
            "a wrong checksum",
            udp().checksum_error(1),
            Verdict::Malformed,
        )
        .no_twin(),
        kernel(
            "broadcast",
            udp().macs(BROADCAST_MAC, POD_MAC),
            Verdict::NotForUs,
        ),
        kernel("not a pod's", udp().src(OUTSIDE), Verdict::NotPodTraffic),
        kernel("the way out is gone", udp(), Verdict::WayOutGone)
            .route(
                "10.244.2.0/24",
                Route {
                    ifindex: NO_DEVICE,
                    ..PEER_ROUTE
                },
            )
            .endpoint(POD, gone_if_destination(hook)),
    ]
}

/// For packets to the pod: an endpoint whose veth is gone.
fn gone_if_destination(hook: Hook) -> Endpoint {
    match hook {
        Hook::FromPod => POD_ENDPOINT,
        _ => Endpoint {
            ifindex: NO_DEVICE,
            ..POD_ENDPOINT
        },
    }
}

fn from_pod() -> Vec<Row> {
    let row = |name, packet| always(Hook::FromPod, name, packet);
    vec![
        row("a pod whose veth is not known", udp())
            .no_endpoints()
            .kernel(Verdict::OtherEntrance),
        row("another pod with this pod's address", udp())
            .device(OTHER_VETH)
            .kernel(Verdict::OtherEntrance),
        row(
            "another MAC than the gateway's",
            udp().macs(STRANGER_MAC, POD_MAC),
        )
        .kernel(Verdict::OtherEntrance),
        row("no route", udp()).no_routes().kernel(Verdict::NoRoute),
        row("to the outside", udp().dst(OUTSIDE)).kernel(Verdict::NoRoute),
        row("to a pod of this node", udp().dst(OTHER_POD)).kernel(Verdict::NoRoute),
        row("an exception", udp())
            .route("10.244.2.2/32", Route::KERNEL)
            .kernel(Verdict::NoRoute),
        row("the longest prefix has it", udp())
            .route(
                "10.0.0.0/8",
                Route {
                    peer_mac: STRANGER_MAC,
                    ..PEER_ROUTE
                },
            )
            .fast(TO_PEER),
    ]
}

fn from_wire() -> Vec<Row> {
    let row = |name, packet| always(Hook::FromWire, name, packet);
    vec![
        row("a pod that is not known", udp().back())
            .no_endpoints()
            .kernel(Verdict::NoEndpoint),
        row("the address of no pod", udp().src(OTHER_POD).back()).kernel(Verdict::NoEndpoint),
        row("from the outside", udp().dst(OUTSIDE).back()).fast(TO_POD),
        row(
            "a frame for another station",
            udp().back().macs(STRANGER_MAC, STRANGER_MAC),
        )
        .kernel(Verdict::NotForUs),
    ]
}
