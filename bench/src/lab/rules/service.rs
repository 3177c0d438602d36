//! A Kubernetes Service, reduced to what kube-proxy makes rules of.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::Protocol;
use crate::lab::names::{CLUSTER_CIDR, SERVICE_CIDR};

/// A service with a ClusterIP and, where wanted, a NodePort.
#[derive(Clone, Debug)]
pub struct Service {
    pub(super) name: String,
    pub(super) protocol: Protocol,
    pub(super) address: SocketAddr,
    pub(super) node_port: Option<u16>,
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

    /// A service that nobody uses: number `number` of many.
    pub(super) fn dummy(number: u16) -> Self {
        let [high, low] = number.to_be_bytes();
        let [first, _, ..] = SERVICE_CIDR.network().octets();
        let [cluster, pods, ..] = CLUSTER_CIDR.network().octets();
        let address = Ipv4Addr::new(first, 111, high, low);
        Self::new(
            &format!("dummy-{number}"),
            Protocol::Tcp,
            SocketAddr::new(address.into(), 80),
        )
        .backend(Ipv4Addr::new(cluster, pods, 255, low).into(), 8080)
    }
}
