//! A pod: a host behind a node, on a veth.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Deref;

use underpass_common::addr::Mac;

use super::host::Host;
use super::{Families, Family, names};

/// A pod of the lab. It is a [`Host`], so it can do all that a host can.
#[derive(Clone, Debug)]
pub struct Pod {
    host: Host,
    plan: PodPlan,
    families: Families,
}

impl Pod {
    pub(crate) fn new(lab: &str, plan: PodPlan, families: Families) -> Self {
        Self {
            host: Host::new(lab, &names::pod(plan.node, plan.number)),
            plan,
            families,
        }
    }

    /// The number of its node, from 1.
    pub fn node(&self) -> usize {
        self.plan.node
    }

    /// Its number on its node, from 1.
    pub fn number(&self) -> usize {
        self.plan.number
    }

    /// The families that it speaks: its node's.
    pub fn families(&self) -> Families {
        self.families
    }

    /// Its address: the IPv4 one, where it has both.
    pub fn address(&self) -> IpAddr {
        self.address_of(self.families.first())
    }

    /// All of its addresses, IPv4 first.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let each = self.families.each();
        each.map(|family| self.address_of(family)).collect()
    }

    /// Its address in this family.
    ///
    /// # Panics
    /// When it doesn't speak it.
    pub fn address_of(&self, family: Family) -> IpAddr {
        assert!(
            self.families.has(family),
            "{} doesn't speak {family}",
            self.name()
        );
        names::pod_address(family, self.plan.node, self.plan.number)
    }

    /// Its IPv4 address.
    ///
    /// # Panics
    /// When it doesn't speak IPv4.
    pub fn ipv4(&self) -> Ipv4Addr {
        super::family::expect_v4(self.address_of(Family::V4))
    }

    /// Its IPv6 address.
    ///
    /// # Panics
    /// When it doesn't speak IPv6.
    pub fn ipv6(&self) -> Ipv6Addr {
        super::family::expect_v6(self.address_of(Family::V6))
    }

    /// The MAC of its interface as the lab made it.
    pub fn mac(&self) -> Mac {
        self.plan.mac
    }

    /// Its interface's name, in its own namespace.
    pub fn interface(&self) -> &'static str {
        names::UPLINK
    }

    /// The name of its veth's other end, in the node's namespace.
    pub fn node_veth(&self) -> &str {
        &self.plan.veth
    }
}

impl Deref for Pod {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}

/// A pod to be made, by [`Lab::add_pod`](super::Lab::add_pod).
#[derive(Clone, Debug)]
pub struct PodPlan {
    pub(super) node: usize,
    pub(super) number: usize,
    pub(super) mac: Mac,
    pub(super) veth: String,
    pub(super) veth_ifindex: Option<u32>,
    pub(super) mtu: Option<u32>,
}

impl PodPlan {
    /// Pod `number` of node `node`, both from 1, with the names and addresses that follow from these.
    pub fn new(node: usize, number: usize) -> Self {
        Self {
            node,
            number,
            mac: names::pod_mac(node, number),
            veth: names::pod_veth(number),
            veth_ifindex: None,
            mtu: None,
        }
    }

    /// With another MAC.
    #[must_use]
    pub fn mac(mut self, mac: Mac) -> Self {
        self.mac = mac;
        self
    }

    /// With another MTU than the lab's at both ends of its veth, in bytes of the IP packet.
    #[must_use]
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = Some(mtu);
        self
    }

    /// With another name for the node's end of its veth.
    #[must_use]
    pub fn veth(mut self, name: &str) -> Self {
        name.clone_into(&mut self.veth);
        self
    }

    /// With this interface index for the node's end of its veth, as the kernel would choose one that
    /// has come free.
    #[must_use]
    pub fn veth_ifindex(mut self, ifindex: u32) -> Self {
        self.veth_ifindex = Some(ifindex);
        self
    }
}
