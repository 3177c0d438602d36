//! The wires, as lines of `ip` commands: one list per host. Pure.

use std::fmt::Write;
use std::net::IpAddr;

use ipnet::IpNet;
use underpass_common::addr::ShowMac;

use super::host::Host;
use super::names::{self, POD_BRIDGE, UPLINK};
use super::node::Node;
use super::pod::PodPlan;
use super::{Families, Family, Segment};

/// What the wires of a lab have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wiring {
    /// MTU of all wires, in bytes of the IP packet.
    pub mtu: u32,
    /// Another MTU of the second segment's wires.
    pub second_mtu: Option<u32>,
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
    /// The switch: a bridge for each segment, and one wire to each uplink of a node and to the outside host.
    pub fn switch(self, nodes: &[Node], outside: Option<&Host>) -> String {
        let mut out = String::from("link set lo up\n");
        for segment in Segment::BOTH {
            let uplinks = nodes
                .iter()
                .flat_map(|node| node.uplinks().map(move |uplink| (node, uplink)))
                .filter(|(_, uplink)| uplink.segment() == segment);
            let uplinks: Vec<_> = uplinks.collect();
            if segment == Segment::Second && uplinks.is_empty() {
                continue;
            }
            let (bridge, mtu) = (segment.bridge(), self.mtu_of(segment));
            lines!(
                out,
                "link add name {bridge} type bridge forward_delay 0 mcast_snooping 0",
                "link set {bridge} mtu {mtu} up",
            );
            for (node, uplink) in uplinks {
                let interface = format!("{} address {}", uplink.interface(), ShowMac(uplink.mac()));
                out += &port(&uplink.switch_port(), bridge, mtu, &interface, node);
            }
        }
        if let Some(host) = outside {
            let first = Segment::First;
            out += &port(host.name(), first.bridge(), self.mtu, UPLINK, host);
        }
        out
    }

    /// The MTU of a segment's wires.
    fn mtu_of(self, segment: Segment) -> u32 {
        match (segment, self.second_mtu) {
            (Segment::Second, Some(mtu)) => mtu,
            _ => self.mtu,
        }
    }

    /// A node, but for its pods. `nodes`: all that there are.
    pub fn node(self, node: &Node, nodes: &[Node]) -> String {
        let mut out = String::new();
        let mtu = self.mtu;
        lines!(out, "link set lo up");
        for uplink in node.uplinks() {
            let interface = uplink.interface();
            lines!(out, "link set {interface} up");
        }
        if !self.routed_pods {
            let mac = ShowMac(names::gateway_mac(node.number()));
            lines!(
                out,
                "link add name {POD_BRIDGE} address {mac} type bridge forward_delay 0",
                "link set {POD_BRIDGE} mtu {mtu} up",
            );
        }
        for family in node.families().each() {
            for uplink in node.uplinks() {
                let own = node.address_on(uplink.segment(), family);
                out += &address(own, names::wire_prefix(family), uplink.interface());
            }
            out += &ways_out(node, nodes, family);
            if !self.routed_pods {
                let gateway = names::gateway(family, node.number());
                out += &address(gateway, node.pod_cidr_of(family).prefix_len(), POD_BRIDGE);
            }
            if self.routes {
                out += &routes_to_pods(node, nodes, family);
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

    /// The outside host: on the first segment's wire, and without a route to any pod. `nodes`: all that there are.
    pub fn outside(families: Families, nodes: &[Node]) -> String {
        let mut out = String::new();
        lines!(out, "link set lo up", "link set {UPLINK} up");
        for family in families.each() {
            let own = names::outside_address(family);
            out += &address(own, names::wire_prefix(family), UPLINK);
            if let Some(router) = router(nodes, family) {
                let second = names::segment_network(family, Segment::Second);
                out += &route(second, router.address_on(Segment::First, family), UPLINK);
            }
        }
        out
    }
}

/// A port of a bridge in the switch, and `interface`, the other end of its wire, in a host.
fn port(name: &str, bridge: &str, mtu: u32, interface: &str, host: &Host) -> String {
    let (mut out, namespace) = (String::new(), host.namespace());
    lines!(
        out,
        "link add name {name} mtu {mtu} type veth peer name {interface} mtu {mtu} netns {namespace}",
        "link set {name} master {bridge} up",
    );
    out
}

/// The node on both segments, where there is one that speaks this family.
fn router(nodes: &[Node], family: Family) -> Option<&Node> {
    let mut routers = nodes
        .iter()
        .filter(|node| Segment::BOTH.into_iter().all(|segment| node.is_on(segment)));
    routers.find(|node| node.families().has(family))
}

/// A node's routes to everything, and to the segment that it isn't on.
fn ways_out(node: &Node, nodes: &[Node], family: Family) -> String {
    let router = router(nodes, family);
    if node.is_on(Segment::First) {
        // As every node has one. To a ClusterIP, too, a packet must have a route before it is
        // translated.
        let mut out = default_route(names::outside_address(family), UPLINK);
        if let Some(router) = router.filter(|_| !node.is_on(Segment::Second)) {
            let second = names::segment_network(family, Segment::Second);
            out += &route(second, router.address_on(Segment::First, family), UPLINK);
        }
        out
    } else {
        router.map_or_else(String::new, |router| {
            default_route(router.address_on(Segment::Second, family), UPLINK)
        })
    }
}

/// A node's host-gw routes to the podCIDRs of the others: those on a segment of its own by their own address, the
/// others by the router's.
fn routes_to_pods(node: &Node, nodes: &[Node], family: Family) -> String {
    let others = nodes
        .iter()
        .filter(|other| other.number() != node.number() && other.families().has(family));
    let mut out = String::new();
    for other in others {
        let shared = node
            .uplinks()
            .find(|uplink| other.is_on(uplink.segment()))
            .map(|uplink| (other, uplink));
        let by_router = || Some((router(nodes, family)?, node.uplinks().next()?));
        if let Some((next_hop, uplink)) = shared.or_else(by_router) {
            let via = next_hop.address_on(uplink.segment(), family);
            out += &route(other.pod_cidr_of(family), via, uplink.interface());
        }
    }
    out
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

/// The route to a network by way of a node's address.
fn route(network: IpNet, via: IpAddr, interface: &str) -> String {
    format!("route add {network} via {via} dev {interface}\n")
}
