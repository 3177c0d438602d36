//! Packets put into a pod's interface byte by byte, and caught on the way.

use std::net::IpAddr;

use anyhow::{Context, Result};
use underpass_bench::Lab;
use underpass_bench::lab::{Pod, names};
use underpass_bench::traffic::{Frame, FrameSocket, PacketType};
use underpass_common::flow::PROTOCOL_ICMP;

use crate::builder::Packet;
use crate::common::{DEADLINE, Ends};

/// Where the packets of pod 1 of node 1 can be seen on their way to pod 1 of node 2.
pub struct Road {
    pod: Pod,
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
    pub fn open(lab: &Lab) -> Result<Self> {
        let (pod, far) = (lab.pod(1, 1).clone(), lab.pod(2, 1));
        Ok(Self {
            start: FrameSocket::open(&pod, pod.interface())?,
            wire: FrameSocket::open(lab.switch(), lab.node(1).name())?,
            end: FrameSocket::open(far, far.interface())?,
            pod,
        })
    }

    /// The frame that the pod would send.
    pub fn frame(&self, packet: &Packet) -> Vec<u8> {
        let gateway = names::gateway_mac(self.pod.node());
        packet.clone().or_macs((gateway, self.pod.mac())).bytes()
    }

    /// Sends a packet and doesn't wait for it.
    pub fn send(&self, packet: &Packet) -> Result<()> {
        self.start.send(&self.frame(packet))
    }

    /// Sends a packet and waits until it has arrived.
    pub fn pass(&self, packet: &Packet) -> Result<Passed> {
        let tuple = packet.tuple().context("not IPv4")?;
        self.forget()?;
        self.send(packet)?;
        let came = |frame: &Frame| came_in(frame) && is_of(&frame.bytes, &tuple);
        Ok(Passed {
            wire: self.wire.expect(DEADLINE, "a packet", came)?.bytes,
            end: self.end.expect(DEADLINE, "a packet", came)?.bytes,
        })
    }

    /// Sends a packet that lives too short, and returns who says so.
    pub fn expires_at(&self, packet: &Packet) -> Result<IpAddr> {
        const TIME_EXCEEDED: u8 = 11;
        let tuple = packet.tuple().context("not IPv4")?;
        self.send(packet)?;
        // Behind the error's own headers stands what it is about (RFC 792).
        let is_about_it = |frame: &Frame| {
            came_in(frame)
                && frame.bytes.get(23) == Some(&PROTOCOL_ICMP)
                && frame.bytes.get(34) == Some(&TIME_EXCEEDED)
                && is_of_ip(frame.bytes.get(42..).unwrap_or_default(), &tuple)
        };
        let error = self.start.expect(DEADLINE, "an error", is_about_it)?;
        let source: [u8; 4] = error.bytes[26..30].try_into()?;
        Ok(IpAddr::from(source))
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

/// True for a frame with an IPv4 packet of these addresses and ports.
pub fn is_of(frame: &[u8], tuple: &Ends) -> bool {
    frame.get(12..14) == Some(&[0x08, 0x00]) && is_of_ip(&frame[14..], tuple)
}

fn is_of_ip(packet: &[u8], tuple: &Ends) -> bool {
    let Some(first) = packet.first() else {
        return false;
    };
    let transport = packet
        .get(usize::from(first & 0xf) * 4..)
        .unwrap_or_default();
    let names_it = if tuple.protocol == PROTOCOL_ICMP {
        let is_echo = transport.first() == Some(&tuple.icmp_type);
        is_echo && transport.get(4..6) == Some(&tuple.src_port)
    } else {
        let ports = [tuple.src_port, tuple.dst_port].concat();
        transport.get(..4) == Some(&ports)
    };
    names_it
        && packet.get(9) == Some(&tuple.protocol)
        && address(packet, 12) == Some(tuple.src)
        && address(packet, 16) == Some(tuple.dst)
}

fn address(packet: &[u8], offset: usize) -> Option<IpAddr> {
    let octets: [u8; 4] = packet.get(offset..offset + 4)?.try_into().ok()?;
    Some(octets.into())
}
