//! The wires, as lines of `ip` commands: one list per host. Pure.

use std::fmt::Write;

use ipnet::Ipv4Net;
use underpass_common::addr::ShowMac;

use super::host::Host;
use super::names::{self, OUTSIDE_ADDRESS, POD_BRIDGE, SWITCH_BRIDGE, UPLINK, WIRE_PREFIX};
use super::node::Node;
use super::pod::PodPlan;

/// What the wires of a lab have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wiring {
    /// MTU of all wires, in bytes of the IP packet.
    pub mtu: u32,
    /// Pods hang on routed veths, not on a bridge.
    pub routed_pods: bool,
    /// Nodes have routes to the other nodes' podCIDRs.
    pub routes: bool,
}

/// Collects lines; writing to a string cannot fail.
macro_rules! lines {
    ($out:ident, $($line:literal),+ $(,)?) => {
        $(let _ = writeln!($out, $line);)+
    };
}

impl Wiring {
    /// The switch: a bridge, and one wire to each node and to the outside host.
    pub fn switch(self, nodes: &[Node], outside: Option<&Host>) -> String {
        let mtu = self.mtu;
        let mut out = String::new();
        lines!(
            out,
            "link set lo up",
            "link add name {SWITCH_BRIDGE} type bridge forward_delay 0 mcast_snooping 0",
            "link set {SWITCH_BRIDGE} mtu {mtu} up",
        );
        let nodes = nodes.iter().map(|node| {
            let mac = ShowMac(node.mac());
            (&**node, format!("address {mac}"))
        });
        for (host, address) in nodes.chain(outside.map(|host| (host, String::new()))) {
            let (port, namespace) = (host.name(), host.namespace());
            lines!(
                out,
                "link add name {port} mtu {mtu} type veth peer name {UPLINK} {address} mtu {mtu} netns {namespace}",
                "link set {port} master {SWITCH_BRIDGE} up",
            );
        }
        out
    }

    /// A node, but for its pods. `count`: how many nodes there are.
    pub fn node(self, node: &Node, count: usize) -> String {
        let mut out = String::new();
        let (mtu, address) = (self.mtu, node.ipv4());
        lines!(
            out,
            "link set lo up",
            "addr add {address}/{WIRE_PREFIX} dev {UPLINK}",
            "link set {UPLINK} up",
            // As every node has one. To a ClusterIP, too, a packet must have a route before it is
            // translated.
            "route add default via {OUTSIDE_ADDRESS}",
        );
        if !self.routed_pods {
            let mac = ShowMac(names::gateway_mac(node.number()));
            let gateway = names::gateway(node.number());
            let prefix = names::POD_PREFIX;
            lines!(
                out,
                "link add name {POD_BRIDGE} address {mac} type bridge forward_delay 0",
                "link set {POD_BRIDGE} mtu {mtu} up",
                "addr add {gateway}/{prefix} dev {POD_BRIDGE}",
            );
        }
        if self.routes {
            for other in (1..=count).filter(|&other| other != node.number()) {
                out += &route(names::pod_cidr(other), other);
            }
        }
        out
    }

    /// The node's side of a pod's wire. `namespace`: the pod's.
    pub fn pod_at_node(self, pod: &PodPlan, namespace: &str) -> String {
        let mut out = String::new();
        let (mtu, veth, mac) = (self.mtu, &pod.veth, ShowMac(pod.mac));
        let index = pod
            .veth_ifindex
            .map_or_else(String::new, |index| format!("index {index}"));
        let veth_mac = ShowMac(if self.routed_pods {
            names::ROUTED_GATEWAY_MAC
        } else {
            names::pod_veth_mac(pod.node, pod.number)
        });
        lines!(
            out,
            "link add name {veth} {index} address {veth_mac} mtu {mtu} type veth peer name {UPLINK} address {mac} mtu {mtu} netns {namespace}",
        );
        if self.routed_pods {
            let address = names::pod_address(pod.node, pod.number);
            lines!(
                out,
                "link set {veth} up",
                "route add {address}/32 dev {veth} scope link",
            );
        } else {
            // Hairpin, as Flannel has it: a pod reaches itself through its own service.
            lines!(
                out,
                "link set {veth} master {POD_BRIDGE} up",
                "link set {veth} type bridge_slave hairpin on",
            );
        }
        out
    }

    /// The pod's own side.
    pub fn pod(self, pod: &PodPlan) -> String {
        let mut out = String::new();
        let address = names::pod_address(pod.node, pod.number);
        lines!(out, "link set lo up", "link set {UPLINK} up");
        if self.routed_pods {
            let (gateway, mac) = (names::ROUTED_GATEWAY, ShowMac(names::ROUTED_GATEWAY_MAC));
            lines!(
                out,
                "addr add {address}/32 dev {UPLINK}",
                "neigh add {gateway} lladdr {mac} dev {UPLINK} nud permanent",
                "route add {gateway} dev {UPLINK} scope link",
                "route add default via {gateway}",
            );
        } else {
            let (gateway, prefix) = (names::gateway(pod.node), names::POD_PREFIX);
            lines!(
                out,
                "addr add {address}/{prefix} dev {UPLINK}",
                "route add default via {gateway}",
            );
        }
        out
    }

    /// The outside host: on the wire, and without a route to any pod.
    pub fn outside() -> String {
        let mut out = String::new();
        lines!(
            out,
            "link set lo up",
            "addr add {OUTSIDE_ADDRESS}/{WIRE_PREFIX} dev {UPLINK}",
            "link set {UPLINK} up",
        );
        out
    }
}

/// The host-gw route to a podCIDR by way of node `via`.
fn route(pod_cidr: Ipv4Net, via: usize) -> String {
    let address = names::node_address(via);
    format!("route add {pod_cidr} via {address} dev {UPLINK}\n")
}
