//! A `hostPort`: a port of the node that leads to one pod (CNI plugins, `plugins/meta/portmap`).

use std::net::SocketAddr;

use super::{Backend, Protocol};
use crate::lab::{Family, Node, Pod};

/// The mark of packets that portmap's rules masquerade.
const MARK: &str = "0x2000";

/// A port of a node that leads to a port of a pod.
#[derive(Clone, Copy, Debug)]
pub struct HostPort {
    /// Transport protocol.
    pub protocol: Protocol,
    /// The node's port.
    pub host_port: u16,
    /// The pod's port.
    pub pod_port: u16,
}

impl HostPort {
    pub(super) fn rules(self, backend: Backend, family: Family, node: &Node, pod: &Pod) -> String {
        match backend {
            Backend::Iptables => self.iptables(family, node, pod),
            Backend::Nftables => self.nftables(family, node, pod),
        }
    }

    fn iptables(self, family: Family, node: &Node, pod: &Pod) -> String {
        let Self {
            protocol,
            host_port,
            pod_port,
        } = self;
        let (pods, oneself) = (node.pod_cidr_of(family), family.loopback());
        let pod = SocketAddr::new(pod.address_of(family), pod_port);
        let chain = format!("CNI-DN-{protocol}-{host_port}");
        let to_port = format!("-p {protocol} -m {protocol} --dport {host_port}");
        format!(
            "*nat
:{chain} - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL {to_port} -j {chain}
-A OUTPUT -m addrtype --dst-type LOCAL {to_port} -j {chain}
-A {chain} -s {pods} {to_port} -j MARK --or-mark {MARK}
-A {chain} -s {oneself} {to_port} -j MARK --or-mark {MARK}
-A {chain} {to_port} -j DNAT --to-destination {pod}
-I POSTROUTING -m mark --mark {MARK}/{MARK} -j MASQUERADE
COMMIT
"
        )
    }

    fn nftables(self, family: Family, node: &Node, pod: &Pod) -> String {
        let Self {
            protocol,
            host_port,
            pod_port,
        } = self;
        let (pods, oneself) = (node.pod_cidr_of(family), family.loopback());
        let pod = SocketAddr::new(pod.address_of(family), pod_port);
        let ip = family.nft();
        format!(
            "table {ip} cni_hostport_{protocol}_{host_port} {{
    chain hostports {{
        {ip} saddr {{ {pods}, {oneself} }} meta mark set mark or {MARK}
        meta l4proto {protocol} dnat to {pod}
    }}
    chain prerouting {{
        type nat hook prerouting priority dstnat; policy accept;
        fib daddr type local {protocol} dport {host_port} jump hostports
    }}
    chain output {{
        type nat hook output priority -100; policy accept;
        fib daddr type local {protocol} dport {host_port} jump hostports
    }}
    chain masquerading {{
        type nat hook postrouting priority srcnat - 1; policy accept;
        meta mark & {MARK} == {MARK} masquerade
    }}
}}
"
        )
    }
}
