//! From rtnetlink messages to the mirror's types. Pure: nothing here asks the kernel.
//!
//! What the mirror has no use for becomes `None`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, BondPortState, InfoBondPort, InfoKind, InfoPortData, InfoPortKind,
    LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage,
    NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteType,
    RouteVia,
};
use netlink_packet_route::tc::{TcAttribute, TcBpfFlags, TcFilterBpfOption, TcMessage, TcOption};
use underpass_common::addr::{Mac, NO_MAC};

use super::PROTOCOL;
use crate::world::kernel::{KernelRoute, Link, LinkKind, Neighbour, RouteKind, VethPeer};

/// A link, without what other messages tell: its queueing disciplines and its peer's MAC.
///
/// `None` for a bridge's word about its port (family `AF_BRIDGE`): there `RTM_DELLINK` means that
/// the link left the bridge, not that it is gone.
pub(super) fn link(message: &LinkMessage) -> Option<Link> {
    if message.header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let mut link = Link {
        ifindex: message.header.index,
        name: String::new(),
        kind: LinkKind::Other,
        mac: NO_MAC,
        mtu: 0,
        mtu_v6: None,
        up: message
            .header
            .flags
            .contains(LinkFlags::Up | LinkFlags::LowerUp),
        master: None,
        upper: None,
        stands_by: false,
        qdiscs: Vec::new(),
        ingress_filters: Vec::new(),
        egress_filters: Vec::new(),
    };
    let mut peer = VethPeer::default();
    let mut controller = None;
    let mut infos: &[LinkInfo] = &[];
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(mac) => link.mac = to_mac(mac).unwrap_or(NO_MAC),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::AfSpecUnspec(families) => link.mtu_v6 = mtu_v6(families),
            LinkAttribute::Controller(ifindex) => controller = Some(*ifindex),
            LinkAttribute::Link(ifindex) => peer.ifindex = *ifindex,
            LinkAttribute::LinkNetNsId(id) => peer.netns_id = Some(*id),
            LinkAttribute::LinkInfo(list) => infos = list,
            _ => {}
        }
    }
    link.upper = controller;
    for info in infos {
        match info {
            LinkInfo::Kind(InfoKind::Veth) => link.kind = LinkKind::Veth(peer),
            LinkInfo::Kind(InfoKind::Bridge) => link.kind = LinkKind::Bridge,
            LinkInfo::Kind(InfoKind::Vlan) => link.kind = LinkKind::Vlan(peer.ifindex),
            LinkInfo::Kind(InfoKind::Bond) => link.kind = LinkKind::Bond,
            LinkInfo::PortKind(InfoPortKind::Bridge) => link.master = controller,
            LinkInfo::PortKind(InfoPortKind::Vrf) => link.upper = None,
            LinkInfo::PortData(InfoPortData::BondPort(port)) => link.stands_by = stands_by(port),
            _ => {}
        }
    }
    Some(link)
}

fn stands_by(port: &[InfoBondPort]) -> bool {
    port.contains(&InfoBondPort::BondPortState(BondPortState::Backup))
}

fn mtu_v6(families: &[AfSpecUnspec]) -> Option<u32> {
    let v6 = families.iter().find_map(|family| match family {
        AfSpecUnspec::Inet6(v6) => Some(v6),
        _ => None,
    })?;
    v6.iter().find_map(|attribute| match attribute {
        AfSpecInet6::DevConf(settings) => u32::try_from(settings.mtu6).ok(),
        _ => None,
    })
}

/// True where an address is not the interface's own, or not yet: duplicate address detection
/// (RFC 4862) is under way, or has found another one that has it. The kernel tells when that is over.
pub(super) fn is_in_doubt(message: &AddressMessage) -> bool {
    let doubts = AddressFlags::Tentative | AddressFlags::Dadfailed;
    let is_set =
        |flags: AddressFlags| flags.intersects(doubts) && !flags.contains(AddressFlags::Optimistic);
    message
        .attributes
        .iter()
        .any(|attribute| matches!(attribute, AddressAttribute::Flags(flags) if is_set(*flags)))
}

/// An interface's own address.
pub(super) fn address(message: &AddressMessage) -> Option<(u32, IpNet)> {
    let mut local = None;
    let mut peer_or_self = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => peer_or_self = Some(*ip),
            _ => {}
        }
    }
    let ip = local.or(peer_or_self)?;
    // On a point-to-point link the prefix belongs to the other end, and our own address is alone.
    let prefix = match peer_or_self {
        Some(other) if other != ip => host_prefix(ip),
        _ => message.header.prefix_len,
    };
    Some((message.header.index, IpNet::new(ip, prefix).ok()?))
}

/// An entry of the neighbour table, by device and address.
///
/// `None` for bridges' forwarding tables, for proxies, and for what the kernel makes up without
/// telling anybody: entries of multicast and broadcast addresses, loopback and tunnels.
pub(super) fn neighbour(message: &NeighbourMessage) -> Option<(u32, IpAddr, Neighbour)> {
    let header = &message.header;
    if header.ifindex == 0 || header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let mut ip = None;
    let mut neighbour = Neighbour {
        mac: None,
        permanent: matches!(
            header.state,
            NeighbourState::Permanent | NeighbourState::Noarp
        ),
        managed: false,
        protocol: 0,
    };
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => ip = Some((*v4).into()),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => ip = Some((*v6).into()),
            NeighbourAttribute::LinkLayerAddress(mac) if resolved(header.state) => {
                neighbour.mac = to_mac(mac);
            }
            NeighbourAttribute::ExtFlags(flags) => {
                neighbour.managed = flags.contains(NeighbourExtFlags::Managed);
            }
            NeighbourAttribute::Protocol(protocol) => neighbour.protocol = (*protocol).into(),
            _ => {}
        }
    }
    let made_up = header.state == NeighbourState::Noarp && !neighbour.mac.is_some_and(is_unicast);
    let ip = ip.filter(|ip: &IpAddr| !ip.is_multicast() && !made_up)?;
    Some((header.ifindex, ip, neighbour))
}

/// True where an entry is worth a place in the mirror: an unresolved one that nobody cares for
/// comes and goes with any stray packet, mostly untold, and says no more than none at all.
pub(super) fn worth_keeping(neighbour: &Neighbour) -> bool {
    neighbour.mac.is_some() || neighbour.managed || neighbour.permanent
}

/// `NUD_VALID` of the kernel's include/net/neighbour.h: the MAC can be used.
pub(super) fn resolved(state: NeighbourState) -> bool {
    matches!(
        state,
        NeighbourState::Permanent
            | NeighbourState::Noarp
            | NeighbourState::Reachable
            | NeighbourState::Probe
            | NeighbourState::Stale
            | NeighbourState::Delay
    )
}

/// True where the message tells of a route of the main table (and not of a cached exception).
pub(super) fn in_main_table(message: &RouteMessage) -> bool {
    let main = u32::from(RouteHeader::RT_TABLE_MAIN);
    // Numbers above 255 don't fit the header's field.
    let table = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Table(table) => Some(*table),
            _ => None,
        })
        .unwrap_or_else(|| message.header.table.into());
    table == main && !message.header.flags.contains(RouteFlags::Cloned)
}

/// The routes of the main table that a message tells of: one.
///
/// But where a replacement of an IPv6 route of ours was broken off, the kernel has made one of the
/// old one and the new one, of two next hops. Each is still to be deleted by itself.
pub(super) fn routes(message: &RouteMessage) -> Vec<KernelRoute> {
    let Some(whole) = route(message) else {
        return Vec::new();
    };
    let next_hops = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::MultiPath(next_hops) => Some(next_hops),
            _ => None,
        });
    match next_hops {
        Some(next_hops) if whole.protocol == PROTOCOL && whole.destination.addr().is_ipv6() => {
            let each = next_hops.iter().map(|next_hop| KernelRoute {
                kind: kind(&next_hop.attributes, Some(next_hop.interface_index)),
                ..whole
            });
            each.collect()
        }
        _ => vec![whole],
    }
}

/// A route of the main table.
pub(super) fn route(message: &RouteMessage) -> Option<KernelRoute> {
    let header = &message.header;
    let everything = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    if !in_main_table(message) {
        return None;
    }
    let mut destination = everything;
    let mut priority = 0;
    let mut mtu = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = to_ip(address)?,
            RouteAttribute::Priority(number) => priority = *number,
            RouteAttribute::Metrics(metrics) => mtu = route_mtu(metrics),
            _ => {}
        }
    }
    Some(KernelRoute {
        destination: IpNet::new(destination, header.destination_prefix_length).ok()?,
        kind: route_kind(message),
        protocol: header.protocol.into(),
        priority,
        mtu,
    })
}

fn route_mtu(metrics: &[RouteMetric]) -> Option<u32> {
    metrics.iter().find_map(|metric| match metric {
        RouteMetric::Mtu(mtu) => Some(*mtu).filter(|mtu| *mtu != 0),
        _ => None,
    })
}

/// What a route does. Whatever holds for some packets only (a TOS, a source prefix), or does more
/// than send to one next hop, is [`RouteKind::Other`].
pub(super) fn route_kind(message: &RouteMessage) -> RouteKind {
    let header = &message.header;
    if header.kind != RouteType::Unicast
        || header.tos != 0
        || header.source_prefix_length != 0
        || header.flags.contains(RouteFlags::Dead)
    {
        return RouteKind::Other;
    }
    kind(&message.attributes, None)
}

fn kind(attributes: &[RouteAttribute], mut ifindex: Option<u32>) -> RouteKind {
    let mut gateway = None;
    for attribute in attributes {
        match attribute {
            RouteAttribute::Gateway(address) => gateway = to_ip(address),
            RouteAttribute::Via(RouteVia::Inet(v4)) => gateway = Some((*v4).into()),
            RouteAttribute::Via(RouteVia::Inet6(v6)) => gateway = Some((*v6).into()),
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::MultiPath(_)
            | RouteAttribute::Encap(_)
            | RouteAttribute::EncapType(_)
            | RouteAttribute::Via(_) => return RouteKind::Other,
            _ => {}
        }
    }
    match (gateway, ifindex) {
        (Some(gateway), Some(ifindex)) => RouteKind::Gateway { gateway, ifindex },
        (None, Some(ifindex)) => RouteKind::OnLink { ifindex },
        (_, None) => RouteKind::Other,
    }
}

/// A queueing discipline's device and kind.
pub(super) fn qdisc(message: &TcMessage) -> Option<(u32, &str)> {
    let ifindex = u32::try_from(message.header.index).ok()?;
    Some((ifindex, tc_kind(message)?))
}

/// True where a queueing discipline may hold packets back, or keep ours out.
///
/// A veth has none by default, whatever `net.core.default_qdisc` says (`IFF_NO_QUEUE` of
/// drivers/net/veth.c): somebody wanted it. Those which send on at once what the device takes lose
/// nothing where they are jumped over: into the pod there is no queue to be fair in. `clsact` does
/// nothing by itself; `ingress` has the place that our programs need where there is no TCX.
pub(super) fn holds_back(kind: &str) -> bool {
    let never = ["noop", "noqueue", "clsact"];
    let at_once = [
        "pfifo",
        "bfifo",
        "pfifo_fast",
        "mq",
        "sfq",
        "codel",
        "fq_codel",
    ];
    !never.contains(&kind) && !at_once.contains(&kind)
}

/// The kind of a filter that may limit or redirect; `None` for a BPF program that decides by itself
/// ("direct action"), as ours do where there is no TCX: what such a one drops is never confirmed.
pub(super) fn limiting_filter(message: &TcMessage) -> Option<&str> {
    let kind = tc_kind(message)?;
    if kind != "bpf" {
        return Some(kind);
    }
    // The kernel tells of the place first, without options, and then of what stands there.
    let mut attributes = message.attributes.iter();
    let options = attributes.find_map(|attribute| match attribute {
        TcAttribute::Options(options) => Some(options),
        _ => None,
    })?;
    let decides = options.iter().any(|option| {
        matches!(option, TcOption::Bpf(TcFilterBpfOption::Flags(flags))
            if flags.contains(TcBpfFlags::DirectAction))
    });
    (!decides).then_some(kind)
}

pub(super) fn tc_kind(message: &TcMessage) -> Option<&str> {
    let mut attributes = message.attributes.iter();
    attributes.find_map(|attribute| match attribute {
        TcAttribute::Kind(kind) => Some(kind.as_str()),
        _ => None,
    })
}

/// The family of an address, as netlink numbers it.
pub(super) fn family(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// Prefix length of a single address.
pub(super) fn host_prefix(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn is_unicast(mac: Mac) -> bool {
    mac != NO_MAC && mac[0] & 1 == 0
}

fn to_mac(bytes: &[u8]) -> Option<Mac> {
    bytes.try_into().ok()
}

fn to_ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}
