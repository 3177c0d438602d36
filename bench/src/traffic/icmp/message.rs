//! What a ping says, and what may be said to it.

use std::net::IpAddr;

use crate::lab::Family;

/// Bytes of an ICMP echo's header, and of an error's before what it quotes, in both families.
const HEADER: usize = 8;

/// The numbers of one family's ICMP (RFC 792, RFC 4443).
struct Numbers {
    echo_request: u8,
    echo_reply: u8,
}

impl Numbers {
    const fn of(family: Family) -> Self {
        match family {
            Family::V4 => Self {
                echo_request: 8,
                echo_reply: 0,
            },
            Family::V6 => Self {
                echo_request: 128,
                echo_reply: 129,
            },
        }
    }

    /// True for the types of messages that say that a packet didn't get through.
    fn is_error(family: Family, kind: u8) -> bool {
        match family {
            Family::V4 => matches!(kind, 3 | 4 | 5 | 11 | 12),
            Family::V6 => kind < 128,
        }
    }
}

/// An ICMP error about one of the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// Who sent it.
    pub from: IpAddr,
    /// ICMP type, of the family of `from`: 3 for unreachable, 11 for time exceeded; in IPv6 1 for
    /// unreachable, 2 for packet too big, 3 for time exceeded.
    pub kind: u8,
    /// ICMP code.
    pub code: u8,
    /// The MTU that it tells of; 0 where it tells of none.
    pub mtu: u32,
}

impl IcmpError {
    /// True where a router says that the packet lived too short.
    pub fn is_time_exceeded(&self) -> bool {
        match Family::of(self.from) {
            Family::V4 => self.kind == 11,
            Family::V6 => self.kind == 3,
        }
    }

    /// True where a router says that the packet is longer than its link allows.
    pub fn is_too_big(&self) -> bool {
        match Family::of(self.from) {
            Family::V4 => (self.kind, self.code) == (3, 4),
            Family::V6 => self.kind == 2,
        }
    }
}

/// The requests of one ping.
#[derive(Clone, Copy, Debug)]
pub(super) struct Echo {
    pub target: IpAddr,
    pub identifier: u16,
    /// Bytes after the ICMP header.
    pub size: usize,
}

/// What a message says about a request.
pub(super) enum Answer {
    Reply,
    Error(IcmpError),
}

impl Echo {
    pub fn family(self) -> Family {
        Family::of(self.target)
    }

    /// A request with its checksum; that of ICMPv6 the kernel replaces, as it knows the addresses.
    pub fn request(self, sequence: u16) -> Vec<u8> {
        let mut packet = vec![0; HEADER];
        packet[0] = Numbers::of(self.family()).echo_request;
        packet[4..6].copy_from_slice(&self.identifier.to_be_bytes());
        packet[6..8].copy_from_slice(&sequence.to_be_bytes());
        packet.extend((0..self.size).map(|position| position as u8));
        let checksum = internet_checksum(&packet);
        packet[2..4].copy_from_slice(&checksum.to_be_bytes());
        packet
    }

    /// What this ICMP message says about request `sequence`; `None`: nothing. A raw socket sees all
    /// ICMP packets of its host.
    pub fn read_answer(self, from: IpAddr, icmp: &[u8], sequence: u16) -> Option<Answer> {
        let (kind, code) = (*icmp.first()?, *icmp.get(1)?);
        let numbers = Numbers::of(self.family());
        if kind == numbers.echo_reply {
            let ours = from == self.target && self.is_ours(icmp, sequence);
            return ours.then_some(Answer::Reply);
        }
        if !Numbers::is_error(self.family(), kind) {
            return None;
        }
        // An error quotes the packet that it is about.
        let quoted = after_ip(self.family(), icmp.get(HEADER..)?)?;
        let ours = quoted.first() == Some(&numbers.echo_request) && self.is_ours(quoted, sequence);
        let [_, _, high, low] = icmp.get(4..HEADER)?.try_into().ok()?;
        let mut error = IcmpError {
            from,
            kind,
            code,
            mtu: 0,
        };
        if error.is_too_big() {
            // IPv4 has other things in the upper half (RFC 1191, RFC 4884), and no MTU is so large that
            // IPv6 needs it.
            error.mtu = u16::from_be_bytes([high, low]).into();
        }
        ours.then_some(Answer::Error(error))
    }

    fn is_ours(self, icmp: &[u8], sequence: u16) -> bool {
        let field = |range| icmp.get::<std::ops::Range<usize>>(range);
        field(4..6) == Some(&self.identifier.to_be_bytes())
            && field(6..8) == Some(&sequence.to_be_bytes())
    }
}

/// What follows an IP header; in IPv6 without extension headers, as our requests are.
pub(super) fn after_ip(family: Family, packet: &[u8]) -> Option<&[u8]> {
    match family {
        Family::V4 => packet.get(usize::from(packet.first()? & 0x0f) * 4..),
        Family::V6 => packet.get(40..),
    }
}

/// The checksum of RFC 1071.
pub(crate) fn internet_checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::net::{Ipv4Addr, Ipv6Addr};

    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);
    const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
    const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0xfe);

    fn echoes() -> [Echo; 2] {
        [SERVER.into(), SERVER_V6.into()].map(|target| Echo {
            target,
            identifier: 7,
            size: 56,
        })
    }

    #[test]
    fn a_request_with_its_checksum_sums_to_zero() {
        for ping in echoes() {
            assert_eq!(internet_checksum(&ping.request(1)), 0);
            let odd = Echo { size: 57, ..ping };
            assert_eq!(internet_checksum(&odd.request(1)), 0);
        }
    }

    #[test]
    fn a_reply_is_known_by_who_it_is_from_and_its_numbers() {
        for (ping, stranger) in echoes()
            .into_iter()
            .zip([IpAddr::from(ROUTER), ROUTER_V6.into()])
        {
            let mut reply = ping.request(3);
            reply[0] = Numbers::of(ping.family()).echo_reply;
            let is_reply = |asked: Echo, from, sequence| {
                let answer = asked.read_answer(from, &reply, sequence);
                matches!(answer, Some(Answer::Reply))
            };
            let other = Echo {
                identifier: 8,
                ..ping
            };
            assert!(is_reply(ping, ping.target, 3));
            assert!(!is_reply(ping, stranger, 3));
            assert!(!is_reply(ping, ping.target, 4));
            assert!(!is_reply(other, ping.target, 3));
        }
    }

    #[test]
    fn an_error_is_known_by_what_it_quotes() {
        let routers = [(ROUTER.into(), 3, 4), (ROUTER_V6.into(), 2, 0)];
        for (ping, (from, kind, code)) in echoes().into_iter().zip(routers) {
            let mut packet = vec![kind, code, 0, 0, 0, 0, 5, 120];
            packet.extend(match ping.family() {
                Family::V4 => [&[0x45][..], &[0; 19]].concat(),
                Family::V6 => [&[0x60][..], &[0; 39]].concat(),
            });
            packet.extend(ping.request(3));
            match ping.read_answer(from, &packet, 3) {
                Some(Answer::Error(error)) => {
                    assert_eq!((error.from, error.kind, error.code), (from, kind, code));
                    assert!(error.is_too_big() && !error.is_time_exceeded());
                    assert_eq!(error.mtu, 1400);
                }
                _ => panic!("no error read"),
            }
            assert!(ping.read_answer(from, &packet, 4).is_none());
        }
    }
}
