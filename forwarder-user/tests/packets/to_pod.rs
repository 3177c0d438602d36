//! The exit to a pod: what the kernel delivers confirms the wire's direction, and shows where the
//! pod is.

use std::net::{IpAddr, Ipv4Addr};

use underpass_common::endpoint::Endpoint;
use underpass_common::flow::{Direction, Entrance, Flow, confirmed};
use underpass_common::pod::PodState;
use underpass_common::tag;
use underpass_common::verdict::{Hook, Verdict};

use crate::builder::{ACK, Packet, SYN, echo_reply, echo_request, icmp, protocol, tcp, udp};
use crate::cast::{
    CONFIRMED, EPOCH, GATEWAY_MAC, GENERATION, INGRESS, NO_DIRECTION, OTHER_POD, OTHER_POD_MAC,
    OTHER_VETH, POD, POD_ENDPOINT, POD_ENTRANCE, POD_MAC, POD_VETH, STRANGER_MAC,
};
use crate::rig::with_rig;
use crate::table::{Row, Witness, at, run};
use crate::world::World;

const HOOK: Hook = Hook::ToPod;

/// A flow of which only the wire's direction is confirmed.
const ONE_WAY: Flow = Flow {
    key_check: 0,
    egress: NO_DIRECTION,
    ingress: INGRESS,
};

/// Room in the map of endpoints (`MAX_PODS` of the BPF programs).
const MAX_PODS: u32 = 4096;

#[test]
fn to_pod_confirms_what_it_sees() {
    with_rig("to_pod_confirms_what_it_sees", |rig| {
        drop(run(rig, &confirming()))
    });
}

#[test]
fn to_pod_learns_where_pods_are() {
    with_rig("to_pod_learns_where_pods_are", |rig| {
        drop(run(rig, &learning()))
    });
}

#[test]
fn to_pod_doubts_what_it_cannot_witness() {
    with_rig("to_pod_doubts_what_it_cannot_witness", |rig| {
        drop(run(rig, &doubting()))
    });
}

pub fn rows() -> Vec<Row> {
    confirming()
        .into_iter()
        .chain(learning())
        .chain(doubting())
        .collect()
}

fn joined(flow: Flow) -> Flow {
    let ingress = Direction {
        confirmed: confirmed::MID_STREAM,
        ..flow.ingress
    };
    Flow { ingress, ..flow }
}

fn confirming() -> Vec<Row> {
    let row = |name, packet: Packet| at(HOOK, name, packet.back()).kernel(Verdict::Confirmed);
    let only_out = Flow {
        key_check: 0,
        ingress: NO_DIRECTION,
        ..CONFIRMED
    };
    let mut old = CONFIRMED;
    old.ingress.epoch = EPOCH - 1;
    old.ingress.generation = GENERATION - 1;
    vec![
        row("a datagram", udp()).after_flow(ONE_WAY),
        row("a ping", echo_request(7)).after_flow(ONE_WAY),
        row("the answer to a ping", echo_reply(7)).after_flow(ONE_WAY),
        row("a SYN: known from its start", tcp(SYN)).after_flow(ONE_WAY),
        row("a SYN-ACK: likewise", tcp(SYN | ACK)).after_flow(ONE_WAY),
        row("data: joined in mid-stream", tcp(ACK)).after_flow(joined(ONE_WAY)),
        row("the other direction stays", udp())
            .flow(only_out)
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
    ]
}

fn learning() -> Vec<Row> {
    let learned = |name, packet: Packet, verdict| {
        at(HOOK, name, packet.back()).no_endpoints().kernel(verdict)
    };
    let moved = Endpoint {
        ifindex: OTHER_VETH,
        ..POD_ENDPOINT
    };
    let knows_pod = |world: &mut World| {
        world.endpoints.insert(POD.into(), POD_ENDPOINT);
    };
    let knows_pod_and_flow = move |world: &mut World| {
        let key = udp().tuple().expect("an IP packet").from_pod();
        world.flows.push((key, ONE_WAY));
        knows_pod(world);
    };
    let unknown = |name, verdict| {
        at(HOOK, name, udp().back())
            .no_endpoints()
            .flow(CONFIRMED)
            .kernel(verdict)
    };
    vec![
        learned("a pod seen for the first time", udp(), Verdict::Confirmed)
            .after(knows_pod_and_flow),
        learned(
            "an ICMP error shows the pod, and confirms nothing",
            icmp(11, 0, 0),
            Verdict::Icmp,
        )
        .after(knows_pod),
        learned("SCTP likewise", protocol(132), Verdict::Protocol).after(knows_pod),
        at(HOOK, "a pod that has moved", udp().back())
            .endpoint(POD, moved)
            .kernel(Verdict::Confirmed)
            .after(knows_pod_and_flow),
        at(HOOK, "a gateway with another MAC", udp().back())
            .endpoint(
                POD,
                Endpoint {
                    gateway_mac: STRANGER_MAC,
                    ..POD_ENDPOINT
                },
            )
            .kernel(Verdict::Confirmed)
            .after(knows_pod_and_flow),
        // A bridge that has forgotten a MAC sends the frame to all its ports.
        unknown(
            "a frame flooded to another pod's veth",
            Verdict::OtherNextHop,
        )
        .device(OTHER_VETH),
        unknown(
            "a frame to a MAC that is not the pod's",
            Verdict::OtherNextHop,
        )
        .packet(|packet| packet.macs(OTHER_POD_MAC, GATEWAY_MAC)),
        unknown("a veth that the agent does not know", Verdict::NoEndpoint).world(|world| {
            world.pods.remove(&POD_VETH);
        }),
        unknown("a veth that is left to the kernel", Verdict::NoEndpoint).world(|world| {
            world.pods.get_mut(&POD_VETH).expect("the pod").state = PodState::Shaped as u8;
        }),
        unknown("more pods than there is room for", Verdict::NoEndpoint).world(|world| {
            let others = (0..MAX_PODS).map(|n| Ipv4Addr::from(0x0a09_0000 + n).into());
            world
                .endpoints
                .extend(others.map(|other: IpAddr| (other, POD_ENDPOINT)));
        }),
    ]
}

fn doubting() -> Vec<Row> {
    let mut forgotten = CONFIRMED;
    forgotten.egress.confirmed = confirmed::NO;
    forgotten.ingress.confirmed = confirmed::NO;
    let row = |name, packet: Packet, witness| {
        at(HOOK, name, packet.back())
            .flow(CONFIRMED)
            .witness(witness)
            .kernel(Verdict::Unwitnessed)
            .after_flow(forgotten)
    };
    let from_service = udp().to([10, 96, 0, 10], 53).back();
    vec![
        row("the host's own packet", udp(), Witness::Exactly(tag::NONE)),
        row(
            "a translated packet",
            udp(),
            Witness::Translated(Box::new(from_service), Entrance::WIRE),
        ),
        row(
            "a packet of a pod of this node",
            udp(),
            Witness::From(POD_ENTRANCE),
        ),
        row("TCP likewise", tcp(ACK), Witness::Exactly(tag::NONE)),
        row(
            "nothing is learned from it",
            udp(),
            Witness::Exactly(tag::NONE),
        )
        .no_endpoints(),
        row("nothing to forget", udp(), Witness::Exactly(tag::NONE))
            .world(|world| world.flows.clear())
            .after(|_| {}),
        at(HOOK, "a fast packet", udp().back())
            .flow(CONFIRMED)
            .witness(Witness::Exactly(tag::FAST))
            .unseen(),
        at(
            HOOK,
            "a pod's own frame, flooded",
            udp().src(OTHER_POD).back().macs(POD_MAC, GATEWAY_MAC),
        )
        .witness(Witness::Exactly(tag::NONE))
        .kernel(Verdict::Unwitnessed),
        // It names no flow: a ping with the identifier 0 must not suffer from it.
        at(HOOK, "an unwitnessed ICMP error", icmp(3, 3, 0).back())
            .witness(Witness::Exactly(tag::NONE))
            .world(|world| {
                let ping = echo_request(0).tuple().expect("an IP packet").from_pod();
                world.flows.push((ping, CONFIRMED));
            })
            .kernel(Verdict::Unwitnessed),
    ]
}
