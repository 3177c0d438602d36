//! ICMP errors follow the flow of the packet that they quote, where both of its directions are
//! confirmed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;

use underpass_common::flow::{Flow, WayOut, confirmed};
use underpass_common::verdict::{Hook, Verdict};

use crate::builder::{ACK, ETHERNET, Packet, echo_reply, echo_request, icmp, protocol, tcp, udp};
use crate::cast::{
    CONFIRMED, EGRESS, EPOCH, FAR, GENERATION, INGRESS, NO_DIRECTION, OTHER_POD, OTHER_VETH, POD,
    TO_PEER, TO_POD, UPLINK, device_at, macs_at,
};
use crate::launcher::Metadata;
use crate::rig::{Rig, with_rig};
use crate::table::{Family, Hex, NEXT, REDIRECT};
use crate::transport::internet_checksum;
use crate::twin;
use crate::world::World;

/// The peer node: whoever finds a packet too big for the far pod's link.
const PEER: [u8; 4] = [192, 168, 77, 2];
/// This node.
const NODE: [u8; 4] = [192, 168, 77, 1];

/// Bytes of an IP header and of the eight that follow it.
fn least_quote(family: Family) -> usize {
    match family {
        Family::V4 => 28,
        Family::V6 => 48,
    }
}

/// An ICMP error in the making.
#[derive(Clone)]
struct Error {
    name: String,
    family: Family,
    hook: Hook,
    src: [u8; 4],
    dst: [u8; 4],
    kind: u8,
    /// The packet that it is about, in that packet's own direction.
    about: Packet,
    /// So many bytes of it are quoted.
    quote: usize,
    hops: u8,
    ifindex: u32,
    /// What becomes of the flow's two directions before.
    flow: Flow,
}

impl Error {
    /// About a pod's packet, from the peer node; or about one for a pod, from that pod.
    fn at(hook: Hook, family: Family, name: &str, about: Packet) -> Self {
        let (src, dst, about) = match hook {
            Hook::FromWire => (PEER, POD, about),
            _ => (POD, FAR, about.back()),
        };
        let kind = match family {
            Family::V4 => 3,
            Family::V6 => 2,
        };
        Self {
            name: name.to_owned(),
            family,
            hook,
            src,
            dst,
            kind,
            about,
            quote: 64,
            hops: 64,
            ifindex: device_at(hook),
            flow: CONFIRMED,
        }
    }

    fn but(mut self, name: &str, change: impl FnOnce(&mut Self)) -> Self {
        self.name = name.to_owned();
        change(&mut self);
        self
    }

    fn address(&self, v4: [u8; 4]) -> IpAddr {
        match self.family {
            Family::V4 => v4.into(),
            Family::V6 => twin::of_address(v4.into()).into(),
        }
    }

    fn quoted(&self) -> Vec<u8> {
        let frame = self.about.clone().or_macs(macs_at(self.hook)).bytes();
        let frame = match self.family {
            Family::V4 => frame,
            Family::V6 => twin::of_frame(&frame),
        };
        let packet = &frame[ETHERNET..];
        packet[..self.quote.min(packet.len())].to_vec()
    }

    fn frame(&self) -> Vec<u8> {
        let (dst_mac, src_mac) = macs_at(self.hook);
        let message = [&[self.kind, 0, 0, 0, 0, 0, 5, 0], &self.quoted()[..]].concat();
        let packet = match (self.address(self.src), self.address(self.dst)) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => v4(src, dst, self.hops, &message),
            (IpAddr::V6(src), IpAddr::V6(dst)) => v6(src, dst, self.hops, &message),
            _ => unreachable!("of one family"),
        };
        let ethertype = match self.family {
            Family::V4 => [0x08, 0x00],
            Family::V6 => [0x86, 0xdd],
        };
        [&dst_mac[..], &src_mac, &ethertype, &packet].concat()
    }

    fn world(&self) -> World {
        let mut world = World::usual();
        let tuple = self.about.tuple().expect("an IP packet");
        let key = match self.hook {
            Hook::FromWire => tuple.from_pod(),
            _ => tuple.to_pod(),
        };
        world.flows.push((key, self.flow));
        match self.family {
            Family::V4 => world,
            Family::V6 => world.twin().expect("a world that has a twin"),
        }
    }

    /// Runs it: the way out that its frame went, or the verdict, and the flow as it is left.
    fn run(&self, rig: &mut Rig) -> (Result<WayOut, Verdict>, Flow) {
        rig.put(&self.world()).expect("maps");
        let before = rig.counts().expect("counts");
        let with = Metadata {
            ifindex: self.ifindex,
            ..Metadata::default()
        };
        let frame = self.frame();
        let run = rig.run(self.hook, &frame, &with).expect("a run");
        let counts = rig.counts().expect("counts");
        let mut changed = counts
            .iter()
            .filter(|(place, count)| **count != before[*place]);
        let (&(_, verdict), _) = changed.next().expect("one verdict");
        let flow = rig.world().expect("maps").flows[0].1;
        if verdict != Verdict::Fast {
            assert_eq!(run.answer, NEXT, "{}", self.name);
            assert_eq!(Hex(&run.bytes), Hex(&frame), "{}", self.name);
            return (Err(verdict), flow);
        }
        assert_eq!(run.answer, REDIRECT, "{}", self.name);
        let mac = |at: usize| run.bytes[at..at + 6].try_into().expect("six bytes");
        let way_out = WayOut {
            dst_mac: mac(0),
            src_mac: mac(6),
            ..way_out(self.hook)
        };
        // Behind the header nothing is changed.
        let payload = ETHERNET + if self.family == Family::V4 { 20 } else { 40 };
        assert_eq!(
            Hex(&run.bytes[payload..]),
            Hex(&frame[payload..]),
            "{}",
            self.name
        );
        (Ok(way_out), flow)
    }
}

const fn way_out(hook: Hook) -> WayOut {
    match hook {
        Hook::FromWire => TO_POD,
        _ => TO_PEER,
    }
}

fn v4(src: Ipv4Addr, dst: Ipv4Addr, ttl: u8, message: &[u8]) -> Vec<u8> {
    let len = (20 + message.len()) as u16;
    let mut header = vec![0x45, 0xc0];
    header.extend(len.to_be_bytes());
    header.extend([0x12, 0x34, 0, 0, ttl, 1, 0, 0]);
    header.extend(src.octets());
    header.extend(dst.octets());
    let checksum = internet_checksum(&header);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    [&header, message].concat()
}

fn v6(src: Ipv6Addr, dst: Ipv6Addr, hop_limit: u8, message: &[u8]) -> Vec<u8> {
    let len = (message.len() as u16).to_be_bytes();
    let header = [0x60, 0, 0, 0, len[0], len[1], 58, hop_limit];
    [&header[..], &src.octets(), &dst.octets(), message].concat()
}

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
