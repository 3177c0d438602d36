//! An IP packet in the making, of either family.

use std::net::IpAddr;

use crate::builder::Packet;
use crate::family::{Family, Twin as _};
use crate::transport::{Transport, internet_checksum};

const MORE_FRAGMENTS: u16 = 0x2000;
const DONT_FRAGMENT: u16 = 0x4000;

/// Extension headers of IPv6 (RFC 8200).
const HOP_BY_HOP: u8 = 0;
const FRAGMENT: u8 = 44;

#[derive(Clone, Debug)]
pub struct Ip {
    pub family: Family,
    pub version: u8,
    /// Type of service, or traffic class.
    pub tos: u8,
    /// TTL, or hop limit.
    pub hops: u8,
    /// Length of the whole packet, as the header says it.
    pub said_len: Option<usize>,
    pub src: IpAddr,
    pub dst: IpAddr,
    pub fragment: Option<Fragment>,
    /// Options of IPv4.
    pub options: Vec<u8>,
    pub transport: Transport,
    pub payload: Payload,
    pub v4: OnlyV4,
    pub v6: OnlyV6,
}

/// At `offset`, in units of eight bytes; the last one or not.
#[derive(Clone, Copy, Debug)]
pub struct Fragment {
    pub offset: u16,
    pub more: bool,
}

/// What only IPv4 has.
#[derive(Clone, Debug)]
pub struct OnlyV4 {
    pub header_words: Option<u8>,
    pub id: u16,
    pub dont_fragment: bool,
    pub checksum: Checksum,
}

/// What only IPv6 has.
#[derive(Clone, Debug, Default)]
pub struct OnlyV6 {
    pub flow_label: u32,
    /// Number and content of each extension header; of the content without the byte that names the next
    /// header.
    pub extensions: Vec<(u8, Vec<u8>)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Checksum {
    Right,
    OffBy(u16),
    Zero,
}

#[derive(Clone, Debug)]
pub enum Payload {
    Bytes(Vec<u8>),
    /// As much as makes the IP packet so long.
    FillTo(usize),
    /// What an ICMP error quotes: a packet, cut at a length.
    Quote(Box<Packet>, Option<usize>),
}

impl Ip {
    /// Right in every field.
    pub fn new(src: IpAddr, dst: IpAddr, transport: Transport) -> Self {
        let family = Family::of(src);
        Self {
            family,
            version: if family == Family::V4 { 4 } else { 6 },
            tos: 0,
            hops: 64,
            said_len: None,
            src,
            dst,
            fragment: None,
            options: Vec::new(),
            transport,
            payload: Payload::Bytes(b"below the route table".to_vec()),
            v4: OnlyV4 {
                header_words: None,
                id: 0x1d0f,
                dont_fragment: true,
                checksum: Checksum::Right,
            },
            v6: OnlyV6::default(),
        }
    }

    /// Bytes in front of the payload.
    pub fn headers_len(&self) -> usize {
        let extensions = self.v6.extensions.iter();
        self.family.header_len()
            + self.options.len()
            + extensions
                .map(|(_, content)| 1 + content.len())
                .sum::<usize>()
            + self.transport.len()
    }

    /// The same in IPv6: options become hop-by-hop options, and fragments have a header for it.
    pub fn in_v6(&self) -> Self {
        let OnlyV4 {
            header_words: None,
            dont_fragment: true,
            checksum: Checksum::Right,
            ..
        } = self.v4
        else {
            panic!("IPv6 has no such thing as {:?}", self.v4);
        };
        let longer = Family::V6.header_len() - Family::V4.header_len();
        let mut extensions = Vec::new();
        if !self.options.is_empty() {
            // Padding of six bytes in all (PadN).
            extensions.push((HOP_BY_HOP, vec![0, 1, 4, 0, 0, 0, 0]));
        }
        if let Some(Fragment { offset, more }) = self.fragment {
            let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
            extensions.push((FRAGMENT, vec![0, high, low, 0, 0, 0, 7]));
        }
        Self {
            family: Family::V6,
            version: match self.version {
                4 => 6,
                6 => 4,
                other => other,
            },
            said_len: self.said_len.map(|len| len + longer),
            src: self.src.twin(),
            dst: self.dst.twin(),
            fragment: None,
            options: Vec::new(),
            transport: self.transport.in_v6(),
            payload: match &self.payload {
                Payload::Quote(packet, cut) => {
                    Payload::Quote(Box::new(packet.in_v6()), cut.map(|len| len + longer))
                }
                other => other.clone(),
            },
            v6: OnlyV6 {
                extensions,
                ..OnlyV6::default()
            },
            ..self.clone()
        }
    }

    fn payload(&self) -> Vec<u8> {
        match &self.payload {
            Payload::Bytes(bytes) => bytes.clone(),
            Payload::FillTo(len) => (0..len - self.headers_len()).map(|n| n as u8).collect(),
            Payload::Quote(packet, cut) => {
                let mut quoted = packet.ip_bytes();
                quoted.truncate(cut.unwrap_or(quoted.len()));
                quoted
            }
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let payload = self.payload();
        let transport = self.transport.bytes(self.src, self.dst, &payload);
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                self.bytes_v4(&[src.octets(), dst.octets()].concat(), &transport)
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                self.bytes_v6(&[src.octets(), dst.octets()].concat(), &transport)
            }
            (src, dst) => panic!("a packet from {src} to {dst}"),
        }
    }

    fn bytes_v4(&self, addresses: &[u8], transport: &[u8]) -> Vec<u8> {
        let header_len = 20 + self.options.len();
        let said_len = self.said_len.unwrap_or(header_len + transport.len()) as u16;
        let words = self.v4.header_words.unwrap_or((header_len / 4) as u8);
        let fragment = match (self.fragment, self.v4.dont_fragment) {
            (None, true) => DONT_FRAGMENT,
            (None, false) => 0,
            (Some(Fragment { offset, more }), _) => offset | if more { MORE_FRAGMENTS } else { 0 },
        };
        let mut header = vec![self.version << 4 | words, self.tos];
        header.extend(said_len.to_be_bytes());
        header.extend(self.v4.id.to_be_bytes());
        header.extend(fragment.to_be_bytes());
        header.extend([self.hops, self.transport.protocol(), 0, 0]);
        header.extend(addresses);
        header.extend(&self.options);
        let right = internet_checksum(&header);
        let checksum = match self.v4.checksum {
            Checksum::Right => right,
            Checksum::OffBy(error) => right.wrapping_add(error),
            Checksum::Zero => 0,
        };
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        header.extend(transport);
        header
    }

    fn bytes_v6(&self, addresses: &[u8], transport: &[u8]) -> Vec<u8> {
        let extensions = &self.v6.extensions;
        let numbers: Vec<u8> = extensions
            .iter()
            .map(|(number, _)| *number)
            .chain([self.transport.protocol()])
            .collect();
        let mut behind = Vec::new();
        for ((_, content), next) in extensions.iter().zip(&numbers[1..]) {
            behind.push(*next);
            behind.extend(content);
        }
        behind.extend(transport);
        let payload_len = self.said_len.map_or(behind.len(), |len| len - 40) as u16;
        let first = u32::from(self.version) << 28 | u32::from(self.tos) << 20 | self.v6.flow_label;
        let mut header = first.to_be_bytes().to_vec();
        header.extend(payload_len.to_be_bytes());
        header.extend([numbers[0], self.hops]);
        header.extend(addresses);
        header.extend(behind);
        header
    }
}
