//! A Kubernetes Service, reduced to what kube-proxy makes rules of.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Protocol;
use crate::lab::Family;

/// A service with a ClusterIP and, where wanted, a NodePort.
#[derive(Clone, Debug)]
pub struct Service {
    pub(super) name: String,
    pub(super) protocol: Protocol,
    pub(super) address: SocketAddr,
    pub(super) node_port: Option<u16>,
    pub(super) is_local: bool,
    pub(super) backends: Vec<SocketAddr>,
}

impl Service {
    /// A service of this name, up to 16 letters, digits and `-`, at a ClusterIP and port.
    pub fn new(name: &str, protocol: Protocol, address: SocketAddr) -> Self {
        Self {
            name: name.to_owned(),
            protocol,
            address,
            node_port: None,
            is_local: false,
            backends: Vec::new(),
        }
    }

    /// With one more pod behind it; each gets the same share of connections.
    #[must_use]
    pub fn backend(mut self, pod: IpAddr, port: u16) -> Self {
        self.backends.push(SocketAddr::new(pod, port));
        self
    }

    /// Also at this port of every node.
    #[must_use]
    pub fn node_port(mut self, port: u16) -> Self {
        self.node_port = Some(port);
        self
    }

    /// What comes to its NodePort from outside the cluster goes only to pods of the node that it comes to,
    /// and keeps its address: `externalTrafficPolicy: Local`.
    #[must_use]
    pub fn local(mut self) -> Self {
        self.is_local = true;
        self
    }

    pub(super) fn family(&self) -> Family {
        Family::of(self.address.ip())
    }

    /// A service that nobody uses: number `number` of many. Its address is none of
    /// [`names::service_address`](crate::lab::names::service_address).
    pub(super) fn dummy(family: Family, number: u16) -> Self {
        let [high, low] = number.to_be_bytes();
        let (service, pod): (IpAddr, IpAddr) = match family {
            Family::V4 => (
                Ipv4Addr::new(10, 111, high, low).into(),
                Ipv4Addr::new(10, 244, 255, low).into(),
            ),
            Family::V6 => (
                Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 1, number).into(),
                Ipv6Addr::new(0xfd00, 0x10, 0x244, 0xff, 0, 0, 0, low.into()).into(),
            ),
        };
        let address = SocketAddr::new(service, 80);
        Self::new(&format!("dummy-{number}"), Protocol::Tcp, address).backend(pod, 8080)
    }
}
