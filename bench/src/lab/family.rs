//! The two address families, and which of them somebody speaks.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, IPv4 first.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The sysctl that makes a host a router.
    pub fn forwarding(self) -> &'static str {
        match self {
            Self::V4 => "net.ipv4.ip_forward",
            Self::V6 => "net.ipv6.conf.all.forwarding",
        }
    }

    /// Bits of an address, and so the prefix length of a single one.
    pub fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// What stands in an Ethernet header before such a packet.
    pub fn ether_type(self) -> [u8; 2] {
        match self {
            Self::V4 => [0x08, 0x00],
            Self::V6 => [0x86, 0xdd],
        }
    }

    /// The address that means any.
    pub fn unspecified(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Self::V6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    /// The address that means oneself.
    pub fn loopback(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::LOCALHOST.into(),
            Self::V6 => Ipv6Addr::LOCALHOST.into(),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// The families that a host speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// IPv4 only.
    V4,
    /// IPv6 only: no IPv4 address at all.
    V6,
    /// Both.
    Dual,
}

impl Families {
    /// True where this family is one of them.
    pub fn has(self, family: Family) -> bool {
        match self {
            Self::V4 => family == Family::V4,
            Self::V6 => family == Family::V6,
            Self::Dual => true,
        }
    }

    /// Each of them, IPv4 first.
    pub fn each(self) -> impl Iterator<Item = Family> {
        let mut both = Family::BOTH.into_iter();
        std::iter::from_fn(move || both.find(|&family| self.has(family)))
    }

    /// The first of them: that of a host's address where nobody asks for one of another family.
    pub fn first(self) -> Family {
        match self {
            Self::V4 | Self::Dual => Family::V4,
            Self::V6 => Family::V6,
        }
    }
}

impl From<Family> for Families {
    fn from(family: Family) -> Self {
        match family {
            Family::V4 => Self::V4,
            Family::V6 => Self::V6,
        }
    }
}

/// An address of which it is known that it is of IPv4.
pub(super) fn expect_v4(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(address) => unreachable!("{address} is no IPv4 address"),
    }
}

/// An address of which it is known that it is of IPv6.
pub(super) fn expect_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V6(address) => address,
        IpAddr::V4(address) => unreachable!("{address} is no IPv6 address"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_what_it_has() {
        let each = |families: Families| families.each().collect::<Vec<_>>();
        assert_eq!(each(Families::V4), [Family::V4]);
        assert_eq!(each(Families::V6), [Family::V6]);
        assert_eq!(each(Families::Dual), Family::BOTH);
        for families in [Families::V4, Families::V6, Families::Dual] {
            assert_eq!(each(families).first(), Some(&families.first()));
        }
    }
}
