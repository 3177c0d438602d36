//! The two address families, and what a thing of one is called in the other.
//!
//! Tables are written for IPv4. Their twins in IPv6 are made here: an address 10.244.1.2 becomes
//! fd00:10:244:1::2, and back, so that the twin of a world of both families is such a world again. The
//! last byte of an address stands there as a number, so that prefixes inside a podCIDR have twins, too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use underpass_common::addr::Block;
use underpass_common::flow::{FlowKey, PROTOCOL_ICMP, PROTOCOL_ICMPV6};
use underpass_common::settings::Settings;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    pub const fn ethertype(self) -> u16 {
        match self {
            Self::V4 => 0x0800,
            Self::V6 => 0x86dd,
        }
    }

    /// Length of an IP header without options or extensions.
    pub const fn header_len(self) -> usize {
        match self {
            Self::V4 => 20,
            Self::V6 => 40,
        }
    }

    /// The protocol number of this family's ICMP.
    pub const fn icmp(self) -> u8 {
        match self {
            Self::V4 => PROTOCOL_ICMP,
            Self::V6 => PROTOCOL_ICMPV6,
        }
    }

    pub const fn echo_request(self) -> u8 {
        match self {
            Self::V4 => 8,
            Self::V6 => 128,
        }
    }

    pub const fn echo_reply(self) -> u8 {
        match self {
            Self::V4 => 0,
            Self::V6 => 129,
        }
    }
}

/// What has a twin in the other family.
pub trait Twin {
    fn twin(&self) -> Self;

    /// The same in this family, for what is of IPv4.
    fn in_family(&self, family: Family) -> Self
    where
        Self: Clone,
    {
        match family {
            Family::V4 => self.clone(),
            Family::V6 => self.twin(),
        }
    }
}

/// The first group of all twins' addresses.
const UNIQUE_LOCAL: u16 = 0xfd00;

impl Twin for IpAddr {
    fn twin(&self) -> Self {
        match self {
            Self::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                let group = |number: u8| {
                    u16::from_str_radix(&number.to_string(), 16).expect("digits are digits")
                };
                let [a, b, c] = [a, b, c].map(group);
                Ipv6Addr::new(UNIQUE_LOCAL, a, b, c, 0, 0, 0, d.into()).into()
            }
            Self::V6(v6) => {
                let [first, a, b, c, .., d] = v6.segments();
                let number = |group: u16| format!("{group:x}").parse::<u8>();
                let (Ok(a), Ok(b), Ok(c), Ok(d), UNIQUE_LOCAL) =
                    (number(a), number(b), number(c), u8::try_from(d), first)
                else {
                    panic!("{v6} is nobody's twin");
                };
                Ipv4Addr::new(a, b, c, d).into()
            }
        }
    }
}

/// Where the prefixes that have twins end: in groups of their own, or in the last byte.
const LENGTHS: [(u8, u8); 4] = [(0, 0), (8, 32), (16, 48), (24, 64)];

fn length_in_v6(length: u8) -> u8 {
    match LENGTHS.iter().find(|(v4, _)| *v4 == length) {
        Some((_, v6)) => *v6,
        None if length > 24 => length + 96,
        None => panic!("a prefix of length {length} has no twin"),
    }
}

fn length_in_v4(length: u8) -> u8 {
    match LENGTHS.iter().find(|(_, v6)| *v6 == length) {
        Some((v4, _)) => *v4,
        None if length > 120 => length - 96,
        None => panic!("a prefix of length {length} has no twin"),
    }
}

impl Twin for IpNet {
    fn twin(&self) -> Self {
        let length = self.prefix_len();
        let twin = match self {
            Self::V4(_) if length == 0 => Self::new(Ipv6Addr::UNSPECIFIED.into(), 0),
            Self::V6(_) if length == 0 => Self::new(Ipv4Addr::UNSPECIFIED.into(), 0),
            Self::V4(_) => Self::new(self.network().twin(), length_in_v6(length)),
            Self::V6(_) => Self::new(self.network().twin(), length_in_v4(length)),
        };
        twin.expect("a length of that family")
    }
}

impl Twin for FlowKey<IpAddr> {
    fn twin(&self) -> Self {
        let (from, to) = match Family::of(self.pod) {
            Family::V4 => (Family::V4, Family::V6),
            Family::V6 => (Family::V6, Family::V4),
        };
        let mut twin = self.with_addresses(self.pod.twin(), self.remote.twin());
        if self.protocol == from.icmp() {
            twin.protocol = to.icmp();
            twin.icmp_type = match self.icmp_type {
                echo if echo == from.echo_request() => to.echo_request(),
                echo if echo == from.echo_reply() => to.echo_reply(),
                other => panic!("ICMP type {other} has no flow"),
            };
        }
        twin
    }
}

impl Twin for Settings {
    fn twin(&self) -> Self {
        Self {
            pod_cidrs_v4_len: self.pod_cidrs_v6_len,
            pod_cidrs_v6_len: self.pod_cidrs_v4_len,
            pod_cidrs_v4: self.pod_cidrs_v6.map(block_in_v4),
            pod_cidrs_v6: self.pod_cidrs_v4.map(block_in_v6),
            ..*self
        }
    }
}

fn block_in_v6(block: Block<[u8; 4]>) -> Block<[u8; 16]> {
    if block == Block::default() {
        return Block::default();
    }
    let length = u32::from_be_bytes(block.mask).leading_ones() as u8;
    let IpAddr::V6(network) = IpAddr::from(block.network).twin() else {
        unreachable!("a twin is of the other family");
    };
    let mask = u128::MAX << (128 - length_in_v6(length));
    Block {
        network: network.octets(),
        mask: mask.to_be_bytes(),
    }
}

fn block_in_v4(block: Block<[u8; 16]>) -> Block<[u8; 4]> {
    if block == Block::default() {
        return Block::default();
    }
    let length = u128::from_be_bytes(block.mask).leading_ones() as u8;
    let IpAddr::V4(network) = IpAddr::from(block.network).twin() else {
        unreachable!("a twin is of the other family");
    };
    let mask = u32::MAX << (32 - length_in_v4(length));
    Block {
        network: network.octets(),
        mask: mask.to_be_bytes(),
    }
}
