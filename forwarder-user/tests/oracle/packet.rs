//! A packet with a knob for everything that can be wrong with it.

use std::net::IpAddr;

use underpass_common::addr::Mac;

use super::transport::{Checksum, Transport, octets, ones_sum};

pub const ETHERNET: usize = 14;
pub const ETHERTYPE_IPV4: u16 = 0x0800;
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

/// Don't fragment.
pub const DF: u16 = 0x4000;
/// More fragments.
pub const MF: u16 = 0x2000;

/// An extension header of IPv6: its number, and its bytes from the second on; the first is filled in.
pub type Extension = (u8, Vec<u8>);

#[derive(Clone, Debug)]
pub struct Packet {
    pub dst_mac: Mac,
    pub src_mac: Mac,
    /// VLAN tags in the frame: TPID and TCI.
    pub tags: Vec<[u16; 2]>,
    /// Another EtherType than the right one.
    pub ethertype: Option<u16>,
    pub src: IpAddr,
    pub dst: IpAddr,
    /// Another IP version than the right one.
    pub version: Option<u8>,
    /// TOS, or traffic class.
    pub tos: u8,
    /// TTL, or hop limit.
    pub hops: u8,
    /// IPv4's identification; IPv6's flow label.
    pub id: u32,
    /// IPv4's flags and fragment offset.
    pub fragment: u16,
    /// IPv4's options, a multiple of four bytes.
    pub options: Vec<u8>,
    /// Another IPv4 header length, in words, than the right one.
    pub header_words: Option<u8>,
    /// Another total length, or payload length, than the right one.
    pub length: Option<u16>,
    /// Added to IPv4's header checksum.
    pub header_checksum_error: u16,
    /// IPv6's extension headers.
    pub extensions: Vec<Extension>,
    /// Another protocol number than the right one.
    pub protocol: Option<u8>,
    pub transport: Transport,
    pub checksum: Checksum,
    pub payload: Vec<u8>,
    /// Behind the IP packet.
    pub trailer: Vec<u8>,
    /// Only so many bytes of the frame.
    pub cut_at: Option<usize>,
}

impl Packet {
    pub fn new(macs: [Mac; 2], ends: [IpAddr; 2], transport: Transport) -> Self {
        Self {
            dst_mac: macs[0],
            src_mac: macs[1],
            tags: Vec::new(),
            ethertype: None,
            src: ends[0],
            dst: ends[1],
            version: None,
            tos: 0,
            hops: 64,
            id: 0,
            fragment: 0,
            options: Vec::new(),
            header_words: None,
            length: None,
            header_checksum_error: 0,
            extensions: Vec::new(),
            protocol: None,
            transport,
            checksum: Checksum::Right,
            payload: Vec::new(),
            trailer: Vec::new(),
            cut_at: None,
        }
    }

    pub fn is_v6(&self) -> bool {
        self.dst.is_ipv6()
    }

    /// Offset of the IP header.
    pub fn ip_at(&self) -> usize {
        ETHERNET + 4 * self.tags.len()
    }

    /// Offset of the transport header.
    pub fn transport_at(&self) -> usize {
        let extensions: usize = self.extensions.iter().map(|(_, body)| body.len() + 1).sum();
        let header = if self.is_v6() { 40 } else { 20 };
        self.ip_at() + header + self.options.len() + extensions
    }

    /// The IP packet alone.
    pub fn ip_bytes(&self) -> Vec<u8> {
        let ends = [self.src, self.dst];
        let transport = self.transport.bytes(ends, &self.payload, self.checksum);
        if self.is_v6() {
            self.v6_bytes(&transport)
        } else {
            self.v4_bytes(&transport)
        }
    }

    /// The frame.
    pub fn bytes(&self) -> Vec<u8> {
        let mut frame = [&self.dst_mac[..], &self.src_mac[..]].concat();
        for tag in &self.tags {
            frame.extend(tag.iter().flat_map(|half| half.to_be_bytes()));
        }
        let right = if self.is_v6() {
            ETHERTYPE_IPV6
        } else {
            ETHERTYPE_IPV4
        };
        frame.extend(self.ethertype.unwrap_or(right).to_be_bytes());
        frame.extend(self.ip_bytes());
        frame.extend(&self.trailer);
        frame.truncate(self.cut_at.unwrap_or(frame.len()));
        frame
    }

    fn v4_bytes(&self, transport: &[u8]) -> Vec<u8> {
        let header_len = 20 + self.options.len();
        let words = self.header_words.unwrap_or((header_len / 4) as u8) & 0xf;
        let length = self.length.unwrap_or((header_len + transport.len()) as u16);
        let mut header = vec![self.version.unwrap_or(4) << 4 | words, self.tos];
        header.extend(length.to_be_bytes());
        header.extend((self.id as u16).to_be_bytes());
        header.extend(self.fragment.to_be_bytes());
        let protocol = self.protocol.unwrap_or(self.transport.protocol(false));
        header.extend([self.hops, protocol, 0, 0]);
        header.extend(octets(self.src));
        header.extend(octets(self.dst));
        header.extend(&self.options);
        let checksum = (!ones_sum(&header, 0)).wrapping_add(self.header_checksum_error);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        header.extend(transport);
        header
    }

    fn v6_bytes(&self, transport: &[u8]) -> Vec<u8> {
        let protocol = self.protocol.unwrap_or(self.transport.protocol(true));
        let mut payload = Vec::new();
        for (position, (_, body)) in self.extensions.iter().enumerate() {
            let next = self.extensions.get(position + 1);
            payload.push(next.map_or(protocol, |(number, _)| *number));
            payload.extend(body);
        }
        payload.extend(transport);
        let first = self.extensions.first();
        let next = first.map_or(protocol, |(number, _)| *number);
        let word = u32::from(self.version.unwrap_or(6)) << 28
            | u32::from(self.tos) << 20
            | self.id & 0xf_ffff;
        let mut header = word.to_be_bytes().to_vec();
        header.extend(self.length.unwrap_or(payload.len() as u16).to_be_bytes());
        header.extend([next, self.hops]);
        header.extend(octets(self.src));
        header.extend(octets(self.dst));
        header.extend(payload);
        header
    }
}
