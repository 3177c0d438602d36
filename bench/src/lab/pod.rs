//! A pod: a host behind a node, on a veth.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Deref;

use underpass_common::addr::Mac;

use super::host::Host;
use super::names;

/// A pod of the lab. It is a [`Host`], so it can do all that a host can.
#[derive(Clone, Debug)]
pub struct Pod {
    host: Host,
    plan: PodPlan,
}

impl Pod {
    pub(crate) fn new(lab: &str, plan: PodPlan) -> Self {
        Self {
            host: Host::new(lab, &names::pod(plan.node, plan.number)),
            plan,
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

    /// Its address.
    pub fn address(&self) -> IpAddr {
        self.ipv4().into()
    }

    /// Its IPv4 address.
    pub fn ipv4(&self) -> Ipv4Addr {
        names::pod_address(self.plan.node, self.plan.number)
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
        }
    }

    /// With another MAC.
    #[must_use]
    pub fn mac(mut self, mac: Mac) -> Self {
        self.mac = mac;
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
