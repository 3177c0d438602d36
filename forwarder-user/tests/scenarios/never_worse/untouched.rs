//! What isn't unicast IPv4 through the node, and who it reaches.

use anyhow::{Result, ensure};
use underpass_bench::lab::{AgentOptions, Pod};
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
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
/// Nobody's: only carried.
const UNKNOWN: u16 = 0x88b5;

#[test]
fn multicast_broadcast_arp_nd() -> Result<()> {
    if !root_or_skip("multicast_broadcast_arp_nd") {
        return Ok(());
    }
    let lab = common::lab().pods(2).build()?;
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
    for verdict in [Verdict::NotIp, Verdict::NotForUs, Verdict::Unconfirmed] {
        let expected = frames.iter().filter(|(_, why)| *why == verdict).count() as u64;
        ensure!(added.of(Hook::FromPod, verdict) >= expected, "{added:?}");
    }
    assert_eq!(added.of(Hook::FromPod, Verdict::Fast), 0);
    drop(agents);
    Ok(())
}

/// Sent by a pod to all, or to the pod beside it; and why each is left alone.
fn frames(pod: &Pod, beside: &Pod) -> [(Packet, Verdict); 8] {
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
    let solicitation = neighbour_solicitation();
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
            Verdict::NotIp,
        ),
        (
            to(frame(UNKNOWN, b"what is this?"), beside.mac()),
            Verdict::NotIp,
        ),
        (to(frame(UNKNOWN, b"and this?"), BROADCAST), Verdict::NotIp),
    ]
}

/// An IPv6 neighbour solicitation for fe80::b (RFC 4861); nobody here looks at its checksum.
fn neighbour_solicitation() -> Vec<u8> {
    const LINK_LOCAL: [u8; 15] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    const SOLICITED: [u8; 15] = [0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0];
    let source = [&LINK_LOCAL[..], &[0x0a]].concat();
    let target = [&LINK_LOCAL[..], &[0x0b]].concat();
    let group = [&SOLICITED[..], &[0x0b]].concat();
    let header = [0x60, 0, 0, 0, 0, 24, 58, 255];
    let solicitation = [135, 0, 0, 0, 0, 0, 0, 0];
    [&header[..], &source, &group, &solicitation, &target].concat()
}
