//! A node: a host that forwards for its pods.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Deref;

use ipnet::{IpNet, Ipv4Net};
use underpass_common::addr::Mac;

use super::host::Host;
use super::names;
use super::pod::Pod;

/// A node of the lab. It is a [`Host`], so it can do all that a host can.
#[derive(Clone, Debug)]
pub struct Node {
    host: Host,
    number: usize,
    pub(super) pods: Vec<Pod>,
}

impl Node {
    pub(crate) fn new(lab: &str, number: usize) -> Self {
        Self {
            host: Host::new(lab, &names::node(number)),
            number,
            pods: Vec::new(),
        }
    }

    /// Its number, from 1.
    pub fn number(&self) -> usize {
        self.number
    }

    /// The address of its uplink.
    pub fn address(&self) -> IpAddr {
        self.ipv4().into()
    }

    /// The IPv4 address of its uplink.
    pub fn ipv4(&self) -> Ipv4Addr {
        names::node_address(self.number)
    }

    /// The MAC of its uplink as the lab made it.
    pub fn mac(&self) -> Mac {
        names::node_mac(self.number)
    }

    /// Its uplink's name.
    pub fn uplink(&self) -> &'static str {
        names::UPLINK
    }

    /// Its podCIDR.
    pub fn pod_cidr(&self) -> IpNet {
        self.pod_cidr_v4().into()
    }

    /// Its IPv4 podCIDR.
    pub fn pod_cidr_v4(&self) -> Ipv4Net {
        names::pod_cidr(self.number)
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
