//! Worlds made of bytes: the small cluster of the fixtures, and what the input makes of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use underpass_common::addr::Mac;
use underpass_common::endpoint::Endpoint;
use underpass_common::route::Route;
use underpass_common::settings::Offload;
use underpass_common::verdict::Hook;

use crate::config::{Config, Ingress, RoutesMode, UplinkChoice};
use crate::diff::Actual;
use crate::fuzzing::Bytes;
use crate::plan::fixtures::{self, CNI0, ETH0, OWN_MAC, ip, net, peer_mac};
use crate::plan::{peer_name, pod_cidrs_of};
use crate::world::netlink::{NextHop, PROTOCOL};
use crate::world::{
    Kernel, KernelRoute, Link, LinkKind, Neighbour, Node, RouteKind, VethPeer, World,
};

const NAMES: [&str; 8] = [
    "",
    "node-1",
    "node-2",
    "node-2",
    "node-3",
    "node-4",
    "a\nb",
    "\u{9b}31m",
];

const CIDRS: [&str; 16] = [
    "",
    "10.244.1.0/24",
    "10.244.2.0/24",
    "10.244.2.128/25",
    "10.244.3.0/24",
    "10.244.0.0/16",
    "10.0.0.0/24",
    "0.0.0.0/0",
    "fd00:10:244:1::/64",
    "fd00:10:244:2::/64",
    "fd00:10:244::/48",
    "fd00::/64",
    "::/0",
    "::ffff:10.244.2.0/120",
    "10.244.3.1/24",
    "10.244.2.0/33",
];

const ADDRESSES: [&str; 16] = [
    "10.0.0.2",
    "10.0.0.1",
    "10.0.0.3",
    "10.0.0.4",
    "10.0.0.255",
    "10.244.1.7",
    "10.244.2.7",
    "10.1.0.2",
    "fd00::1",
    "fd00::2",
    "fd00::3",
    "fd00:10:244:2::7",
    "fe80::2",
    "::ffff:10.0.0.2",
    "127.0.0.1",
    "0.0.0.0",
];

pub(super) fn config(bytes: &mut Bytes<'_>) -> Config {
    let uplink = match bytes.up_to(5) {
        0 | 1 => UplinkChoice::Auto,
        2 => UplinkChoice::Name("eth0".to_owned()),
        3 => UplinkChoice::Name("eth9".to_owned()),
        _ => UplinkChoice::Reach {
            target: address(bytes),
            ifindex: bytes.flag().then(|| ifindex(bytes)),
        },
    };
    Config {
        uplink,
        cluster_cidrs: bytes.several(2, |bytes| {
            net(bytes.pick(&["10.244.0.0/16", "fd00:10:244::/48", "10.244.2.0/23"]))
        }),
        offload: bytes.pick(&[Offload::Confirmed, Offload::Always]),
        routes: bytes.pick(&[RoutesMode::Observe, RoutesMode::Manage]),
        ingress: bytes.pick(&[Ingress::Tc, Ingress::Xdp]),
        ..fixtures::config()
    }
}

/// None, one on a segment of its own, or names of what may be there or not.
pub(super) fn extra_uplinks(bytes: &mut Bytes<'_>, config: &mut Config, world: &mut World) {
    if bytes.flag() {
        fixtures::add_segment(world);
    }
    for _ in 0..bytes.up_to(20) {
        let name = match bytes.up_to(3) {
            0 | 1 => "eth1".to_owned(),
            2 => format!("if{}", ifindex(bytes)),
            _ => bytes.text(15),
        };
        config.extra_uplinks.push(name);
    }
    for _ in 0..bytes.up_to(3) {
        world.kernel.xdp_targets.insert(ifindex(bytes));
    }
}

pub(super) fn world(bytes: &mut Bytes<'_>) -> World {
    let mut world = fixtures::world(bytes.up_to(4));
    if bytes.flag() {
        make_dual_stack(&mut world);
    }
    world
        .nodes
        .get_or_insert_default()
        .extend(bytes.several(6, node));
    let kernel = &mut world.kernel;
    for _ in 0..bytes.up_to(4) {
        change_link(bytes, kernel);
    }
    for _ in 0..bytes.up_to(3) {
        let own = IpNet::new(address(bytes), bytes.up_to(32)).expect("it fits both families");
        kernel
            .addresses
            .entry(ifindex(bytes))
            .or_default()
            .push(own);
    }
    for _ in 0..bytes.up_to(8) {
        let key = (ifindex(bytes), address(bytes));
        kernel.neighbours.insert(key, neighbour(bytes));
    }
    kernel.routes.extend(bytes.several(12, route));
    world
}

/// IPv6 beside IPv4, in the same order.
fn make_dual_stack(world: &mut World) {
    let kernel = &mut world.kernel;
    for (ifindex, own) in [(ETH0, "fd00::1/64"), (CNI0, "fd00:10:244:1::1/64")] {
        let addresses = kernel.addresses.entry(ifindex).or_default();
        addresses.push(net(own));
        let prefix = net(own).trunc().to_string();
        kernel.routes.push(fixtures::on_link(&prefix, ifindex));
    }
    for (n, node) in (1u8..).zip(world.nodes.iter_mut().flatten()) {
        let (cidr, address) = (format!("fd00:10:244:{n}::/64"), format!("fd00::{n}"));
        if n > 1 {
            kernel.routes.push(fixtures::via(&cidr, &address, ETH0));
            let known = fixtures::neighbour(peer_mac(n));
            kernel.neighbours.insert((ETH0, ip(&address)), known);
        }
        node.pod_cidrs.push(cidr);
        node.internal_ips.push(address);
    }
}

fn node(bytes: &mut Bytes<'_>) -> Node {
    Node {
        name: match bytes.flag() {
            true => bytes.text(u8::MAX),
            false => bytes.pick(&NAMES).to_owned(),
        },
        pod_cidrs: bytes.several(6, |bytes| match bytes.up_to(3) {
            0 | 1 => bytes.pick(&CIDRS).to_owned(),
            2 => bytes.text(80),
            _ => {
                let (address, length) = (address(bytes), bytes.up_to(130));
                IpNet::new(address, length).map_or_else(
                    |_| format!("{address}/{length}"),
                    |net| net.trunc().to_string(),
                )
            }
        }),
        internal_ips: bytes.several(3, |bytes| match bytes.up_to(3) {
            0 | 1 => bytes.pick(&ADDRESSES).to_owned(),
            2 => bytes.text(80),
            _ => address(bytes).to_string(),
        }),
        public_ip: public_ip(bytes),
        public_ipv6: public_ip(bytes),
    }
}

/// Rarely one, and then often of the wrong family.
fn public_ip(bytes: &mut Bytes<'_>) -> Option<String> {
    match bytes.up_to(7) {
        0 => Some(bytes.text(80)),
        1 | 2 => Some(address(bytes).to_string()),
        _ => None,
    }
}

fn address(bytes: &mut Bytes<'_>) -> IpAddr {
    match bytes.up_to(4) {
        0..=2 => ip(bytes.pick(&ADDRESSES)),
        3 => Ipv4Addr::from(bytes.array::<4>()).into(),
        _ => Ipv6Addr::from(bytes.array::<16>()).into(),
    }
}

fn ifindex(bytes: &mut Bytes<'_>) -> u32 {
    match bytes.up_to(5) {
        0..=2 => ETH0,
        3 => CNI0,
        4 => 10 + u32::from(bytes.up_to(4)),
        _ => u32::from_ne_bytes(bytes.array()),
    }
}

fn mac(bytes: &mut Bytes<'_>) -> Mac {
    match bytes.up_to(5) {
        0 => peer_mac(2),
        1 => peer_mac(3),
        2 => OWN_MAC,
        3 => [0; 6],
        4 => [255; 6],
        _ => bytes.array(),
    }
}

fn change_link(bytes: &mut Bytes<'_>, kernel: &mut Kernel) {
    let ifindex = ifindex(bytes);
    if bytes.flag() {
        kernel.links.remove(&ifindex);
        return;
    }
    let kind = match bytes.up_to(3) {
        0 | 1 => LinkKind::Veth(VethPeer {
            ifindex: bytes.byte().into(),
            netns_id: bytes.flag().then(|| i32::from_ne_bytes(bytes.array())),
            mac: bytes.flag().then(|| mac(bytes)),
        }),
        2 => LinkKind::Bridge,
        _ => LinkKind::Other,
    };
    let link = Link {
        ifindex,
        // Named by this machine's own root, and by the kernel's rules (dev_valid_name()).
        name: match bytes.flag() {
            true => bytes.text(15).replace(char::is_control, "_"),
            false => format!("if{ifindex}"),
        },
        kind,
        mac: mac(bytes),
        mtu: bytes.pick(&[1500, 1400, 0, u32::MAX]),
        mtu_v6: bytes.flag().then(|| bytes.pick(&[1500, 1280, 0])),
        up: bytes.flag(),
        master: bytes.flag().then(|| self::ifindex(bytes)),
        upper: bytes.flag().then(|| self::ifindex(bytes)),
        stands_by: bytes.flag(),
        qdiscs: bytes.several(1, |_| "tbf".to_owned()),
        ingress_filters: bytes.several(1, |_| "matchall".to_owned()),
        egress_filters: bytes.several(1, |_| "u32".to_owned()),
    };
    kernel.links.insert(ifindex, link);
}

fn neighbour(bytes: &mut Bytes<'_>) -> Neighbour {
    Neighbour {
        mac: bytes.flag().then(|| mac(bytes)),
        permanent: bytes.flag(),
        managed: bytes.flag(),
        protocol: bytes.pick(&[0, PROTOCOL, 3]),
    }
}

fn route(bytes: &mut Bytes<'_>) -> KernelRoute {
    KernelRoute {
        destination: prefix(bytes),
        kind: match bytes.up_to(3) {
            0 | 1 => RouteKind::Gateway {
                gateway: address(bytes),
                ifindex: ifindex(bytes),
            },
            2 => RouteKind::OnLink {
                ifindex: ifindex(bytes),
            },
            _ => RouteKind::Other,
        },
        protocol: bytes.pick(&[fixtures::BOOT, PROTOCOL]),
        priority: bytes.up_to(3).into(),
        mtu: bytes.flag().then(|| bytes.pick(&[1500, 1400, 0])),
    }
}

fn prefix(bytes: &mut Bytes<'_>) -> IpNet {
    if let Ok(net) = bytes.pick(&CIDRS).parse::<IpNet>()
        && bytes.flag()
    {
        return net.trunc();
    }
    let address = address(bytes);
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let net = IpNet::new(address, bytes.up_to(longest)).expect("no longer than the longest");
    net.trunc()
}

/// Anything that maps and kernel may hold when an agent starts, read as the agent reads it.
pub(super) fn actual(bytes: &mut Bytes<'_>) -> Actual {
    let mut actual = Actual::default();
    for _ in 0..bytes.up_to(6) {
        actual.routes.insert(prefix(bytes), bytes.plain::<Route>());
    }
    for _ in 0..bytes.up_to(4) {
        let endpoint = Endpoint {
            ifindex: ifindex(bytes),
            pod_mac: mac(bytes),
            gateway_mac: mac(bytes),
        };
        actual.endpoints.insert(address(bytes), endpoint);
    }
    for _ in 0..bytes.up_to(4) {
        actual.pods.insert(ifindex(bytes), bytes.plain());
    }
    for _ in 0..bytes.up_to(3) {
        if let Some(name) = peer_name(&bytes.plain()) {
            actual.peers.insert(name.to_owned(), bytes.plain());
        }
    }
    actual.own_pod_cidrs = pod_cidrs_of(&bytes.plain());
    for _ in 0..bytes.up_to(6) {
        let attached = (bytes.pick(&Hook::ALL), ifindex(bytes));
        actual.attached.insert(attached);
        if bytes.flag() {
            actual.outdated.insert(attached);
        }
    }
    for _ in 0..bytes.up_to(3) {
        actual.xdp_pods.insert(ifindex(bytes));
    }
    for _ in 0..bytes.up_to(3) {
        actual.neighbours.insert((ifindex(bytes), address(bytes)));
    }
    for _ in 0..bytes.up_to(3) {
        let next_hop = NextHop {
            gateway: address(bytes),
            ifindex: ifindex(bytes),
        };
        let there = actual.kernel_routes.entry(prefix(bytes)).or_default();
        // The kernel has no two routes that are equal in everything.
        if !there.contains(&next_hop) {
            there.push(next_hop);
        }
    }
    for _ in 0..bytes.up_to(3) {
        actual.xdp_uplinks.insert(ifindex(bytes));
    }
    actual
}
