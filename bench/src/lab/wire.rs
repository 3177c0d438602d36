//! The wires, as lines of `ip` commands: one list per host. Pure.

use std::fmt::Write;
use std::net::IpAddr;

use ipnet::IpNet;
use underpass_common::addr::ShowMac;

use super::host::Host;
use super::names::{self, POD_BRIDGE, SWITCH_BRIDGE, UPLINK};
use super::node::Node;
use super::pod::PodPlan;
use super::{Families, Family};

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

    /// A node, but for its pods. `nodes`: all that there are.
    pub fn node(self, node: &Node, nodes: &[Node]) -> String {
        let mut out = String::new();
        let mtu = self.mtu;
        lines!(out, "link set lo up", "link set {UPLINK} up");
        if !self.routed_pods {
            let mac = ShowMac(names::gateway_mac(node.number()));
            lines!(
                out,
                "link add name {POD_BRIDGE} address {mac} type bridge forward_delay 0",
                "link set {POD_BRIDGE} mtu {mtu} up",
            );
        }
        for family in node.families().each() {
            out += &address(node.address_of(family), names::wire_prefix(family), UPLINK);
            // As every node has one. To a ClusterIP, too, a packet must have a route before it is
            // translated.
            out += &default_route(names::outside_address(family), UPLINK);
            if !self.routed_pods {
                let gateway = names::gateway(family, node.number());
                out += &address(gateway, node.pod_cidr_of(family).prefix_len(), POD_BRIDGE);
            }
            let others = nodes.iter().filter(|other| {
                self.routes && other.number() != node.number() && other.families().has(family)
            });
            for other in others {
                out += &route(other.pod_cidr_of(family), other.address_of(family));
            }
        }
        out
    }

    /// The node's side of a pod's wire. `namespace`: the pod's.
    pub fn pod_at_node(self, pod: &PodPlan, families: Families, namespace: &str) -> String {
        let mut out = String::new();
        let (mtu, veth, mac) = (pod.mtu.unwrap_or(self.mtu), &pod.veth, ShowMac(pod.mac));
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
            lines!(out, "link set {veth} up");
            for family in families.each() {
                let address = names::pod_address(family, pod.node, pod.number);
                let bits = family.bits();
                lines!(out, "route add {address}/{bits} dev {veth}");
            }
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
    pub fn pod(self, pod: &PodPlan, families: Families) -> String {
        let mut out = String::new();
        lines!(out, "link set lo up", "link set {UPLINK} up");
        for family in families.each() {
            let own = names::pod_address(family, pod.node, pod.number);
            if self.routed_pods {
                let gateway = names::routed_gateway(family);
                out += &address(own, family.bits(), UPLINK);
                if family == Family::V4 {
                    let mac = ShowMac(names::ROUTED_GATEWAY_MAC);
                    lines!(
                        out,
                        "neigh add {gateway} lladdr {mac} dev {UPLINK} nud permanent",
                        "route add {gateway} dev {UPLINK}",
                    );
                }
                out += &default_route(gateway, UPLINK);
            } else {
                let prefix = names::pod_cidr(family, pod.node).prefix_len();
                out += &address(own, prefix, UPLINK);
                out += &default_route(names::gateway(family, pod.node), UPLINK);
            }
        }
        out
    }

    /// The outside host: on the wire, and without a route to any pod.
    pub fn outside(families: Families) -> String {
        let mut out = String::new();
        lines!(out, "link set lo up", "link set {UPLINK} up");
        for family in families.each() {
            let own = names::outside_address(family);
            out += &address(own, names::wire_prefix(family), UPLINK);
        }
        out
    }
}

/// An address of an interface; an IPv6 one is usable at once.
fn address(address: IpAddr, prefix: u8, interface: &str) -> String {
    let nodad = if address.is_ipv6() { " nodad" } else { "" };
    format!("addr add {address}/{prefix} dev {interface}{nodad}\n")
}

fn default_route(gateway: IpAddr, interface: &str) -> String {
    let any = Family::of(gateway).unspecified();
    format!("route add {any}/0 via {gateway} dev {interface}\n")
}

/// The host-gw route to a podCIDR by way of a node's address.
fn route(pod_cidr: IpNet, via: IpAddr) -> String {
    format!("route add {pod_cidr} via {via} dev {UPLINK}\n")
}
