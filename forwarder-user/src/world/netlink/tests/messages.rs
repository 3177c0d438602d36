//! Messages, as the kernel sends them.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::AddressFamily::{self, Inet};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoKind, InfoPortKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol, RouteType};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::tc::{TcAttribute, TcMessage};

use crate::world::netlink::PROTOCOL;

pub(super) const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(super) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

pub(super) fn link(ifindex: u32, attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = ifindex;
    message.header.flags = LinkFlags::Up | LinkFlags::LowerUp;
    message.attributes = attributes;
    message
}

pub(super) fn veth(ifindex: u32, peer: u32, netns_id: Option<i32>) -> LinkMessage {
    let mut attributes = vec![
        LinkAttribute::IfName(format!("veth{ifindex}")),
        LinkAttribute::Address(vec![2, 0, 0, 0, 1, ifindex as u8]),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth)]),
        LinkAttribute::Link(peer),
    ];
    attributes.extend(netns_id.map(LinkAttribute::LinkNetNsId));
    link(ifindex, attributes)
}

pub(super) fn vlan(ifindex: u32, parent: u32) -> LinkMessage {
    let info = vec![LinkInfo::Kind(InfoKind::Vlan)];
    let attributes = vec![LinkAttribute::Link(parent), LinkAttribute::LinkInfo(info)];
    link(ifindex, attributes)
}

pub(super) fn port(of: InfoPortKind) -> LinkMessage {
    let info = vec![LinkInfo::Kind(InfoKind::Dummy), LinkInfo::PortKind(of)];
    let attributes = vec![LinkAttribute::Controller(9), LinkAttribute::LinkInfo(info)];
    link(3, attributes)
}

pub(super) fn address(
    ifindex: u32,
    prefix_len: u8,
    attributes: Vec<AddressAttribute>,
) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = ifindex;
    message.header.prefix_len = prefix_len;
    message.attributes = attributes;
    message
}

pub(super) fn neighbour(
    state: NeighbourState,
    attributes: Vec<NeighbourAttribute>,
) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = Inet;
    message.header.ifindex = 3;
    message.header.state = state;
    message.attributes = vec![
        NeighbourAttribute::Destination(ip("10.0.0.7").into()),
        NeighbourAttribute::LinkLayerAddress(MAC.to_vec()),
    ];
    message.attributes.extend(attributes);
    message
}

pub(super) fn route(family: AddressFamily, attributes: Vec<RouteAttribute>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.table = 254;
    message.header.kind = RouteType::Unicast;
    message.header.protocol = PROTOCOL.into();
    message.header.destination_prefix_length = 24;
    message.attributes = vec![RouteAttribute::Oif(3)];
    message.attributes.extend(attributes);
    message
}

pub(super) fn qdisc(kind: &str) -> TcMessage {
    let mut message = TcMessage::with_index(3);
    message.attributes.push(TcAttribute::Kind(kind.to_owned()));
    message
}

pub(super) fn rule(priority: u32, table: u32, attributes: Vec<RuleAttribute>) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = Inet;
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Table(table),
        RuleAttribute::SuppressPrefixLen(u32::MAX),
        RuleAttribute::Protocol(RouteProtocol::Kernel),
        RuleAttribute::Priority(priority),
    ];
    message.attributes.extend(attributes);
    message
}
