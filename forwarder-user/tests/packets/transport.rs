//! What stands behind the IP header.

use underpass_common::flow::{
    ICMP_ECHO_REPLY, ICMP_ECHO_REQUEST, PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP,
};

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
            Self::Icmp { .. } => PROTOCOL_ICMP,
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

    fn is_echo(&self) -> bool {
        matches!(
            self,
            Self::Icmp {
                kind: ICMP_ECHO_REQUEST | ICMP_ECHO_REPLY,
                code: 0,
                ..
            }
        )
    }

    pub fn ports(&self) -> [u16; 2] {
        match self {
            Self::Udp { ports, .. } | Self::Tcp { ports, .. } => *ports,
            Self::Icmp { id, .. } if self.is_echo() => [*id, *id],
            _ => [0, 0],
        }
    }

    pub fn echo_type(&self) -> u8 {
        match self {
            Self::Icmp { kind, .. } if self.is_echo() => *kind,
            _ => 0,
        }
    }

    pub fn bytes(&self, src: [u8; 4], dst: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let len = self.len() + payload.len();
        let mut bytes = Vec::with_capacity(len);
        // Where the checksum stands, and whether it covers the pseudo header (RFC 768, RFC 9293).
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
            Self::Icmp { kind, code, id } => {
                bytes.extend([*kind, *code, 0, 0]);
                bytes.extend(id.to_be_bytes());
                bytes.extend([0, 1]);
                (2, false)
            }
            Self::Other(_) => return payload.to_vec(),
        };
        bytes.extend(payload);
        let pseudo_header = match with_pseudo_header {
            true => [
                &src[..],
                &dst[..],
                &[0, self.protocol()],
                &(len as u16).to_be_bytes(),
            ]
            .concat(),
            false => Vec::new(),
        };
        let checksum = internet_checksum(&[pseudo_header, bytes.clone()].concat());
        bytes[checksum_at..checksum_at + 2].copy_from_slice(&checksum.to_be_bytes());
        bytes
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
