//! ICMP errors: one about a flow that is confirmed both ways goes fast to whom it is for, any other is
//! the kernel's.

use underpass_common::endpoint::Endpoint;
use underpass_common::flow::{Direction, WayOut, confirmed};
use underpass_common::route::Route;
use underpass_common::verdict::{Hook, Verdict};

use crate::builder::{ACK, FIN, Packet, SYN, echo_reply, echo_request, error_about, tcp, udp};
use crate::cast::{
    CONFIRMED, EPOCH, GENERATION, MTU, NO_DEVICE, NO_DIRECTION, OTHER_POD, OTHER_VETH, OUTSIDE,
    PEER_ROUTE, POD, POD_ENDPOINT, POD_MAC, STRANGER_MAC,
};
use crate::confirmed::{but, opposite, own, way_out};
use crate::family::{Family, Twin as _};
use crate::parsing::toward;
use crate::rig::with_rig;
use crate::table::{Row, at, run};

/// Port unreachable, which is an error in both families.
const UNREACHABLE: (u8, u8) = (3, 3);

#[test]
fn errors_from_pods_follow_their_flow() {
    with_rig("errors_from_pods_follow_their_flow", |rig| {
        drop(run(rig, &rows(Hook::FromPod)))
    });
}

#[test]
fn errors_from_the_wire_follow_their_flow() {
    with_rig("errors_from_the_wire_follow_their_flow", |rig| {
        drop(run(rig, &rows(Hook::FromWire)))
    });
}

pub fn rows(hook: Hook) -> Vec<Row> {
    let mut rows = following(hook);
    rows.extend(types(hook));
    rows.extend(doubtful_flows(hook));
    rows.extend(looked_up(hook));
    rows.extend(other_names(hook));
    rows.extend(limits(hook));
    rows
}

/// The packet that an error at this hook is about: it went the other way.
pub fn subject(hook: Hook, packet: Packet) -> Packet {
    toward(opposite(hook), packet)
}

/// An error at this hook about a packet of the flow that this packet of the pod's is of.
pub fn about(hook: Hook, packet: Packet) -> Packet {
    let (kind, code) = UNREACHABLE;
    error_about(&subject(hook, packet), kind, code)
}

/// An error about a confirmed flow, by way of the hook.
pub fn followed(hook: Hook, name: impl Into<String>, packet: Packet) -> Row {
    at(hook, name, about(hook, packet))
        .flow(CONFIRMED)
        .fast(way_out(hook))
}

fn following(hook: Hook) -> Vec<Row> {
    let row = |name, packet| followed(hook, name, packet);
    vec![
        row("about UDP", udp()),
        row("about TCP", tcp(ACK)),
        row("about a SYN", tcp(SYN)),
        row("about a ping", echo_request(7)),
        row("about the answer to a ping", echo_reply(7)),
        row("about a datagram without payload", udp().payload(b"")),
        row(
            "whatever became of the packet on its way",
            udp().ttl(1).tos(0xfc),
        ),
        row(
            "whose header the sender of the error broke",
            udp().checksum_error(1),
        )
        .no_twin(),
        row("with something behind it", udp()).packet(|packet| packet.trailing(9)),
        row("joined in mid-stream", tcp(ACK)).world(|world| {
            world.flow().egress.confirmed = confirmed::MID_STREAM;
            world.flow().ingress.confirmed = confirmed::MID_STREAM;
        }),
        // It is neither first nor last of a connection, whatever it quotes.
        row("about a FIN joined in mid-stream", tcp(FIN | ACK)).world(|world| {
            let flow = world.flow();
            flow.egress.confirmed = confirmed::MID_STREAM;
            flow.ingress.confirmed = confirmed::MID_STREAM;
        }),
    ]
}

/// All types of a family with a code of 0: whether they are errors.
fn types(hook: Hook) -> Vec<Row> {
    let mut rows = Vec::new();
    for family in Family::ALL {
        let errors: &[u8] = match family {
            Family::V4 => &[3, 11, 12],
            Family::V6 => &[1, 2, 3, 4],
        };
        for kind in 0..=255 {
            let subject = subject(hook, udp()).in_family(family);
            let name = format!("type {kind}");
            let row = at(hook, name, error_about(&subject, kind, 0))
                .flow(CONFIRMED)
                .no_twin();
            let echoes = [family.echo_request(), family.echo_reply()];
            rows.push(match kind {
                _ if errors.contains(&kind) => row.fast(way_out(hook)),
                // A ping that happens to carry a packet.
                _ if echoes.contains(&kind) => row.kernel(Verdict::Unconfirmed),
                _ => row.kernel(Verdict::Icmp),
            });
        }
    }
    for (kind, code) in [(3, 0), (3, 1), (3, 4), (3, 13), (11, 1), (12, 2)] {
        let error = error_about(&subject(hook, udp()), kind, code);
        rows.push(
            at(hook, format!("type {kind}, code {code}"), error)
                .flow(CONFIRMED)
                .fast(way_out(hook)),
        );
    }
    rows
}

/// What the flow's entry must say: the error's own direction first, then the one that it is about.
fn doubtful_flows(hook: Hook) -> Vec<Row> {
    let other = opposite(hook);
    let row = |name, flow| {
        at(hook, name, about(hook, udp()))
            .flow(flow)
            .kernel(Verdict::Icmp)
    };
    // The next packet of the flow is the kernel's as well, so that conntrack knows it again.
    let cleared = |name, change: fn(&mut Direction)| {
        let flow = but(hook, change);
        let mut after = flow;
        own(other, &mut after).confirmed = confirmed::NO;
        row(name, flow).after_flow(after)
    };
    let mut rows = vec![
        at(hook, "about a flow that nobody knows", about(hook, udp())).kernel(Verdict::Icmp),
        cleared("its own direction was never confirmed", |direction| {
            *direction = NO_DIRECTION
        }),
        cleared(
            "its own direction was taken off the fast path",
            |direction| direction.confirmed = confirmed::NO,
        ),
        cleared("its own direction is of an older epoch", |direction| {
            direction.epoch = EPOCH - 1
        }),
        cleared(
            "its own direction is being written this moment",
            |direction| direction.generation = 0,
        ),
        row(
            "the direction that it is about was never confirmed",
            but(other, |direction| *direction = NO_DIRECTION),
        ),
        row(
            "the direction that it is about is of an older epoch",
            but(other, |direction| direction.epoch = EPOCH - 1),
        ),
        row(
            "neither direction is confirmed",
            but(hook, |direction| *direction = NO_DIRECTION),
        )
        .world(move |world| {
            *own(other, world.flow()) = NO_DIRECTION;
        }),
        followed(hook, "the direction that it is about is outdated", udp()).world(move |world| {
            own(other, world.flow()).generation = GENERATION - 1;
        }),
    ];
    if hook == Hook::FromPod {
        rows.push(
            row("another pod with this pod's address", CONFIRMED)
                .device(OTHER_VETH)
                .after_flow(but(other, |direction| {
                    direction.confirmed = confirmed::NO;
                })),
        );
        rows.push(
            row("another MAC than the gateway's", CONFIRMED)
                .packet(|packet| packet.macs(STRANGER_MAC, POD_MAC))
                .after_flow(but(other, |direction| {
                    direction.confirmed = confirmed::NO;
                })),
        );
    }
    rows
}

/// An error may be for another address than the flow's packets: its way out is looked up.
fn looked_up(hook: Hook) -> Vec<Row> {
    let row = |name| followed(hook, name, udp());
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
    let nowhere = match hook {
        Hook::FromPod => Verdict::NoRoute,
        _ => Verdict::NoEndpoint,
    };
    vec![
        row("not the flow's cached way out")
            .route("10.244.2.0/24", route)
            .endpoint(POD, endpoint)
            .fast(elsewhere),
        row("of an older generation, and the flow stays as it is")
            .world(move |world| {
                own(hook, world.flow()).generation = GENERATION - 1;
            })
            .route("10.244.2.0/24", route)
            .endpoint(POD, endpoint)
            .fast(elsewhere),
        row("nothing is found")
            .no_routes()
            .no_endpoints()
            .kernel(nowhere),
        row("the way out is gone")
            .route(
                "10.244.2.0/24",
                Route {
                    ifindex: NO_DEVICE,
                    ..PEER_ROUTE
                },
            )
            .endpoint(
                POD,
                Endpoint {
                    ifindex: NO_DEVICE,
                    ..POD_ENDPOINT
                },
            )
            .kernel(Verdict::WayOutGone),
    ]
}

/// Whom the error is for and from, and what the packet that it quotes says.
fn other_names(hook: Hook) -> Vec<Row> {
    let row = |name, change: fn(Packet) -> Packet| {
        at(hook, name, about(hook, udp()))
            .flow(CONFIRMED)
            .packet(change)
            .kernel(Verdict::Icmp)
    };
    let mut rows = vec![
        // The quoted packet is one that the receiver of the error was sent.
        at(
            hook,
            "about a packet of its own direction",
            about(hook, udp().back()).back(),
        )
        .world(|world| {
            let key = udp().tuple().expect("an IP packet").from_pod();
            world.flows.push((key, CONFIRMED));
        })
        .kernel(Verdict::Icmp),
    ];
    rows.extend(match hook {
        Hook::FromPod => vec![
            row("a pod that speaks for another", |packet| {
                packet.src(OTHER_POD)
            }),
            row("to somebody else than who sent the packet", |packet| {
                packet.dst([10, 244, 2, 3])
            }),
            row("from outside the own podCIDRs", |packet| {
                packet.src(OUTSIDE)
            })
            .kernel(Verdict::NotPodTraffic),
        ],
        _ => vec![
            row("to another pod than sent the packet", |packet| {
                packet.dst(OTHER_POD)
            }),
            row("to outside the own podCIDRs", |packet| packet.dst(OUTSIDE))
                .kernel(Verdict::NotPodTraffic),
        ],
    });
    rows
}

fn limits(hook: Hook) -> Vec<Row> {
    let row = |name| followed(hook, name, udp());
    let mut rows = vec![
        row("TTL 2").packet(|packet| packet.ttl(2)),
        row("TTL 1")
            .packet(|packet| packet.ttl(1))
            .kernel(Verdict::TtlExpired),
        row("a fragment of an error")
            .packet(|packet| packet.fragment(0, true))
            .kernel(Verdict::Fragment),
        row("an error with IP options")
            .packet(|packet| packet.options(&[1; 4]))
            .kernel(Verdict::IpOptions),
    ];
    for family in Family::ALL {
        let quoted = MTU - family.header_len() - 8;
        let error = |len| about(hook, udp().ip_len(len)).in_family(family);
        let row = |name, len| at(hook, name, error(len)).flow(CONFIRMED).no_twin();
        rows.extend([
            row("exactly the MTU", quoted).fast(way_out(hook)),
            row("one byte more than the MTU", quoted + 1).kernel(Verdict::TooBig),
        ]);
    }
    rows
}
