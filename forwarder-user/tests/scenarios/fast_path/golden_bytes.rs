//! A fast packet is byte for byte what the kernel would have sent.

use anyhow::{Result, ensure};
use underpass_bench::lab::{AgentOptions, Family};
use underpass_bench::root_or_skip;
use underpass_common::verdict::{Hook, Verdict};

use crate::builder::{ACK, PSH, Packet, echo_reply, echo_request, tcp, udp};
use crate::cast::FAR;
use crate::common::{self, Datapath, start_agents, with_families};
use crate::inject::{Passed, Road};

#[test]
fn golden_bytes() -> Result<()> {
    if !root_or_skip("golden_bytes") {
        return Ok(());
    }
    with_families(fast_is_as_by_kernel)
}

fn fast_is_as_by_kernel(family: Family) -> Result<()> {
    let lab = common::lab().families(family).build()?;
    let road = Road::open(&lab)?;
    // What is refused by an ICMP error is the kernel's again.
    road.hush()?;
    let packets = packets(&road);
    let by_kernel: Result<Vec<Passed>> = packets.iter().map(|(_, one)| road.pass(one)).collect();
    let by_kernel = by_kernel?;

    let agents = start_agents(&lab, &AgentOptions::default())?;
    let nodes = [
        Datapath::of(&lab, lab.node(1))?,
        Datapath::of(&lab, lab.node(2))?,
    ];
    let fast = || -> Result<[u64; 2]> {
        let [sender, receiver] = [nodes[0].counts()?, nodes[1].counts()?];
        Ok([
            sender.of(Hook::FromPod, Verdict::Fast),
            receiver.of(Hook::FromWire, Verdict::Fast),
        ])
    };
    for ((name, packet), golden) in packets.iter().zip(&by_kernel) {
        let before = fast()?;
        let confirming = road.pass(packet)?;
        ensure!(fast()? == before, "{name}: the first one was fast");
        let passed = road.pass(packet)?;
        ensure!(
            fast()? == before.map(|n| n + 1),
            "{name}: the second one wasn't fast"
        );

        assert_eq!(confirming, *golden, "{name}, by the kernel with an agent");
        assert_eq!(passed, *golden, "{name}, fast");
        assert_only_a_router_was_there(family, name, &road.frame(packet), &passed);
    }
    drop(agents);
    Ok(())
}

/// Each of another flow, so that each is once the first of its flow.
fn packets(road: &Road) -> Vec<(String, Packet)> {
    let full = match road.family() {
        Family::V4 => 1500,
        // Its twin's header is longer.
        Family::V6 => 1480,
    };
    let mut all: Vec<(String, Packet)> = [
        ("UDP", udp()),
        ("an empty UDP packet", udp().payload(b"")),
        ("a full UDP packet", udp().ip_len(full)),
        ("UDP, padded", udp().payload(b"x").padded()),
        ("UDP that may be fragmented", udp().may_be_fragmented()),
        ("UDP with the longest life", udp().ttl(255)),
        ("UDP with just enough of a life", udp().ttl(3)),
        ("TCP data", tcp(ACK | PSH)),
        ("TCP data, padded", tcp(ACK | PSH).payload(b"x").padded()),
        ("TCP, nothing but an ACK", tcp(ACK).payload(b"").padded()),
        ("a full TCP segment", tcp(ACK).ip_len(full)),
        ("TCP with timestamps", tcp(ACK).tcp_options(&TIMESTAMPS)),
    ]
    .into_iter()
    .zip(50_000..)
    .map(|((name, packet), port)| (name.to_owned(), packet.to(FAR, port)))
    .collect();
    all.push(("an echo request".into(), echo_request(1)));
    all.push(("an echo reply".into(), echo_reply(2)));
    all.push((
        "a padded echo request".into(),
        echo_request(3).payload(b"").padded(),
    ));
    // Every DSCP once, with each ECN.
    all.extend((0..64u8).map(|dscp| {
        let tos = dscp << 2 | dscp & 3;
        let packet = udp()
            .from(crate::cast::POD, 51_000 + u16::from(dscp))
            .tos(tos);
        (format!("UDP with TOS {tos:#x}"), packet)
    }));
    if road.family() == Family::V6 {
        return all;
    }
    // IPv6 has no header checksum. Where the ones' complement sum comes round: see `ip_decrease_ttl()`.
    let edges = [
        0xfdff_u16, 0xfefe, 0xfeff, 0xff00, 0xfffe, 0x0000, 0x0001, 0x00ff,
    ];
    all.extend(edges.into_iter().zip(52_000..).map(|(checksum, port)| {
        let packet = udp().from(crate::cast::POD, port);
        let packet = with_checksum(road, packet, checksum);
        (format!("UDP with header checksum {checksum:#06x}"), packet)
    }));
    all
}

const TIMESTAMPS: [u8; 12] = [1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8];
/// IPv4's header checksum.
const CHECKSUM: std::ops::Range<usize> = 24..26;

/// The packet with a TTL and a length that give its IPv4 header this checksum.
fn with_checksum(road: &Road, packet: Packet, wanted: u16) -> Packet {
    const SHORTEST: usize = 28;
    let header_checksum = |packet: &Packet| {
        let frame = road.frame(packet);
        u16::from_be_bytes([frame[CHECKSUM.start], frame[CHECKSUM.start + 1]])
    };
    let least = header_checksum(&packet.clone().ttl(3).ip_len(SHORTEST));
    // What the header's words have to be more, in ones' complement (RFC 1071).
    let more = (u32::from(least) + 0xffff - u32::from(wanted)) % 0xffff;
    let ttl = (more >> 8).min(252);
    let len = more - (ttl << 8);
    let packet = packet.ttl(3 + ttl as u8).ip_len(SHORTEST + len as usize);
    // Zero and all ones are the same number; which of them a sum gives is RFC 1071's business.
    assert_eq!(header_checksum(&packet) % 0xffff, wanted % 0xffff);
    packet
}

/// Nothing but MACs, TTL or hop limit, and header checksum was changed, and padding cut off.
fn assert_only_a_router_was_there(family: Family, name: &str, sent: &[u8], passed: &Passed) {
    let field = |at: usize| usize::from(u16::from_be_bytes([sent[at], sent[at + 1]]));
    let (ip_len, ttl, checksum) = match family {
        Family::V4 => (field(16), 22, CHECKSUM),
        Family::V6 => (40 + field(18), 21, 0..0),
    };
    for (seen, hops) in [(&passed.wire, 1), (&passed.end, 2)] {
        let mut expected = sent[..seen.len()].to_vec();
        assert_eq!(seen.len(), 14 + ip_len, "{name}: its length");
        assert_eq!(seen[ttl] + hops, sent[ttl], "{name}: its TTL");
        assert_ne!(seen[..12], sent[..12], "{name}: its MACs");
        for changed in [0..12, ttl..ttl + 1, checksum.clone()] {
            expected[changed.clone()].copy_from_slice(&seen[changed]);
        }
        assert_eq!(*seen, expected, "{name}: something else was changed");
    }
}
