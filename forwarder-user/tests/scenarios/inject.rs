//! Packets put into a pod's interface byte by byte, and caught on the way. They are built as packets of
//! IPv4; in a lab of IPv6 their twins are sent.

use std::net::IpAddr;

use anyhow::{Context, Result};
use underpass_bench::Lab;
use underpass_bench::lab::{Family, Pod, names};
use underpass_bench::traffic::{Frame, FrameSocket, PacketType};
use underpass_common::flow::{PROTOCOL_ICMP, PROTOCOL_ICMPV6};

use crate::builder::Packet;
use crate::common::{DEADLINE, Ends};
use crate::twin;

/// Where the packets of pod 1 of node 1 can be seen on their way to pod 1 of node 2.
pub struct Road {
    family: Family,
    pod: Pod,
    far: Pod,
    start: FrameSocket,
    wire: FrameSocket,
    end: FrameSocket,
}

/// A packet as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// On the wire, when it had left node 1.
    pub wire: Vec<u8>,
    /// In the far pod.
    pub end: Vec<u8>,
}

impl Road {
    /// In the family of a lab that has one, in IPv4 where it has both.
    pub fn open(lab: &Lab) -> Result<Self> {
        let (pod, far) = (lab.pod(1, 1).clone(), lab.pod(2, 1).clone());
        Ok(Self {
            family: pod.families().first(),
            start: FrameSocket::open(&pod, pod.interface())?,
            wire: FrameSocket::open(lab.switch(), lab.node(1).name())?,
            end: FrameSocket::open(&far, far.interface())?,
            pod,
            far,
        })
    }

    /// From now on the far pod answers no TCP and no UDP, neither with RST nor with an ICMP error.
    /// What comes to it is seen all the same.
    pub fn hush(&self) -> Result<()> {
        const RULES: &str = "table inet hush {
            chain input {
                type filter hook input priority filter; policy accept;
                meta l4proto { tcp, udp } drop
            }
        }";
        self.far
            .run_with_input(&["nft", "-f", "-"], RULES)
            .map(drop)
    }

    /// The family of the packets that pass.
    pub fn family(&self) -> Family {
        self.family
    }

    /// The frame that the pod would send.
    pub fn frame(&self, packet: &Packet) -> Vec<u8> {
        let gateway = names::gateway_mac(self.pod.node());
        self.bytes(&packet.clone().or_macs((gateway, self.pod.mac())))
    }

    /// A frame with MACs of its own, in the road's family.
    pub fn bytes(&self, packet: &Packet) -> Vec<u8> {
        match self.family {
            Family::V4 => packet.bytes(),
            Family::V6 => twin::of_frame(&packet.bytes()),
        }
    }

    /// The name of a packet, in the road's family.
    pub fn ends(&self, packet: &Packet) -> Result<Ends> {
        let ends = packet.tuple().context("not an IP packet")?;
        Ok(match self.family {
            Family::V4 => ends,
            Family::V6 => twin::of_ends(&ends),
        })
    }

    /// Sends a packet and doesn't wait for it.
    pub fn send(&self, packet: &Packet) -> Result<()> {
        self.start.send(&self.frame(packet))
    }

    /// Sends a packet and waits until it has arrived.
    pub fn pass(&self, packet: &Packet) -> Result<Passed> {
        let tuple = self.ends(packet)?;
        self.forget()?;
        self.send(packet)?;
        let came = |frame: &Frame| came_in(frame) && is_of(&frame.bytes, &tuple);
        Ok(Passed {
            wire: self.wire.expect(DEADLINE, "a packet", came)?.bytes,
            end: self.end.expect(DEADLINE, "a packet", came)?.bytes,
        })
    }

    /// Sends a packet and waits until it has arrived, however it came.
    pub fn arrives(&self, packet: &Packet) -> Result<()> {
        let tuple = self.ends(packet)?;
        self.forget()?;
        self.send(packet)?;
        let came = |frame: &Frame| came_in(frame) && is_of(&frame.bytes, &tuple);
        self.end.expect(DEADLINE, "a packet", came).map(drop)
    }

    /// Sends a frame byte by byte and waits until it has arrived: known by what it ends in.
    pub fn pass_frame(&self, frame: &[u8]) -> Result<Passed> {
        const KNOWN_BY: usize = 32;
        self.forget()?;
        self.start.send(frame)?;
        let ending = &frame[frame.len() - KNOWN_BY..];
        let came = |seen: &Frame| {
            came_in(seen) && seen.bytes.len() == frame.len() && seen.bytes.ends_with(ending)
        };
        Ok(Passed {
            wire: self.wire.expect(DEADLINE, "a frame", came)?.bytes,
            end: self.end.expect(DEADLINE, "a frame", came)?.bytes,
        })
    }

    /// Sends a packet that lives too short, and returns who says so.
    pub fn expires_at(&self, packet: &Packet) -> Result<IpAddr> {
        let layout = Layout::of(self.family);
        let (protocol, time_exceeded) = match self.family {
            Family::V4 => (PROTOCOL_ICMP, 11),
            Family::V6 => (PROTOCOL_ICMPV6, 3),
        };
        let tuple = self.ends(packet)?;
        self.send(packet)?;
        // Behind the error's own headers stands what it is about (RFC 792, RFC 4443).
        let icmp = ETHERNET + layout.header;
        let is_about_it = |frame: &Frame| {
            came_in(frame)
                && frame.bytes.get(ETHERNET + layout.protocol) == Some(&protocol)
                && frame.bytes.get(icmp) == Some(&time_exceeded)
                && is_of_ip(frame.bytes.get(icmp + 8..).unwrap_or_default(), &tuple)
        };
        let error = self.start.expect(DEADLINE, "an error", is_about_it)?;
        let source = layout.address(&error.bytes[ETHERNET..], layout.src);
        source.context("an error from nowhere")
    }

    /// Packets of this kind that have arrived and not yet been looked at.
    pub fn arrived(&self, tuple: &Ends) -> Result<Vec<Frame>> {
        let came = |frame: &Frame| came_in(frame) && is_of(&frame.bytes, tuple);
        self.end.drain(came)
    }

    fn forget(&self) -> Result<()> {
        self.wire.drain(|_| true)?;
        self.end.drain(|_| true).map(drop)
    }
}

fn came_in(frame: &Frame) -> bool {
    frame.packet_type != PacketType::Outgoing
}

const ETHERNET: usize = 14;

/// Where the fields of an IP header stand.
struct Layout {
    family: Family,
    /// Its length without options.
    header: usize,
    protocol: usize,
    src: usize,
    dst: usize,
}

impl Layout {
    const fn of(family: Family) -> Self {
        let (header, protocol, src, dst) = match family {
            Family::V4 => (20, 9, 12, 16),
            Family::V6 => (40, 6, 8, 24),
        };
        Self {
            family,
            header,
            protocol,
            src,
            dst,
        }
    }

    /// Bytes of the header of this packet.
    fn len(&self, packet: &[u8]) -> usize {
        match (self.family, packet.first()) {
            (Family::V4, Some(first)) => usize::from(first & 0xf) * 4,
            _ => self.header,
        }
    }

    fn address(&self, packet: &[u8], at: usize) -> Option<IpAddr> {
        let rest = packet.get(at..)?;
        Some(match self.family {
            Family::V4 => (*rest.first_chunk::<4>()?).into(),
            Family::V6 => (*rest.first_chunk::<16>()?).into(),
        })
    }
}

/// True for a frame with an IP packet of these addresses and ports.
pub fn is_of(frame: &[u8], tuple: &Ends) -> bool {
    let ether_type = Family::of(tuple.src).ether_type();
    frame.get(12..ETHERNET) == Some(&ether_type) && is_of_ip(&frame[ETHERNET..], tuple)
}

/// True for a frame with an IP packet for this address.
pub fn is_for(frame: &[u8], address: IpAddr) -> bool {
    let family = Family::of(address);
    let layout = Layout::of(family);
    frame.get(12..ETHERNET) == Some(&family.ether_type())
        && layout.address(&frame[ETHERNET..], layout.dst) == Some(address)
}

fn is_of_ip(packet: &[u8], tuple: &Ends) -> bool {
    let layout = Layout::of(Family::of(tuple.src));
    let transport = packet.get(layout.len(packet)..).unwrap_or_default();
    let names_it = if [PROTOCOL_ICMP, PROTOCOL_ICMPV6].contains(&tuple.protocol) {
        let is_echo = transport.first() == Some(&tuple.icmp_type);
        is_echo && transport.get(4..6) == Some(&tuple.src_port)
    } else {
        let ports = [tuple.src_port, tuple.dst_port].concat();
        transport.get(..4) == Some(&ports)
    };
    names_it
        && packet.get(layout.protocol) == Some(&tuple.protocol)
        && layout.address(packet, layout.src) == Some(tuple.src)
        && layout.address(packet, layout.dst) == Some(tuple.dst)
}
