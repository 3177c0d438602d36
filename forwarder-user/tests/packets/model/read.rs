//! Bytes read as a packet that may be fast.

use std::net::IpAddr;

use crate::family::Family;
use crate::transport::internet_checksum;

/// A packet with nothing unusual about it.
pub struct Ip {
    pub family: Family,
    pub total_len: usize,
    /// Bytes of IP and transport header.
    pub headers_len: usize,
    pub hops: u8,
    pub src: IpAddr,
    pub dst: IpAddr,
    pub protocol: u8,
    pub kind: Kind,
}

#[derive(Clone, Copy)]
pub enum Kind {
    /// It is of the flow of these names.
    Flow(Names),
    /// An ICMP error.
    Error,
}

/// What a transport header adds to a flow's name.
#[derive(Clone, Copy)]
pub struct Names {
    /// Source and destination port; twice an echo's identifier.
    pub ports: [[u8; 2]; 2],
    /// Type of an echo.
    pub echo: Option<u8>,
    pub is_tcp: bool,
    pub tcp_flags: u8,
}

impl Ip {
    pub fn of_frame(frame: &[u8]) -> Option<Self> {
        let (family, header_len) = match frame[12..14] {
            [0x08, 0x00] => (Family::V4, 20),
            [0x86, 0xdd] => (Family::V6, 40),
            _ => return None,
        };
        let bytes = &frame[14..];
        let mut ip = Self::header(family, bytes)?;
        if family == Family::V4 && internet_checksum(&bytes[..20]) != 0 {
            return None;
        }
        let transport = bytes.get(..ip.total_len)?.get(header_len..)?;
        let (kind, len) = transport_of(family, ip.protocol, transport)?;
        (ip.kind, ip.headers_len) = (kind, header_len + len);
        Some(ip)
    }

    /// A packet that an ICMP error quotes, of which eight bytes behind the IP header are enough.
    pub fn quoted(family: Family, quote: &[u8]) -> Option<(Self, Names)> {
        let ip = Self::header(family, quote)?;
        let transport = match family {
            Family::V4 => quote.get(20..28)?,
            Family::V6 => quote.get(40..48)?,
        };
        let names = match ip.protocol {
            6 | 17 => ports(transport),
            icmp if icmp == family.icmp() => echo(family, transport)?,
            _ => return None,
        };
        Some((ip, names))
    }

    /// The header alone.
    fn header(family: Family, bytes: &[u8]) -> Option<Self> {
        let (total_len, hops, protocol, src, dst) = match family {
            Family::V4 => {
                let header: &[u8; 20] = bytes.first_chunk()?;
                let is_fragment = header[6] & 0x3f != 0 || header[7] != 0;
                if header[0] != 0x45 || is_fragment {
                    return None;
                }
                let address = |at: usize| -> [u8; 4] { header[at..at + 4].try_into().expect("4") };
                let (src, dst) = (address(12).into(), address(16).into());
                (be16(&header[2..]), header[8], header[9], src, dst)
            }
            Family::V6 => {
                let header: &[u8; 40] = bytes.first_chunk()?;
                let is_extended = [0, 43, 44, 51, 60, 135, 139, 140].contains(&header[6]);
                if header[0] >> 4 != 6 || is_extended {
                    return None;
                }
                let address =
                    |at: usize| -> [u8; 16] { header[at..at + 16].try_into().expect("16") };
                let (src, dst) = (address(8).into(), address(24).into());
                (40 + be16(&header[4..]), header[7], header[6], src, dst)
            }
        };
        Some(Self {
            family,
            total_len,
            headers_len: 0,
            hops,
            src,
            dst,
            protocol,
            kind: Kind::Error,
        })
    }
}

/// What a transport header is, and its length.
fn transport_of(family: Family, protocol: u8, bytes: &[u8]) -> Option<(Kind, usize)> {
    let header = bytes.get(..8)?;
    match protocol {
        6 => {
            let len = usize::from(*bytes.get(12)? >> 4) * 4;
            let header = bytes.get(..len).filter(|header| header.len() >= 20)?;
            let names = Names {
                is_tcp: true,
                tcp_flags: header[13],
                ..ports(header)
            };
            Some((Kind::Flow(names), len))
        }
        17 => Some((Kind::Flow(ports(header)), 8)),
        icmp if icmp == family.icmp() => {
            let errors: &[u8] = match family {
                Family::V4 => &[3, 11, 12],
                Family::V6 => &[1, 2, 3, 4],
            };
            match errors.contains(&header[0]) {
                true => Some((Kind::Error, 8)),
                false => Some((Kind::Flow(echo(family, header)?), 8)),
            }
        }
        _ => None,
    }
}

fn ports(header: &[u8]) -> Names {
    Names {
        ports: [[header[0], header[1]], [header[2], header[3]]],
        echo: None,
        is_tcp: false,
        tcp_flags: 0,
    }
}

fn echo(family: Family, header: &[u8]) -> Option<Names> {
    let [kind, code] = [header[0], header[1]];
    let is_echo = [family.echo_request(), family.echo_reply()].contains(&kind) && code == 0;
    is_echo.then(|| Names {
        ports: [[header[4], header[5]]; 2],
        echo: Some(kind),
        is_tcp: false,
        tcp_flags: 0,
    })
}

fn be16(bytes: &[u8]) -> usize {
    usize::from(bytes[0]) << 8 | usize::from(bytes[1])
}
