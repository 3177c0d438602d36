//! What only IPv6 has: rows without a twin in IPv4.

use std::net::{IpAddr, Ipv6Addr};

use underpass_common::addr::Block;
use underpass_common::verdict::{Hook, Verdict};

use crate::builder::{ACK, Packet, echo_request, icmpv6, protocol, tcp, udp};
use crate::cast::{ALL_NODES_MAC, CONFIRMED, POD, macs_at};
use crate::confirmed::way_out;
use crate::family::Twin as _;
use crate::parsing::{own_address, toward};
use crate::rig::with_rig;
use crate::table::{Row, at, run};

#[test]
fn from_pod_knows_ipv6() {
    with_rig("from_pod_knows_ipv6", |rig| {
        drop(run(rig, &rows(Hook::FromPod)))
    });
}

#[test]
fn from_wire_knows_ipv6() {
    with_rig("from_wire_knows_ipv6", |rig| {
        drop(run(rig, &rows(Hook::FromWire)))
    });
}

#[test]
fn to_wire_knows_ipv6() {
    with_rig("to_wire_knows_ipv6", |rig| {
        drop(run(rig, &rows(Hook::ToWire)))
    });
}

#[test]
fn to_pod_knows_ipv6() {
    with_rig("to_pod_knows_ipv6", |rig| {
        drop(run(rig, &rows(Hook::ToPod)))
    });
}

pub fn rows(hook: Hook) -> Vec<Row> {
    let mut rows = extension_headers(hook);
    rows.extend(lengths_and_versions(hook));
    rows.extend(neighbour_discovery(hook));
    if hook.is_entrance() {
        rows.extend(fast(hook));
        rows.extend(pod_cidrs(hook));
        rows.extend(other_families_flows(hook));
    }
    rows
}

/// Every number that stands for an extension header (IANA), and those that look like one.
fn extension_headers(hook: Hook) -> Vec<Row> {
    let row = |name: String, packet, verdict| {
        at(hook, name, toward(hook, packet))
            .flow(CONFIRMED)
            .kernel(verdict)
    };
    let mut rows = Vec::new();
    for (number, name, verdict) in [
        (0, "hop-by-hop options", Verdict::IpOptions),
        (43, "a routing header", Verdict::IpOptions),
        (44, "a fragment header", Verdict::Fragment),
        (51, "an authentication header", Verdict::IpOptions),
        (60, "destination options", Verdict::IpOptions),
        (135, "a mobility header", Verdict::IpOptions),
        (139, "a HIP header", Verdict::IpOptions),
        (140, "a Shim6 header", Verdict::IpOptions),
    ] {
        let with = |packet: Packet| packet.in_v6().extension(number, [0; 7]);
        rows.extend([
            row(format!("{name} before UDP"), with(udp()), verdict),
            row(format!("{name} before TCP"), with(tcp(ACK)), verdict),
            row(
                format!("{name} before a ping"),
                with(echo_request(7)),
                verdict,
            ),
            row(
                format!("{name} before another"),
                with(udp()).extension(60, [0; 7]),
                verdict,
            ),
            row(
                format!("{name} with nothing behind it"),
                with(protocol(59)).payload(b""),
                verdict,
            ),
        ]);
    }
    for (number, name) in [
        (50, "ESP"),
        (59, "no next header"),
        (4, "IPv4 in IPv6"),
        (41, "IPv6 in IPv6"),
        (1, "the ICMP of IPv4"),
        (253, "a number for experiments"),
        (255, "the last number"),
    ] {
        rows.push(row(
            name.into(),
            protocol(number).in_v6(),
            Verdict::Protocol,
        ));
    }
    // A header that looks like an echo behind the number of IPv4's ICMP.
    let echo = [8, 0, 0, 0, 0, 7, 0, 1];
    rows.push(row(
        "a ping of IPv4's".into(),
        protocol(1).payload(&echo).in_v6(),
        Verdict::Protocol,
    ));
    rows
}

fn lengths_and_versions(hook: Hook) -> Vec<Row> {
    let row = |name: String, packet: Packet, verdict| {
        at(hook, name, toward(hook, packet))
            .flow(CONFIRMED)
            .kernel(verdict)
    };
    // RFC 2675: a payload length of 0, and the true one in an option.
    let jumbo = [0, 0xc2, 4, 0, 1, 0, 0];
    let mut rows = vec![
        row(
            "a jumbogram".into(),
            udp().in_v6().extension(0, jumbo).total_len(40),
            Verdict::IpOptions,
        ),
        row(
            "a payload length of 0 with something behind it".into(),
            udp().in_v6().total_len(40),
            Verdict::Malformed,
        ),
        row(
            "a payload length of 7".into(),
            udp().in_v6().total_len(47),
            Verdict::Malformed,
        ),
        row(
            "the longest payload length".into(),
            udp().in_v6().total_len(40 + 0xffff),
            Verdict::Malformed,
        ),
    ];
    rows.extend((0..16).filter(|version| *version != 6).map(|version| {
        row(
            format!("version {version}"),
            udp().in_v6().version(version),
            Verdict::Malformed,
        )
    }));
    rows
}

/// Neighbour discovery and listener discovery are the kernel's affair, whomever they are for.
fn neighbour_discovery(hook: Hook) -> Vec<Row> {
    let unicast = |name: String, kind| {
        at(hook, name, toward(hook, icmpv6(kind, 0).ttl(255))).kernel(Verdict::Icmp)
    };
    let link_local: Ipv6Addr = "fe80::2".parse().expect("an address");
    let multicast: Ipv6Addr = "ff02::1".parse().expect("an address");
    let (_, src_mac) = macs_at(hook);
    let to_all = |name: String, packet: Packet| {
        // Where a pod's own address is looked for first, there is none.
        let is_pods = match hook {
            Hook::FromPod | Hook::ToWire => {
                packet.tuple().expect("an IP packet").src != IpAddr::from(link_local)
            }
            Hook::FromWire | Hook::FromWireXdp => false,
            Hook::ToPod => true,
        };
        at(
            hook,
            name,
            packet.dst(multicast).macs(ALL_NODES_MAC, src_mac),
        )
        .kernel(match is_pods {
            true => Verdict::NotForUs,
            false => Verdict::NotPodTraffic,
        })
    };
    let router_alert = [0, 5, 2, 0, 0, 1, 0];
    let mut rows: Vec<_> = [130, 131, 132, 133, 134, 135, 136, 137, 143]
        .into_iter()
        .flat_map(|kind| {
            [
                unicast(format!("ICMPv6 {kind} to one station"), kind),
                to_all(format!("ICMPv6 {kind} to all"), icmpv6(kind, 0).ttl(255)),
                to_all(
                    format!("ICMPv6 {kind} to all from a link-local address"),
                    icmpv6(kind, 0).ttl(255).src(link_local),
                ),
            ]
        })
        .collect();
    rows.extend([
        to_all(
            "a listener report".into(),
            icmpv6(143, 0).ttl(1).extension(0, router_alert),
        ),
        at(
            hook,
            "a listener report to one station",
            toward(hook, icmpv6(131, 0).ttl(1).extension(0, router_alert)),
        )
        .kernel(Verdict::IpOptions),
        at(
            hook,
            "a link-local address",
            own_address(hook, udp().in_v6(), link_local),
        )
        .flow(CONFIRMED)
        .kernel(Verdict::NotPodTraffic),
        at(
            hook,
            "a solicitation with a link-local address",
            own_address(hook, icmpv6(135, 0).ttl(255), link_local),
        )
        .kernel(Verdict::NotPodTraffic),
    ]);
    if hook == Hook::FromPod {
        let gateway = IpAddr::from([10, 244, 1, 1]).twin();
        rows.push(
            at(
                hook,
                "a solicitation to the gateway's own address",
                icmpv6(135, 0).ttl(255).dst(gateway),
            )
            .kernel(Verdict::Icmp),
        );
    }
    rows
}

fn fast(hook: Hook) -> Vec<Row> {
    let row = |name, packet: Packet| {
        at(hook, name, toward(hook, packet.in_v6()))
            .flow(CONFIRMED)
            .fast(way_out(hook))
    };
    vec![
        row("a flow label stays", udp()).packet(|packet| packet.flow_label(0xf_ffff)),
        row("with a traffic class", tcp(ACK).tos(0xff))
            .packet(|packet| packet.flow_label(0x1_2345)),
    ]
}

/// Blocks of every length: an address that differs in the last bit of the prefix is outside, one that
/// differs in the first behind it inside.
fn pod_cidrs(hook: Hook) -> Vec<Row> {
    let IpAddr::V6(pod) = IpAddr::from(POD).twin() else {
        unreachable!("a twin is of IPv6");
    };
    let pod = u128::from(pod);
    let row = |length: u32, bit: u32| {
        let mask = u128::MAX << (128 - length);
        let block = Block {
            network: (pod & mask).to_be_bytes(),
            mask: mask.to_be_bytes(),
        };
        let address = Ipv6Addr::from(pod ^ 1 << (127 - bit));
        at(
            hook,
            format!("{address} and a podCIDR of length {length}"),
            own_address(hook, udp().in_v6(), address),
        )
        .flow(CONFIRMED)
        .settings(|settings| {
            settings.pod_cidrs_v6_len = 4;
            settings.pod_cidrs_v6[3] = block;
            for other in &mut settings.pod_cidrs_v6[..3] {
                // Nobody's.
                *other = Block {
                    network: [0xfe; 16],
                    mask: [0xff; 16],
                };
            }
        })
    };
    let outside = (1..=128).map(|length| row(length, length - 1).kernel(Verdict::NotPodTraffic));
    let inside = (1..128).map(|length| row(length, length).fast(way_out(hook)));
    outside.chain(inside).collect()
}

/// Neither family's packets are served by the other's table.
fn other_families_flows(hook: Hook) -> Vec<Row> {
    let flow_of = |packet: Packet| {
        let tuple = packet.tuple().expect("an IP packet");
        (tuple.from_pod(), CONFIRMED)
    };
    [udp(), tcp(ACK), echo_request(7)]
        .into_iter()
        .flat_map(|packet| {
            let (v4, v6) = (packet.clone(), packet.in_v6());
            [
                at(hook, "a flow of IPv4", toward(hook, v6.clone()))
                    .world(|world| world.flows.push(flow_of(v4.clone())))
                    .kernel(Verdict::Unconfirmed),
                at(hook, "a flow of IPv6", toward(hook, v4.clone()))
                    .no_twin()
                    .world(|world| world.flows.push(flow_of(v6)))
                    .kernel(Verdict::Unconfirmed),
            ]
        })
        .collect()
}
