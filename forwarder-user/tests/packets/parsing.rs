//! What no hook reads on: frames that are not ours to understand, at all four hooks alike.

use std::net::IpAddr;

use underpass_common::addr::NO_MAC;
use underpass_common::settings::{Offload, Settings};
use underpass_common::verdict::{Hook, Verdict};

use crate::builder::{ACK, ETHERNET, Packet, echo_request, frame, protocol, tcp, udp};
use crate::cast::{BROADCAST_MAC, CONFIRMED, MULTICAST_MAC, OUTSIDE, macs_at};
use crate::family::{Family, Twin as _};
use crate::rig::with_rig;
use crate::table::{Row, Witness, at, run};

const MPLS: u16 = 0x8847;
const ARP: u16 = 0x0806;
const VLAN: u16 = 0x8100;
/// IGMP's protocol number.
const IGMP: u8 = 2;

#[test]
fn from_pod_reads_no_further() {
    with_rig("from_pod_reads_no_further", |rig| {
        drop(run(rig, &rows(Hook::FromPod)))
    });
}

#[test]
fn from_wire_reads_no_further() {
    with_rig("from_wire_reads_no_further", |rig| {
        drop(run(rig, &rows(Hook::FromWire)))
    });
}

#[test]
fn to_wire_reads_no_further() {
    with_rig("to_wire_reads_no_further", |rig| {
        drop(run(rig, &rows(Hook::ToWire)))
    });
}

#[test]
fn to_pod_reads_no_further() {
    with_rig("to_pod_reads_no_further", |rig| {
        drop(run(rig, &rows(Hook::ToPod)))
    });
}

/// All of these packets belong to a confirmed flow, and would be fast or confirmed.
pub fn rows(hook: Hook) -> Vec<Row> {
    let mut rows = off(hook);
    rows.extend(not_ip(hook));
    rows.extend(not_unicast(hook));
    rows.extend(lying_ip_headers(hook));
    rows.extend(lying_transport_headers(hook));
    rows.extend(fragments_and_options(hook));
    rows.extend(cut_anywhere(hook));
    rows.push(
        at(
            hook,
            "an address outside the own podCIDRs",
            own_address(hook, udp(), OUTSIDE),
        )
        .flow(CONFIRMED)
        .kernel(Verdict::NotPodTraffic),
    );
    rows
}

fn off(hook: Hook) -> Vec<Row> {
    let row = |name| {
        at(hook, name, toward(hook, udp()))
            .flow(CONFIRMED)
            .kernel(Verdict::Off)
    };
    vec![
        row("settings nobody has written").settings(|settings| *settings = Settings::default()),
        row("offload switched off").settings(|settings| settings.offload = Offload::Off as u8),
    ]
}

fn not_ip(hook: Hook) -> Vec<Row> {
    let row = |name, packet| {
        at(hook, name, packet)
            .witness(Witness::Exactly(0x1234))
            .kernel(Verdict::NotIp)
    };
    let ip = toward(hook, udp()).or_macs(macs_at(hook)).bytes();
    let ip_v6 = toward(hook, udp().in_v6()).ip_bytes();
    let inline_tag = [&[0, 5, 0x08, 0], &ip[14..]].concat();
    let inline_tag_v6 = [&[0, 5, 0x86, 0xdd], &ip_v6[..]].concat();
    vec![
        row("MPLS", frame(MPLS, &[0x60; 48])),
        row("ARP", frame(ARP, &[0; 28])),
        row("IPv4 under another EtherType", frame(0x88b5, &ip[14..])),
        row("a VLAN tag in the frame", frame(VLAN, &inline_tag)),
        row("a VLAN tag beside the frame", toward(hook, udp())).vlan(5),
        row("IPv6 under another EtherType", frame(0x88b5, &ip_v6)),
        row("a VLAN tag before IPv6", frame(VLAN, &inline_tag_v6)),
    ]
}

fn not_unicast(hook: Hook) -> Vec<Row> {
    let (right_dst, right_src) = macs_at(hook);
    let frame = |name, dst, src| {
        at(hook, name, toward(hook, udp()).macs(dst, src))
            .flow(CONFIRMED)
            .kernel(Verdict::NotForUs)
    };
    let row = |name, dst| frame(name, dst, right_src);
    let from = |name, src| frame(name, right_dst, src);
    vec![
        row("broadcast", BROADCAST_MAC),
        row("multicast", MULTICAST_MAC),
        from("from a group", MULTICAST_MAC),
        from("from no station", NO_MAC),
    ]
}

fn lying_ip_headers(hook: Hook) -> Vec<Row> {
    let row = |name, packet| {
        at(hook, name, toward(hook, packet))
            .flow(CONFIRMED)
            .kernel(Verdict::Malformed)
    };
    let whole = 20 + 8 + 5;
    let hello = || udp().payload(b"hello");
    vec![
        row("a wrong header checksum", hello().checksum_error(1)).no_twin(),
        row("a header checksum of zeros", hello().no_checksum()).no_twin(),
        row("version 5", hello().version(5)),
        row("the other family's version", hello().version(6)),
        row("a header of four words", hello().header_words(4)).no_twin(),
        row("a header of no words", hello().header_words(0)).no_twin(),
        row(
            "a total length of one more than there is",
            hello().total_len(whole + 1),
        ),
        row("a total length of 64 KiB", hello().total_len(0xffff)),
        row("a total length of 0", hello().total_len(0)).no_twin(),
        row(
            "a total length that ends in the IP header",
            hello().total_len(19),
        )
        .no_twin(),
        row(
            "a total length that ends behind the IP header",
            hello().total_len(20),
        ),
        row(
            "one byte short of its total length",
            hello().cut_at(14 + whole - 1),
        ),
        row("cut behind the IP header", hello().cut_at(34)),
        row("cut in the IP header", hello().cut_at(33)),
        row("cut behind the EtherType", hello().cut_at(14)),
    ]
}

fn lying_transport_headers(hook: Hook) -> Vec<Row> {
    let row = |name, packet| {
        at(hook, name, toward(hook, packet))
            .flow(CONFIRMED)
            .kernel(Verdict::Malformed)
    };
    vec![
        row(
            "a UDP header of seven bytes",
            udp().payload(b"").total_len(27),
        ),
        row(
            "a UDP header cut at its ports",
            udp().payload(b"").total_len(24).cut_at(14 + 24),
        ),
        row(
            "a UDP header cut at two bytes",
            udp().payload(b"").total_len(22).cut_at(14 + 22),
        ),
        row(
            "a TCP header of 19 bytes",
            tcp(ACK).payload(b"").total_len(39),
        ),
        row(
            "a TCP header cut before its flags",
            tcp(ACK).payload(b"").total_len(32).cut_at(14 + 32),
        ),
        row("a TCP header that says four words", tcp(ACK).data_offset(4)),
        row("a TCP header that says no words", tcp(ACK).data_offset(0)),
        row(
            "a TCP header longer than the packet",
            tcp(ACK).payload(b"1234567").data_offset(7),
        ),
        row(
            "an echo header of seven bytes",
            echo_request(7).payload(b"").total_len(27),
        ),
    ]
}

/// However short, a frame is left as it is.
fn cut_anywhere(hook: Hook) -> Vec<Row> {
    let mut rows = Vec::new();
    for family in Family::ALL {
        let packet = toward(hook, tcp(ACK).payload(b"hello").in_family(family));
        for len in ETHERNET..ETHERNET + packet.ip_bytes().len() {
            rows.push(
                at(hook, format!("cut at {len}"), packet.clone().cut_at(len))
                    .flow(CONFIRMED)
                    .no_twin()
                    .kernel(Verdict::Malformed),
            );
        }
    }
    rows
}

fn fragments_and_options(hook: Hook) -> Vec<Row> {
    let row = |name, packet, verdict| {
        at(hook, name, toward(hook, packet))
            .flow(CONFIRMED)
            .kernel(verdict)
    };
    let record_route = [7, 7, 4, 0, 0, 0, 0, 0];
    vec![
        row(
            "the first fragment",
            udp().fragment(0, true),
            Verdict::Fragment,
        ),
        row(
            "a middle fragment",
            udp().fragment(185, true),
            Verdict::Fragment,
        ),
        row(
            "the last fragment",
            udp().fragment(370, false),
            Verdict::Fragment,
        ),
        row(
            "the last possible fragment",
            udp().fragment(0x1fff, false),
            Verdict::Fragment,
        ),
        row(
            "IP options",
            udp().options(&record_route),
            Verdict::IpOptions,
        ),
        row(
            "a header of no-operations",
            udp().options(&[1; 40]),
            Verdict::IpOptions,
        ),
        row(
            "IGMP with router alert",
            protocol(IGMP).options(&[0x94, 4, 0, 0]),
            Verdict::IpOptions,
        ),
    ]
}

/// A packet of the pod's, or the answer to it, as it comes to this hook.
pub fn toward(hook: Hook, packet: Packet) -> Packet {
    match hook {
        Hook::FromPod | Hook::ToWire => packet,
        Hook::FromWire | Hook::FromWireXdp | Hook::ToPod => packet.back(),
    }
}

/// The same with another address in the pod's place.
pub fn own_address(hook: Hook, packet: Packet, address: impl Into<IpAddr>) -> Packet {
    toward(hook, packet.src(address))
}
