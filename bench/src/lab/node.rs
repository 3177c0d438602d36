//! A node: a host that forwards for its pods.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Deref;

use ipnet::IpNet;
use underpass_common::addr::Mac;

use super::host::Host;
use super::pod::Pod;
use super::{Families, Family, Segment, Uplink, names};

/// A node of the lab. It is a [`Host`], so it can do all that a host can.
#[derive(Clone, Debug)]
pub struct Node {
    host: Host,
    number: usize,
    families: Families,
    segments: &'static [Segment],
    pub(super) pods: Vec<Pod>,
}

impl Node {
    /// `segments`: one for each of its uplinks, one at least.
    pub(crate) fn new(
        lab: &str,
        number: usize,
        families: Families,
        segments: &'static [Segment],
    ) -> Self {
        Self {
            host: Host::new(lab, &names::node(number)),
            number,
            families,
            segments,
            pods: Vec::new(),
        }
    }

    /// Its number, from 1.
    pub fn number(&self) -> usize {
        self.number
    }

    /// The families that it and its pods speak.
    pub fn families(&self) -> Families {
        self.families
    }

    /// The address of its uplink: the IPv4 one, where it has both.
    pub fn address(&self) -> IpAddr {
        self.address_of(self.families.first())
    }

    /// All addresses of its uplink, IPv4 first.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let each = self.families.each();
        each.map(|family| self.address_of(family)).collect()
    }

    /// Its uplink's address in this family.
    ///
    /// # Panics
    /// When it doesn't speak it.
    pub fn address_of(&self, family: Family) -> IpAddr {
        self.address_on(self.segments[0], family)
    }

    /// The address of its uplink to this segment.
    ///
    /// # Panics
    /// When it isn't on that segment, or doesn't speak the family.
    pub fn address_on(&self, segment: Segment, family: Family) -> IpAddr {
        self.expect(family);
        assert!(self.is_on(segment), "{} isn't on {segment:?}", self.name());
        names::node_address_on(segment, family, self.number)
    }

    /// True where one of its uplinks leads there.
    pub fn is_on(&self, segment: Segment) -> bool {
        self.segments.contains(&segment)
    }

    /// The IPv4 address of its uplink.
    ///
    /// # Panics
    /// When it doesn't speak IPv4.
    pub fn ipv4(&self) -> Ipv4Addr {
        super::family::expect_v4(self.address_of(Family::V4))
    }

    /// The IPv6 address of its uplink.
    ///
    /// # Panics
    /// When it doesn't speak IPv6.
    pub fn ipv6(&self) -> Ipv6Addr {
        super::family::expect_v6(self.address_of(Family::V6))
    }

    /// The MAC of its uplink as the lab made it.
    pub fn mac(&self) -> Mac {
        names::node_mac(self.number)
    }

    /// Its uplink's name; the main one's, where it has two.
    pub fn uplink(&self) -> &'static str {
        names::UPLINK
    }

    /// All of its uplinks, the main one first.
    pub fn uplinks(&self) -> impl Iterator<Item = Uplink> {
        let each = self.segments.iter().enumerate();
        each.map(|(place, &segment)| Uplink {
            node: self.number,
            place,
            segment,
        })
    }

    /// Its podCIDR: the IPv4 one, where it has both.
    pub fn pod_cidr(&self) -> IpNet {
        self.pod_cidr_of(self.families.first())
    }

    /// All of its podCIDRs, IPv4 first.
    pub fn pod_cidrs(&self) -> Vec<IpNet> {
        let each = self.families.each();
        each.map(|family| self.pod_cidr_of(family)).collect()
    }

    /// Its podCIDR of this family.
    ///
    /// # Panics
    /// When it doesn't speak it.
    pub fn pod_cidr_of(&self, family: Family) -> IpNet {
        self.expect(family);
        names::pod_cidr(family, self.number)
    }

    /// The address of its pods' gateway in this family, on its bridge.
    ///
    /// # Panics
    /// When it doesn't speak it.
    pub fn gateway_of(&self, family: Family) -> IpAddr {
        self.expect(family);
        names::gateway(family, self.number)
    }

    fn expect(&self, family: Family) {
        assert!(
            self.families.has(family),
            "{} doesn't speak {family}",
            self.name()
        );
    }

    /// The pods it was built with.
    pub fn pods(&self) -> &[Pod] {
        &self.pods
    }
}

impl Deref for Node {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}
