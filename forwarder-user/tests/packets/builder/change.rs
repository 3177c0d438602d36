//! What a row asks of its packet: each takes the packet and gives another.

use std::net::IpAddr;

use underpass_common::addr::Mac;

use super::{Body, Packet};
use crate::ip::{Checksum, Fragment, Ip, Payload};
use crate::transport::{Transport, internet_checksum};

impl Packet {
    pub(super) fn ip(mut self, change: impl FnOnce(&mut Ip)) -> Self {
        match &mut self.body {
            Body::Ip(ip) => change(ip),
            Body::Other(_) => panic!("not an IP packet"),
        }
        self
    }

    fn ports(self, change: impl FnOnce(&mut [u16; 2])) -> Self {
        self.ip(|ip| match &mut ip.transport {
            Transport::Udp { ports, .. } | Transport::Tcp { ports, .. } => change(ports),
            _ => panic!("no ports"),
        })
    }

    pub fn src(self, src: impl Into<IpAddr>) -> Self {
        self.ip(|ip| ip.src = src.into())
    }

    pub fn dst(self, dst: impl Into<IpAddr>) -> Self {
        self.ip(|ip| ip.dst = dst.into())
    }

    pub fn from(self, src: impl Into<IpAddr>, port: u16) -> Self {
        self.src(src).ports(|ports| ports[0] = port)
    }

    pub fn to(self, dst: impl Into<IpAddr>, port: u16) -> Self {
        self.dst(dst).ports(|ports| ports[1] = port)
    }

    /// The other way round: addresses and ports change places.
    pub fn back(self) -> Self {
        self.ip(|ip| {
            std::mem::swap(&mut ip.src, &mut ip.dst);
            if let Transport::Udp { ports, .. } | Transport::Tcp { ports, .. } = &mut ip.transport {
                ports.reverse();
            }
        })
    }

    /// TTL, or hop limit.
    pub fn ttl(self, ttl: u8) -> Self {
        self.ip(|ip| ip.hops = ttl)
    }

    /// Type of service, or traffic class.
    pub fn tos(self, tos: u8) -> Self {
        self.ip(|ip| ip.tos = tos)
    }

    pub fn payload(self, payload: &[u8]) -> Self {
        self.ip(|ip| ip.payload = Payload::Bytes(payload.to_vec()))
    }

    /// A payload that makes the IP packet `len` bytes long.
    pub fn ip_len(self, len: usize) -> Self {
        self.ip(|ip| ip.payload = Payload::FillTo(len))
    }

    /// An error quotes no more than so many bytes.
    pub fn quote_cut_at(self, len: usize) -> Self {
        self.ip(|ip| match &mut ip.payload {
            Payload::Quote(_, cut) => *cut = Some(len),
            _ => panic!("it quotes nothing"),
        })
    }

    /// IP options, a multiple of four bytes.
    pub fn options(self, options: &[u8]) -> Self {
        self.ip(|ip| ip.options = options.to_vec())
    }

    /// One more extension header of eight bytes; all but the first name the next one.
    pub fn extension(self, number: u8, content: [u8; 7]) -> Self {
        self.ip(|ip| ip.v6.extensions.push((number, content.to_vec())))
    }

    pub fn flow_label(self, label: u32) -> Self {
        self.ip(|ip| ip.v6.flow_label = label)
    }

    /// TCP options, a multiple of four bytes.
    pub fn tcp_options(self, bytes: &[u8]) -> Self {
        self.ip(|ip| match &mut ip.transport {
            Transport::Tcp { options, .. } => *options = bytes.to_vec(),
            _ => panic!("not TCP"),
        })
    }

    /// A fragment at `offset` (in units of eight bytes), the last one or not.
    pub fn fragment(self, offset: u16, more: bool) -> Self {
        self.ip(|ip| ip.fragment = Some(Fragment { offset, more }))
    }

    pub fn may_be_fragmented(self) -> Self {
        self.ip(|ip| ip.v4.dont_fragment = false)
    }

    pub fn version(self, version: u8) -> Self {
        self.ip(|ip| ip.version = version)
    }

    /// The header's length as the header says it, in words.
    pub fn header_words(self, words: u8) -> Self {
        self.ip(|ip| ip.v4.header_words = Some(words))
    }

    /// The packet's length as the IP header says it; IPv6 says it without its header.
    pub fn total_len(self, len: usize) -> Self {
        self.ip(|ip| ip.said_len = Some(len))
    }

    /// A header checksum that is off by so much.
    pub fn checksum_error(self, error: u16) -> Self {
        self.ip(|ip| ip.v4.checksum = Checksum::OffBy(error))
    }

    /// An identification that makes the right header checksum this one.
    pub fn right_checksum(self, wanted: u16) -> Self {
        self.ip(|ip| {
            ip.v4.id = 0;
            let without = u16::from_be_bytes([ip.bytes()[10], ip.bytes()[11]]);
            // Ones' complement arithmetic: what is to be added to the sum (RFC 1071).
            ip.v4.id =
                internet_checksum(&[(!without).to_be_bytes(), wanted.to_be_bytes()].concat());
        })
    }

    /// A header whose checksum nobody has computed.
    pub fn no_checksum(self) -> Self {
        self.ip(|ip| ip.v4.checksum = Checksum::Zero)
    }

    /// The header's length as the TCP header says it, in words.
    pub fn data_offset(self, words: u8) -> Self {
        self.ip(|ip| match &mut ip.transport {
            Transport::Tcp { offset, .. } => *offset = Some(words),
            _ => panic!("not TCP"),
        })
    }

    pub fn macs(mut self, dst: Mac, src: Mac) -> Self {
        self.macs = Some((dst, src));
        self
    }

    /// The same MACs, where none were asked for.
    pub fn or_macs(mut self, macs: (Mac, Mac)) -> Self {
        self.macs.get_or_insert(macs);
        self
    }

    /// Filled up to the shortest frame, as a network card does. IPv6 never is that short, so its
    /// packets are filled up to as much more as their header has.
    pub fn padded(mut self) -> Self {
        self.is_padded = true;
        self
    }

    /// So many bytes more than the packet has.
    pub fn trailing(mut self, bytes: usize) -> Self {
        self.trailing = bytes;
        self
    }

    /// The first `len` bytes of the frame.
    pub fn cut_at(mut self, len: usize) -> Self {
        self.cut_at = Some(len);
        self
    }

    /// What a router makes of it: other MACs, one less on the TTL, no padding, and the checksum
    /// computed anew over the whole header.
    pub fn routed(self, dst: Mac, src: Mac) -> Self {
        let mut routed = self.macs(dst, src).ip(|ip| ip.hops -= 1);
        (routed.is_padded, routed.trailing) = (false, 0);
        routed
    }
}
