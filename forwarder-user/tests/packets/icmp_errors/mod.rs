//! ICMP errors follow the flow of the packet that they quote, where both of its directions are
//! confirmed.

mod error;

use std::net::Ipv6Addr;
use std::process::Command;

use underpass_common::flow::{Flow, confirmed};
use underpass_common::verdict::{Hook, Verdict};

use crate::builder::{ACK, ETHERNET, echo_reply, echo_request, icmp, protocol, tcp, udp};
use crate::cast::{
    EGRESS, EPOCH, GENERATION, INGRESS, NO_DIRECTION, OTHER_POD, OTHER_VETH, UPLINK, device_at,
};
use crate::launcher::Metadata;
use crate::rig::{Rig, with_rig};
use crate::table::{Family, Hex, NEXT};
use error::{Error, least_quote, way_out};

/// This node.
const NODE: [u8; 4] = [192, 168, 77, 1];

/// The kernel's own idea of where addresses are, which the programs ask for.
const NETWORK: &str = "
    sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
    ip link set up10 up
    ip link set far10 up
    ip addr add 192.168.77.1/24 dev up10
    ip addr add fd00:192:168:77::1/64 dev up10 nodad
    ip link set up20 up
    ip link set far20 up
    ip addr add 10.9.9.1/24 dev up20
    ip addr add fd00:10:9:9::1/64 dev up20 nodad
";

fn with_network(test: &str, body: impl FnOnce(&mut Rig) + Send) {
    with_rig(test, |rig| {
        let status = Command::new("sh").args(["-ec", NETWORK]).status();
        assert!(status.expect("a shell").success(), "no network");
        body(rig);
    });
}

fn each(mut check: impl FnMut(Hook, Family)) {
    for hook in [Hook::FromPod, Hook::FromWire] {
        for family in [Family::V4, Family::V6] {
            check(hook, family);
        }
    }
}

fn fast(rig: &mut Rig, error: &Error) {
    let (found, flow) = error.run(rig);
    let told = (error.hook, error.family, &error.name);
    assert_eq!(found, Ok(way_out(error.hook)), "{told:?}");
    assert_eq!(flow, error.flow, "{told:?}: its flow");
}

fn kernel(rig: &mut Rig, error: &Error, verdict: Verdict, flow: Flow) {
    let (found, left) = error.run(rig);
    let told = (error.hook, error.family, &error.name);
    assert_eq!(found, Err(verdict), "{told:?}");
    assert_eq!(left, flow, "{told:?}: its flow");
}

#[test]
fn an_error_follows_a_flow_that_is_confirmed_both_ways() {
    with_network(
        "an_error_follows_a_flow_that_is_confirmed_both_ways",
        |rig| {
            each(|hook, family| {
                let error = |name, about| Error::at(hook, family, name, about);
                for about in [
                    error("UDP", udp()),
                    error("TCP", tcp(ACK)),
                    error("a ping", echo_request(7)),
                    error("the answer to a ping", echo_reply(7)),
                ] {
                    fast(rig, &about);
                }
                let plain = error("plain", udp());
                fast(
                    rig,
                    &plain.clone().but("the least quote", |error| {
                        error.quote = least_quote(family);
                    }),
                );
                let kinds: &[u8] = match family {
                    Family::V4 => &[3, 11, 12],
                    Family::V6 => &[1, 2, 3, 4],
                };
                for &kind in kinds {
                    fast(
                        rig,
                        &plain.clone().but("every kind", |error| error.kind = kind),
                    );
                }
                // The way out is looked up again, whatever is cached.
                fast(
                    rig,
                    &plain.but("an older generation", |error| {
                        error.flow.egress.generation = GENERATION - 1;
                        error.flow.ingress.generation = GENERATION - 1;
                    }),
                );
            });
        },
    );
}

#[test]
fn an_error_about_a_flow_of_one_way_is_the_kernels() {
    with_network("an_error_about_a_flow_of_one_way_is_the_kernels", |rig| {
        each(|hook, family| {
            // The direction of the packet that it is about is confirmed, and forgotten.
            let mut one_way = match hook {
                Hook::FromWire => Flow {
                    key_check: 0,
                    egress: EGRESS,
                    ingress: NO_DIRECTION,
                },
                _ => Flow {
                    key_check: 0,
                    egress: NO_DIRECTION,
                    ingress: INGRESS,
                },
            };
            let error = Error::at(hook, family, "one way", udp()).but("one way", |error| {
                error.flow = one_way;
            });
            let forgotten = match hook {
                Hook::FromWire => &mut one_way.egress,
                _ => &mut one_way.ingress,
            };
            forgotten.confirmed = confirmed::NO;
            kernel(rig, &error, Verdict::Icmp, one_way);
            // Only the error's own direction is confirmed: nothing that it could be about.
            let own_only = match hook {
                Hook::FromWire => Flow {
                    key_check: 0,
                    egress: NO_DIRECTION,
                    ingress: INGRESS,
                },
                _ => Flow {
                    key_check: 0,
                    egress: EGRESS,
                    ingress: NO_DIRECTION,
                },
            };
            let error = error.but("its own way only", |error| error.flow = own_only);
            kernel(rig, &error, Verdict::Icmp, own_only);
        });
    });
}

#[test]
fn an_error_that_does_not_fit_is_the_kernels() {
    with_network("an_error_that_does_not_fit_is_the_kernels", |rig| {
        each(|hook, family| {
            let plain = Error::at(hook, family, "plain", udp());
            let icmp_is = |rig: &mut Rig, error: Error| {
                let flow = error.flow;
                kernel(rig, &error, Verdict::Icmp, flow);
            };
            for quote in 0..least_quote(family) {
                icmp_is(
                    rig,
                    plain
                        .clone()
                        .but("a quote cut off", |error| error.quote = quote),
                );
            }
            let others: &[u8] = match family {
                Family::V4 => &[4, 5, 9, 10, 13, 14, 17],
                Family::V6 => &[0, 5, 127, 130, 133, 135, 136, 137, 143],
            };
            for &kind in others {
                icmp_is(
                    rig,
                    plain.clone().but("not an error", |error| error.kind = kind),
                );
            }
            icmp_is(
                rig,
                plain
                    .clone()
                    .but("an epoch ago", |error| {
                        error.flow.egress.epoch = EPOCH - 1;
                        error.flow.ingress.epoch = EPOCH - 1;
                    })
                    .but("an epoch ago", |error| {
                        // What is not confirmed any more is not cleared either: it is as good as cleared.
                        error.flow.egress.confirmed = confirmed::NO;
                        error.flow.ingress.confirmed = confirmed::NO;
                    }),
            );
            // Of another flow than those that are known.
            let mut strange = plain.clone();
            strange.about = strange.about.clone().from(OTHER_POD, 1);
            let world_of_plain = plain.world();
            rig.put(&world_of_plain).expect("maps");
            let with = Metadata {
                ifindex: strange.ifindex,
                ..Metadata::default()
            };
            let run = rig.run(hook, &strange.frame(), &with).expect("a run");
            assert_eq!(
                run.answer, NEXT,
                "{hook:?} {family:?}: about nobody's packet"
            );
            let expired = plain.clone().but("the last hop", |error| error.hops = 1);
            let flow = expired.flow;
            kernel(rig, &expired, Verdict::TtlExpired, flow);
        });
        // What IPv4 alone has.
        for (name, about) in [
            ("a quoted fragment", udp().fragment(0, true)),
            ("quoted options", udp().options(&[1, 1, 1, 0])),
            ("SCTP", protocol(132)),
            ("an error about an error", icmp(3, 4, 0)),
        ] {
            let error = Error::at(Hook::FromWire, Family::V4, name, about);
            let (found, _) = error.run(rig);
            assert_eq!(found, Err(Verdict::Icmp), "{name}");
        }
    });
}

#[test]
fn an_error_comes_from_where_it_says() {
    with_network("an_error_comes_from_where_it_says", |rig| {
        for family in [Family::V4, Family::V6] {
            let plain = Error::at(Hook::FromWire, family, "plain", udp());
            fast(rig, &plain);
            let from = |name: &str, src| plain.clone().but(name, |error| error.src = src);
            let mut wrong = vec![
                from("the node itself", NODE),
                from("another segment", [10, 9, 9, 7]),
                from("nowhere", [203, 0, 113, 9]),
            ];
            if family == Family::V4 {
                for src in [
                    [0, 0, 0, 1],
                    [127, 0, 0, 1],
                    [224, 0, 0, 1],
                    [255, 255, 255, 255],
                ] {
                    wrong.push(from("a source that none has", src));
                }
            }
            for error in wrong {
                let flow = error.flow;
                kernel(rig, &error, Verdict::Icmp, flow);
            }
            // For somebody else than who sent the packet that it is about.
            let elsewhere = plain.but("for another pod", |error| error.dst = OTHER_POD);
            let flow = elsewhere.flow;
            kernel(rig, &elsewhere, Verdict::Icmp, flow);

            // A pod that quotes what another pod has received.
            let own = Error::at(Hook::FromPod, family, "plain", udp());
            let thief = own
                .clone()
                .but("by another veth", |error| error.ifindex = OTHER_VETH);
            let (found, _) = thief.run(rig);
            assert_eq!(found, Err(Verdict::Icmp), "{family:?}");
            let liar = own.but("about another pod's packet", |error| error.src = OTHER_POD);
            let (found, _) = liar.run(rig);
            assert_eq!(found, Err(Verdict::Icmp), "{family:?}");
        }
        assert_eq!(
            device_at(Hook::FromWire),
            UPLINK,
            "whose address NETWORK gives"
        );
    });
}

/// IPv6's own addresses that no packet comes from.
#[test]
fn an_error_has_a_source_that_somebody_can_have() {
    with_network("an_error_has_a_source_that_somebody_can_have", |rig| {
        let error = Error::at(Hook::FromWire, Family::V6, "plain", udp());
        rig.put(&error.world()).expect("maps");
        let with = Metadata {
            ifindex: UPLINK,
            ..Metadata::default()
        };
        for src in ["::", "::1", "ff02::1", "fe80::2"] {
            let mut frame = error.frame();
            let src: Ipv6Addr = src.parse().expect("an address");
            frame[ETHERNET + 8..ETHERNET + 24].copy_from_slice(&src.octets());
            let run = rig.run(Hook::FromWire, &frame, &with).expect("a run");
            assert_eq!((run.answer, Hex(&run.bytes)), (NEXT, Hex(&frame)), "{src}");
        }
    });
}
