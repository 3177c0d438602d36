//! What stands in an IP header besides addresses: kept as it is, or the kernel's.

use anyhow::{Context, Result, ensure};
use underpass_bench::lab::{AgentOptions, Family};
use underpass_bench::traffic::{Frame, FrameSocket};
use underpass_bench::{Lab, root_or_skip, wait_for};
use underpass_common::verdict::{Hook, Verdict};

use crate::builder::{ACK, tcp, udp};
use crate::common::{
    self, DEADLINE, Datapath, Ends, counts, counts_since, is_fast, start_agents, with_families,
};
use crate::inject::Road;

/// Position of an IPv6 header's payload length, and of its next header, in a frame.
const PAYLOAD_LEN: usize = 18;
const NEXT_HEADER: usize = 20;
const BEHIND_HEADER: usize = 54;

/// Extension headers (RFC 8200, RFC 4302), each of eight bytes or a multiple of them, the first of which
/// is left for the next header's number.
const EXTENSIONS: [(&str, u8, &[u8], Verdict); 7] = [
    // PadN of four bytes.
    (
        "hop by hop",
        0,
        &[0, 0, 1, 4, 0, 0, 0, 0],
        Verdict::IpOptions,
    ),
    (
        "destination options",
        60,
        &[0, 0, 1, 4, 0, 0, 0, 0],
        Verdict::IpOptions,
    ),
    // No segments left: whoever gets it goes on behind it.
    ("routing", 43, &[0, 0, 4, 0, 0, 0, 0, 0], Verdict::IpOptions),
    (
        "authentication",
        51,
        &[0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0],
        Verdict::IpOptions,
    ),
    (
        "mobility",
        135,
        &[0, 0, 5, 0, 0, 0, 0, 0],
        Verdict::IpOptions,
    ),
    // The first of two, and a fragment that is a whole packet (RFC 6946).
    ("fragment", 44, &[0, 0, 0, 1, 0, 0, 0, 9], Verdict::Fragment),
    (
        "atomic fragment",
        44,
        &[0, 0, 0, 0, 0, 0, 0, 9],
        Verdict::Fragment,
    ),
];

#[test]
fn v6_extension_headers() -> Result<()> {
    if !root_or_skip("v6_extension_headers") {
        return Ok(());
    }
    let lab = common::lab().families(Family::V6).build()?;
    let road = Road::open(&lab)?;
    road.hush()?;
    let plain = road.frame(&udp());
    let frames = EXTENSIONS.map(|(_, number, header, _)| with_extension(&plain, number, header));
    let golden: Result<Vec<_>> = frames.iter().map(|frame| road.pass_frame(frame)).collect();

    let agents = start_agents(&lab, &AgentOptions::default())?;
    let flow = until_fast(&lab, &road)?;
    for (((name, _, _, why), frame), golden) in EXTENSIONS.iter().zip(&frames).zip(golden?) {
        let before = counts(&lab)?;
        assert_eq!(road.pass_frame(frame)?, golden, "{name}");
        let added = counts_since(&lab, &before)?;
        for (added, hook) in added.iter().zip([Hook::FromPod, Hook::FromWire]) {
            let seen = [*why, Verdict::Fast].map(|verdict| added.of(hook, verdict));
            assert_eq!(seen, [1, 0], "{name}: {added:?}");
        }
        ensure!(is_fast(&lab, &flow)?, "{name}: its flow is slow now");
    }
    drop(agents);
    Ok(())
}

/// Sends packets of the road's UDP flow until it goes fast; its ends.
fn until_fast(lab: &Lab, road: &Road) -> Result<Ends> {
    let flow = road.ends(&udp())?;
    wait_for(DEADLINE, "its flow goes fast", || {
        road.pass(&udp())?;
        ensure!(is_fast(lab, &flow)?, "it isn't fast");
        Ok(())
    })?;
    Ok(flow)
}

/// The same packet with a header put in behind its own.
fn with_extension(frame: &[u8], number: u8, header: &[u8]) -> Vec<u8> {
    let (ip, transport) = frame.split_at(BEHIND_HEADER);
    let mut header = header.to_vec();
    header[0] = ip[NEXT_HEADER];
    let mut longer = [ip, &header, transport].concat();
    let len = u16::from_be_bytes([ip[PAYLOAD_LEN], ip[PAYLOAD_LEN + 1]]) + header.len() as u16;
    longer[PAYLOAD_LEN..PAYLOAD_LEN + 2].copy_from_slice(&len.to_be_bytes());
    longer[NEXT_HEADER] = number;
    longer
}

/// Whatever the pod wrote there: queues on the way and ECN (RFC 3168) depend on it.
#[test]
fn dscp_ecn() -> Result<()> {
    if !root_or_skip("dscp_ecn") {
        return Ok(());
    }
    with_families(|family| {
        let lab = common::lab().families(family).build()?;
        let agents = start_agents(&lab, &AgentOptions::default())?;
        let road = Road::open(&lab)?;
        road.hush()?;
        let nodes = [
            Datapath::of(&lab, lab.node(1))?,
            Datapath::of(&lab, lab.node(2))?,
        ];
        for packet in [udp(), tcp(ACK)] {
            // The first shows the way.
            road.pass(&packet)?;
            let before = [nodes[0].counts()?, nodes[1].counts()?];
            for tos in 0..=u8::MAX {
                let passed = road.pass(&packet.clone().tos(tos))?;
                let seen = [&passed.wire, &passed.end].map(|frame| tos_of(family, frame));
                assert_eq!(seen, [tos; 2]);
            }
            for ((node, before), hook) in nodes
                .iter()
                .zip(&before)
                .zip([Hook::FromPod, Hook::FromWire])
            {
                let fast = node.counts()?.since(before).of(hook, Verdict::Fast);
                assert_eq!(fast, 256, "{hook:?}");
            }
        }
        drop(agents);
        Ok(())
    })
}

/// TOS, or traffic class.
fn tos_of(family: Family, frame: &[u8]) -> u8 {
    match family {
        Family::V4 => frame[15],
        Family::V6 => frame[14] << 4 | frame[15] >> 4,
    }
}

/// Frames with a tag of their own, which need no VLAN device: a bridge carries them with it, and those of
/// a fast flow's very addresses are none of that flow.
#[test]
fn vlan_tagged_frames() -> Result<()> {
    if !root_or_skip("vlan_tagged_frames") {
        return Ok(());
    }
    with_families(tags_stay)
}

fn tags_stay(family: Family) -> Result<()> {
    let lab = common::lab().families(family).pods(2).build()?;
    let road = Road::open(&lab)?;
    road.hush()?;
    let (node, pod, beside) = (lab.node(1), lab.pod(1, 1), lab.pod(1, 2));
    // A receiver finds the tag beside the frame. Before that it can be seen in it, where the sender
    // puts it there.
    node.run(&["ethtool", "-K", beside.node_veth(), "txvlan", "off"])?;
    let (start, end) = (
        FrameSocket::open(pod, pod.interface())?,
        FrameSocket::open(node, beside.node_veth())?,
    );
    let of_fast_flow = tagged(&road.frame(&udp()));
    let mut bridged = of_fast_flow.clone();
    bridged[..6].copy_from_slice(&beside.mac());
    let carried = || {
        start.send(&bridged)?;
        let came = |seen: &Frame| seen.bytes == bridged;
        end.expect(DEADLINE, "a tagged frame", came).map(drop)
    };
    carried().context("by the kernel")?;

    let agents = start_agents(&lab, &AgentOptions::default())?;
    until_fast(&lab, &road)?;
    let before = counts(&lab)?;
    start.send(&of_fast_flow)?;
    carried()?;
    let added = &counts_since(&lab, &before)?[0];
    let seen = [Verdict::NotIp, Verdict::Fast].map(|verdict| added.of(Hook::FromPod, verdict));
    ensure!(seen[0] >= 2 && seen[1] == 0, "{added:?}");
    drop(agents);
    Ok(())
}

/// The same frame in VLAN 5 (IEEE 802.1Q).
fn tagged(frame: &[u8]) -> Vec<u8> {
    let (macs, rest) = frame.split_at(12);
    [macs, &[0x81, 0, 0, 5], rest].concat()
}

/// A tagged uplink keeps its tag: the nodes have their addresses on VLAN devices, and nothing else would
/// be taken in by them.
#[test]
fn vlan() -> Result<()> {
    if !root_or_skip("vlan") {
        return Ok(());
    }
    let probe = common::lab().nodes(1).build()?;
    let try_it = "link add link eth0 name eth0.5 type vlan id 5\n";
    if let Err(error) = probe.node(1).ip(try_it) {
        let error = format!("{error:#}");
        let reason = format!(
            "this kernel has no VLAN devices ({})",
            error.replace('\n', " ")
        );
        underpass_bench::skip("vlan", &reason);
        return Ok(());
    }
    drop(probe);
    with_families(over_vlan)
}

fn over_vlan(family: Family) -> Result<()> {
    const VLAN: &str = "eth0.5";
    let lab = common::lab().families(family).build()?;
    for node in lab.nodes() {
        let uplink = node.uplink();
        let address = format!(
            "{}/{}",
            node.address(),
            underpass_bench::lab::names::wire_prefix(family)
        );
        let nodad = if family == Family::V6 { " nodad" } else { "" };
        let mut lines = format!(
            "link add link {uplink} name {VLAN} type vlan id 5\n\
             link set {VLAN} up\n\
             addr del {address} dev {uplink}\n\
             addr add {address} dev {VLAN}{nodad}\n"
        );
        for other in lab
            .nodes()
            .iter()
            .filter(|other| other.number() != node.number())
        {
            lines += &format!(
                "route replace {} via {}\n",
                other.pod_cidr(),
                other.address()
            );
        }
        node.ip(&lines)?;
    }
    let agents = start_agents(&lab, &AgentOptions::default().iface(VLAN))?;
    let road = Road::open(&lab)?;
    road.hush()?;
    for packet in [udp(), tcp(ACK)] {
        let ends = road.ends(&packet)?;
        let before = counts(&lab)?;
        // On the wire it is tagged: there it is not looked for.
        for _ in 0..5 {
            road.arrives(&packet)?;
        }
        ensure!(is_fast(&lab, &ends)?, "it isn't fast");
        let added = counts_since(&lab, &before)?;
        for (added, hook) in added.iter().zip([Hook::FromPod, Hook::FromWire]) {
            ensure!(added.of(hook, Verdict::Fast) >= 4, "{added:?}");
        }
    }
    drop(agents);
    Ok(())
}
