//! What stands behind the IP header.

use std::net::IpAddr;

use underpass_common::flow::{PROTOCOL_TCP, PROTOCOL_UDP};

use crate::family::Family;

#[derive(Clone, Debug)]
pub enum Transport {
    Udp {
        ports: [u16; 2],
        len: Option<u16>,
    },
    Tcp {
        ports: [u16; 2],
        flags: u8,
        options: Vec<u8>,
        offset: Option<u8>,
    },
    Icmp {
        family: Family,
        kind: u8,
        code: u8,
        id: u16,
    },
    Other(u8),
}

impl Transport {
    pub fn protocol(&self) -> u8 {
        match self {
            Self::Udp { .. } => PROTOCOL_UDP,
            Self::Tcp { .. } => PROTOCOL_TCP,
            Self::Icmp { family, .. } => family.icmp(),
            Self::Other(number) => *number,
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Udp { .. } | Self::Icmp { .. } => 8,
            Self::Tcp { options, .. } => 20 + options.len(),
            Self::Other(_) => 0,
        }
    }

    /// The type of an echo.
    fn echo(&self) -> Option<u8> {
        match self {
            Self::Icmp {
                family,
                kind,
                code: 0,
                ..
            } if [family.echo_request(), family.echo_reply()].contains(kind) => Some(*kind),
            _ => None,
        }
    }

    pub fn ports(&self) -> [u16; 2] {
        match self {
            Self::Udp { ports, .. } | Self::Tcp { ports, .. } => *ports,
            Self::Icmp { id, .. } if self.echo().is_some() => [*id, *id],
            _ => [0, 0],
        }
    }

    pub fn echo_type(&self) -> u8 {
        self.echo().unwrap_or(0)
    }

    /// The same in IPv6. Of ICMP that is the message that says the same (RFC 792, RFC 4443), or one
    /// that is as little of a flow.
    pub fn in_v6(&self) -> Self {
        let Self::Icmp { kind, code, id, .. } = *self else {
            return self.clone();
        };
        let (kind, code) = match (kind, code) {
            (8, _) => (128, code),
            (0, _) => (129, code),
            (3, 4) => (2, 0),
            (3, _) => (1, code),
            (11, _) => (3, code),
            (12, _) => (4, code),
            // Redirect.
            (5, _) => (137, 0),
            // Timestamp: node information.
            (13, _) => (139, code),
            _ => panic!("ICMP type {kind} has no twin"),
        };
        Self::Icmp {
            family: Family::V6,
            kind,
            code,
            id,
        }
    }

    pub fn bytes(&self, src: IpAddr, dst: IpAddr, payload: &[u8]) -> Vec<u8> {
        let len = self.len() + payload.len();
        let mut bytes = Vec::with_capacity(len);
        // Where the checksum stands, and whether it covers the pseudo header (RFC 768, RFC 9293,
        // RFC 8200).
        let (checksum_at, with_pseudo_header) = match self {
            Self::Udp { ports, len: said } => {
                bytes.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
                bytes.extend(said.unwrap_or(len as u16).to_be_bytes());
                bytes.extend([0, 0]);
                (6, true)
            }
            Self::Tcp {
                ports,
                flags,
                options,
                offset,
            } => {
                bytes.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
                bytes.extend([0, 0, 0, 1, 0, 0, 0, 2]);
                bytes.push(offset.unwrap_or((self.len() / 4) as u8) << 4);
                bytes.extend([*flags, 0xff, 0xff, 0, 0, 0, 0]);
                bytes.extend(options);
                (16, true)
            }
            Self::Icmp {
                family,
                kind,
                code,
                id,
            } => {
                bytes.extend([*kind, *code, 0, 0]);
                bytes.extend(id.to_be_bytes());
                bytes.extend([0, 1]);
                (2, *family == Family::V6)
            }
            Self::Other(_) => return payload.to_vec(),
        };
        bytes.extend(payload);
        let pseudo_header = match with_pseudo_header {
            true => pseudo_header(src, dst, self.protocol(), len),
            false => Vec::new(),
        };
        let checksum = internet_checksum(&[pseudo_header, bytes.clone()].concat());
        bytes[checksum_at..checksum_at + 2].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }
}

fn pseudo_header(src: IpAddr, dst: IpAddr, protocol: u8, len: usize) -> Vec<u8> {
    let len = (len as u32).to_be_bytes();
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            [&src.octets()[..], &dst.octets(), &[0, protocol], &len[2..]].concat()
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            [&src.octets()[..], &dst.octets(), &len, &[0, 0, 0, protocol]].concat()
        }
        _ => panic!("a packet from {src} to {dst}"),
    }
}

/// RFC 1071, as the RFC says it.
pub fn internet_checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
