//! What stands behind the IP header, right to the last bit until somebody changes it.

use std::net::IpAddr;

use underpass_common::flow::{PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP};

/// IP protocol number of ICMPv6.
pub const PROTOCOL_ICMPV6: u8 = 58;

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;

#[derive(Clone, Debug)]
pub enum Transport {
    Udp {
        ports: [u16; 2],
        /// Another length than the right one.
        length: Option<u16>,
    },
    Tcp {
        ports: [u16; 2],
        seq: u32,
        flags: u8,
        options: Vec<u8>,
        /// Another data offset, in words, than the right one.
        offset: Option<u8>,
    },
    /// ICMP or ICMPv6, as the IP header has it.
    Icmp { kind: u8, code: u8, rest: [u8; 4] },
}

/// What becomes of the checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    Right,
    Zero,
    OffBy(u16),
    /// That of the pseudo header, for the network card to finish.
    Partial,
}

impl Transport {
    pub fn protocol(&self, is_v6: bool) -> u8 {
        match self {
            Self::Udp { .. } => PROTOCOL_UDP,
            Self::Tcp { .. } => PROTOCOL_TCP,
            Self::Icmp { .. } if is_v6 => PROTOCOL_ICMPV6,
            Self::Icmp { .. } => PROTOCOL_ICMP,
        }
    }

    /// Where its checksum stands.
    pub fn checksum_at(&self) -> usize {
        match self {
            Self::Udp { .. } => 6,
            Self::Tcp { .. } => 16,
            Self::Icmp { .. } => 2,
        }
    }

    pub fn header_len(&self) -> usize {
        match self {
            Self::Udp { .. } | Self::Icmp { .. } => 8,
            Self::Tcp { options, .. } => 20 + options.len(),
        }
    }

    pub fn bytes(&self, ends: [IpAddr; 2], payload: &[u8], checksum: Checksum) -> Vec<u8> {
        let len = self.header_len() + payload.len();
        let mut bytes = Vec::with_capacity(len);
        match self {
            Self::Udp { ports, length } => {
                bytes.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
                bytes.extend(length.unwrap_or(len as u16).to_be_bytes());
                bytes.extend([0, 0]);
            }
            Self::Tcp {
                ports,
                seq,
                flags,
                options,
                offset,
            } => {
                bytes.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
                bytes.extend(seq.to_be_bytes());
                bytes.extend([0, 0, 0, 2]);
                bytes.push(offset.unwrap_or((5 + options.len() / 4) as u8) << 4);
                bytes.extend([*flags, 0xff, 0xff, 0, 0, 0, 0]);
                bytes.extend(options);
            }
            Self::Icmp { kind, code, rest } => {
                bytes.extend([*kind, *code, 0, 0]);
                bytes.extend(rest);
            }
        }
        bytes.extend(payload);
        let at = self.checksum_at();
        let pseudo = self.pseudo_header(ends, len);
        let right = !ones_sum(&bytes, ones_sum(&pseudo, 0));
        let value = match checksum {
            // RFC 768: zero would mean that there is none.
            Checksum::Right if right == 0 && matches!(self, Self::Udp { .. }) => 0xffff,
            Checksum::Right => right,
            Checksum::Zero => 0,
            Checksum::OffBy(error) => right.wrapping_add(error),
            Checksum::Partial => ones_sum(&pseudo, 0),
        };
        bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
        bytes
    }

    /// RFC 9293 and RFC 8200, 8.1. ICMP has none.
    fn pseudo_header(&self, ends: [IpAddr; 2], len: usize) -> Vec<u8> {
        let is_v6 = ends[0].is_ipv6();
        if matches!(self, Self::Icmp { .. }) && !is_v6 {
            return Vec::new();
        }
        let mut pseudo = Vec::with_capacity(40);
        pseudo.extend(ends.iter().flat_map(|&end| octets(end)));
        pseudo.extend((len as u32).to_be_bytes());
        pseudo.extend([0, 0, 0, self.protocol(is_v6)]);
        pseudo
    }
}

/// An address as it stands in a packet.
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The ones' complement sum (RFC 1071) of `bytes` on top of `start`.
pub fn ones_sum(bytes: &[u8], start: u16) -> u16 {
    let mut sum = u32::from(start);
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
