//! What a network card would do for the kernel is still to be done when packets pass it by.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use underpass_bench::lab::{AgentOptions, Family};
use underpass_bench::traffic::{Bulk, Frame, FrameSocket, PacketType, UdpClient, UdpEcho};
use underpass_bench::{Lab, root_or_skip};
use underpass_common::flow::{PROTOCOL_TCP, PROTOCOL_UDP};
use underpass_common::verdict::{Count, Hook, Verdict};

use crate::common::{
    self, DEADLINE, Datapath, Ends, is_fast, make_fast, start_agents, tcp, udp, with_families,
};
use crate::inject::is_of;
use crate::transport::internet_checksum;

const PORT: u16 = 5001;
const CLIENT_PORT: u16 = 41_000;
const SIZE: u64 = 16 << 20;
/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// An MTU that segments for 1500 do not fit.
const NARROW: usize = 1300;

#[test]
fn gso() -> Result<()> {
    if !root_or_skip("gso") {
        return Ok(());
    }
    with_families(trains_go_fast)
}

fn trains_go_fast(family: Family) -> Result<()> {
    // Trains on the wire, also where others have none.
    let lab = common::lab().families(family).whole_frames(false).build()?;
    let agents = start_agents(&lab, &AgentOptions::default())?;
    transfer(&lab)?;
    for (node, hook) in [(1, Hook::FromPod), (2, Hook::FromWire)] {
        if node == 2 && common::is_by_xdp() {
            // A veth whose far end has XDP takes trains apart before it sends them: veth_fix_features() in the kernel's
            // drivers/net/veth.c.
            continue;
        }
        let fast = count(&lab, node, hook, Verdict::Fast)?;
        ensure!(
            fast.bytes / fast.packets > 3000,
            "no trains were fast: {fast:?}"
        );
        assert_eq!(count(&lab, node, hook, Verdict::TooBig)?, Count::default());
    }

    // Segments too long for the way out: the kernel has the sender make them shorter, and then the
    // trains are fast again.
    let (node, uplink) = (lab.node(1), lab.node(1).uplink());
    for (host, interface) in [(lab.switch(), node.name()), (node, uplink)] {
        host.ip(&format!("link set {interface} mtu {NARROW}\n"))?;
    }
    // A veth takes a train of any segments: only where they are taken apart before can they be seen.
    node.run(&["ethtool", "-K", uplink, "tso", "off", "gso", "off"])?;
    let on_uplink = FrameSocket::open(node, uplink)?;
    let before = count(&lab, 1, Hook::FromPod, Verdict::Fast)?;
    transfer(&lab)?;
    let too_big = count(&lab, 1, Hook::FromPod, Verdict::TooBig)?;
    ensure!(too_big.packets > 0, "nothing was too big");
    let sent = on_uplink.drain(|frame| frame.packet_type == PacketType::Outgoing)?;
    let longest = sent.iter().map(|frame| frame.bytes.len()).max();
    ensure!(
        longest.is_some_and(|bytes| bytes <= ETHERNET + NARROW),
        "a frame of {longest:?} bytes left"
    );
    let fast = count(&lab, 1, Hook::FromPod, Verdict::Fast)?;
    ensure!(
        fast.bytes - before.bytes > SIZE / 2,
        "{before:?}, {fast:?}, {too_big:?}"
    );
    drop(agents);
    Ok(())
}

/// From pod 1 of node 1 to pod 1 of node 2, on the fast path to its end.
fn transfer(lab: &Lab) -> Result<()> {
    let (pod, far) = (lab.pod(1, 1), lab.pod(2, 1));
    let to = SocketAddr::new(far.address(), PORT);
    let bulk = Bulk::to(to).local_port(CLIENT_PORT).size(SIZE);
    bulk.run(pod, far, DEADLINE)?;
    let packet = tcp(SocketAddr::new(pod.address(), CLIENT_PORT), to);
    ensure!(is_fast(lab, &packet)?, "the transfer wasn't fast");
    Ok(())
}

fn count(lab: &Lab, node: usize, hook: Hook, verdict: Verdict) -> Result<Count> {
    let counts = Datapath::of(lab, lab.node(node))?.maps.verdicts()?;
    let mut counts = counts.into_iter();
    let found = counts.find(|(at, what, _)| (*at, *what) == (hook, verdict));
    found.map(|(_, _, count)| count).context("no such count")
}

#[test]
fn checksum() -> Result<()> {
    if !root_or_skip("checksum") {
        return Ok(());
    }
    with_families(checksums_are_filled_in)
}

fn checksums_are_filled_in(family: Family) -> Result<()> {
    let lab = common::lab().families(family).build()?;
    // The pods leave checksums to be filled in, and a node's uplink doesn't do that.
    for node in lab.nodes() {
        node.run(&["ethtool", "-K", node.uplink(), "tx", "off"])?;
    }
    let agents = start_agents(&lab, &AgentOptions::default())?;
    let (pod, far) = (lab.pod(1, 1), lab.pod(2, 1));
    let (from, to) = (
        SocketAddr::new(pod.address(), CLIENT_PORT),
        SocketAddr::new(far.address(), PORT),
    );
    let in_pod = FrameSocket::open(pod, pod.interface())?;
    let on_wire = FrameSocket::open(lab.switch(), lab.node(1).name())?;

    let _server = UdpEcho::start(far, PORT)?;
    let client = UdpClient::connect_from(pod, CLIENT_PORT, to)?;
    make_fast(&lab, &udp(from, to), || {
        client.echo(b"partial", DEADLINE).map(drop)
    })?;
    for _ in 0..5 {
        client.echo(b"partial", DEADLINE)?;
    }
    let bulk = Bulk::to(to).local_port(CLIENT_PORT).size(1 << 20);
    bulk.run(pod, far, DEADLINE)?;
    ensure!(is_fast(&lab, &tcp(from, to))?, "the transfer wasn't fast");

    let left = in_pod.drain(|frame| frame.packet_type == PacketType::Outgoing)?;
    let arrived = on_wire.drain(|frame| frame.packet_type != PacketType::Outgoing)?;
    for packet in [udp(from, to), tcp(from, to)] {
        let (left, arrived) = (
            Checksums::of(&left, &packet),
            Checksums::of(&arrived, &packet),
        );
        ensure!(left.wrong > 0, "the pod itself filled in all checksums");
        ensure!(
            arrived.right > 5 && arrived.wrong == 0,
            "on the wire: {arrived:?}"
        );
    }
    drop(agents);
    Ok(())
}

/// How many packets of a flow have which checksum.
#[derive(Debug)]
struct Checksums {
    right: usize,
    wrong: usize,
}

impl Checksums {
    fn of(frames: &[Frame], packet: &Ends) -> Self {
        let of_flow = frames.iter().filter(|frame| is_of(&frame.bytes, packet));
        let (right, wrong): (Vec<_>, Vec<_>) =
            of_flow.partition(|frame| has_right_checksum(&frame.bytes));
        Self {
            right: right.len(),
            wrong: wrong.len(),
        }
    }
}

/// Of UDP or TCP behind a plain IP header (RFC 768, RFC 9293, RFC 8200).
fn has_right_checksum(frame: &[u8]) -> bool {
    let field = |at: usize| usize::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
    let (protocol, addresses, segment) = match frame[12..14] {
        [0x08, 0x00] => (frame[23], &frame[26..34], &frame[34..14 + field(16)]),
        _ => (frame[20], &frame[22..54], &frame[54..54 + field(18)]),
    };
    assert!([PROTOCOL_TCP, PROTOCOL_UDP].contains(&protocol));
    let mut summed = addresses.to_vec();
    summed.extend([0, protocol]);
    summed.extend((segment.len() as u16).to_be_bytes());
    summed.extend(segment);
    internet_checksum(&summed) == 0
}
