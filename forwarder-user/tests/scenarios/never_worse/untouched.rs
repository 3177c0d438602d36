//! What isn't unicast IP through the node, and who it reaches.

use std::net::Ipv6Addr;

use anyhow::{Result, ensure};
use underpass_bench::lab::{AgentOptions, Families, Pod};
use underpass_bench::traffic::{FrameSocket, PacketType};
use underpass_bench::{Lab, root_or_skip};
use underpass_common::addr::Mac;
use underpass_common::verdict::{Hook, Verdict};

use crate::builder::{Packet, frame, udp};
use crate::common::{self, DEADLINE, counts, counts_since, start_agents};

const BROADCAST: Mac = [0xff; 6];
const ALL_HOSTS: Mac = [0x01, 0, 0x5e, 0, 0, 0x01];
/// Of the solicited-node multicast address ff02::1:ff00:b (RFC 4291).
const SOLICITED_NODE: Mac = [0x33, 0x33, 0xff, 0, 0, 0x0b];
/// Of ff02::2 and of ff02::16.
const ALL_ROUTERS: Mac = [0x33, 0x33, 0, 0, 0, 0x02];
const ALL_MLD: Mac = [0x33, 0x33, 0, 0, 0, 0x16];
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
/// Nobody's: only carried.
const UNKNOWN: u16 = 0x88b5;

#[test]
fn multicast_broadcast_arp_nd() -> Result<()> {
    if !root_or_skip("multicast_broadcast_arp_nd") {
        return Ok(());
    }
    let lab = common::lab().families(Families::Dual).pods(2).build()?;
    let frames = frames(lab.pod(1, 1), lab.pod(1, 2));
    let carried = |lab: &Lab| -> Result<Vec<Vec<u8>>> {
        let (pod, beside) = (lab.pod(1, 1), lab.pod(1, 2));
        let sender = FrameSocket::open(pod, pod.interface())?;
        let receiver = FrameSocket::open(beside, beside.interface())?;
        let each = frames.iter().map(|(packet, _)| {
            let sent = packet.bytes();
            sender.send(&sent)?;
            let seen = receiver.expect(DEADLINE, &format!("{packet:?}"), |seen| {
                seen.packet_type != PacketType::Outgoing && seen.bytes[..14] == sent[..14]
            })?;
            Ok(seen.bytes)
        });
        each.collect()
    };
    let by_kernel = carried(&lab)?;
    for ((packet, _), seen) in frames.iter().zip(&by_kernel) {
        ensure!(
            packet.bytes() == *seen,
            "the bridge itself changed {packet:?}"
        );
    }

    let agents = start_agents(&lab, &AgentOptions::default())?;
    let before = counts(&lab)?;
    assert_eq!(carried(&lab)?, by_kernel);
    let added = &counts_since(&lab, &before)?[0];
    let reasons = [
        Verdict::NotIp,
        Verdict::NotForUs,
        Verdict::NotPodTraffic,
        Verdict::Unconfirmed,
        Verdict::Icmp,
    ];
    for verdict in reasons {
        let expected = frames.iter().filter(|(_, why)| *why == verdict).count() as u64;
        ensure!(added.of(Hook::FromPod, verdict) >= expected, "{added:?}");
    }
    assert_eq!(added.of(Hook::FromPod, Verdict::Fast), 0);
    drop(agents);
    Ok(())
}

/// Sent by a pod to all, or to the pod beside it; and why each is left alone.
fn frames(pod: &Pod, beside: &Pod) -> [(Packet, Verdict); 11] {
    let to = |packet: Packet, mac| packet.macs(mac, pod.mac());
    let (ours, theirs) = (pod.ipv4().octets(), beside.ipv4().octets());
    // Who has the other's address? (RFC 826)
    let request = [
        &[0, 1, 8, 0, 6, 4, 0, 1],
        &pod.mac()[..],
        &ours,
        &[0; 6],
        &theirs,
    ]
    .concat();
    let link_local = |last: u8| Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last.into());
    let solicitation = {
        let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0x0b);
        icmpv6(
            link_local(0x0a),
            group,
            &[&[135, 0, 0, 0, 0, 0, 0, 0], &link_local(0x0b).octets()[..]].concat(),
        )
    };
    let all_routers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
    let all_mld = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
    let router_solicitation = icmpv6(link_local(0x0a), all_routers, &[133, 0, 0, 0, 0, 0, 0, 0]);
    let listener_report = icmpv6(link_local(0x0a), all_mld, &[143, 0, 0, 0, 0, 0, 0, 0]);
    // From one pod to the other, by their global addresses, unsolicited.
    let advertisement = {
        let target = [&[136, 0, 0, 0, 0x20, 0, 0, 0], &pod.ipv6().octets()[..]].concat();
        icmpv6(pod.ipv6(), beside.ipv6(), &target)
    };
    [
        (to(udp().dst([255; 4]), BROADCAST), Verdict::NotForUs),
        (
            to(udp().dst([10, 244, 1, 255]), BROADCAST),
            Verdict::NotForUs,
        ),
        (to(udp().dst([224, 0, 0, 1]), ALL_HOSTS), Verdict::NotForUs),
        (to(udp().dst(theirs), beside.mac()), Verdict::Unconfirmed),
        (to(frame(ARP, &request), BROADCAST), Verdict::NotIp),
        (
            to(frame(IPV6, &solicitation), SOLICITED_NODE),
            Verdict::NotPodTraffic,
        ),
        (
            to(frame(IPV6, &router_solicitation), ALL_ROUTERS),
            Verdict::NotPodTraffic,
        ),
        (
            to(frame(IPV6, &listener_report), ALL_MLD),
            Verdict::NotPodTraffic,
        ),
        (to(frame(IPV6, &advertisement), beside.mac()), Verdict::Icmp),
        (
            to(frame(UNKNOWN, b"what is this?"), beside.mac()),
            Verdict::NotIp,
        ),
        (to(frame(UNKNOWN, b"and this?"), BROADCAST), Verdict::NotIp),
    ]
}

/// An ICMPv6 message (RFC 4443, RFC 4861, RFC 3810); nobody here looks at its checksum.
fn icmpv6(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    let header = [0x60, 0, 0, 0, 0, message.len() as u8, 58, 255];
    [&header[..], &from.octets(), &to.octets(), message].concat()
}
