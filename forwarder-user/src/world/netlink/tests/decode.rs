//! What a message says.

use netlink_packet_core::DefaultNla;
use netlink_packet_core::{NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::AddressFamily::{Bridge, Inet, Inet6};
use netlink_packet_route::RouteNetlinkMessage::{
    self, DelLink, NewLink, NewNeighbour, NewQueueDiscipline, NewRoute, NewRule, NewTrafficFilter,
};
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{
    BondPortState, InfoBondPort, InfoKind, InfoPortData, InfoPortKind, LinkAttribute, LinkFlags,
    LinkInfo,
};
use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteNextHop, RouteProtocol, RouteType, RouteVia,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags};
use netlink_packet_route::tc::{TcAttribute, TcBpfFlags, TcFilterBpfOption, TcOption};

use super::messages::{
    MAC, address, ip, link, neighbour, net, port, qdisc, route, rule, veth, vlan,
};
use crate::world::kernel::{LinkKind, RouteKind, VethPeer};
use crate::world::netlink::events::{Event, decode_datagram, event};
use crate::world::netlink::{PROTOCOL, decode, rules};

fn bytes(message: RouteNetlinkMessage) -> Vec<u8> {
    let payload = NetlinkPayload::InnerMessage(message);
    let mut message = NetlinkMessage::new(NetlinkHeader::default(), payload);
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

fn events_of(datagram: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    decode_datagram(datagram, &mut events);
    events
}

#[test]
fn a_veth_knows_its_peer_and_where_it_lives() {
    for netns_id in [None, Some(0), Some(4)] {
        let link = decode::link(&veth(3, 2, netns_id)).unwrap();
        let peer = VethPeer {
            ifindex: 2,
            netns_id,
            mac: None,
        };
        assert_eq!(link.kind, LinkKind::Veth(peer));
        assert_eq!((link.ifindex, link.name.as_str()), (3, "veth3"));
        assert_eq!(link.mac, [2, 0, 0, 0, 1, 3]);
    }
}

#[test]
fn a_vlan_knows_whose_it_is() {
    let link = decode::link(&vlan(5, 2)).unwrap();
    assert_eq!(link.kind, LinkKind::Vlan(2));
}

#[test]
fn only_a_bridge_counts_as_master() {
    let port_of = |kind| decode::link(&port(kind)).unwrap().master;
    assert_eq!(port_of(InfoPortKind::Bridge), Some(9));
    assert_eq!(port_of(InfoPortKind::Bond), None);
    assert_eq!(port_of(InfoPortKind::Vrf), None);
}

#[test]
fn a_member_belongs_to_what_takes_its_frames() {
    let upper_of = |kind| decode::link(&port(kind)).unwrap().upper;
    for kind in [
        InfoPortKind::Bond,
        InfoPortKind::Bridge,
        InfoPortKind::Team,
        InfoPortKind::Other("openvswitch".to_owned()),
    ] {
        assert_eq!(upper_of(kind.clone()), Some(9), "{kind}");
    }
    assert_eq!(upper_of(InfoPortKind::Vrf), None);
}

#[test]
fn a_member_of_a_bond_may_stand_by() {
    let stands_by = |state| {
        let port = InfoPortData::BondPort(vec![InfoBondPort::BondPortState(state)]);
        let info = vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::PortKind(InfoPortKind::Bond),
            LinkInfo::PortData(port),
        ];
        let attributes = vec![LinkAttribute::Controller(9), LinkAttribute::LinkInfo(info)];
        decode::link(&link(4, attributes)).unwrap().stands_by
    };
    assert!(stands_by(BondPortState::Backup));
    assert!(!stands_by(BondPortState::Active));
}

#[test]
fn a_link_without_carrier_is_not_up() {
    let mut message = veth(3, 2, None);
    assert!(decode::link(&message).unwrap().up);
    message.header.flags = LinkFlags::Up;
    assert!(!decode::link(&message).unwrap().up);
    message.header.flags = LinkFlags::LowerUp;
    assert!(!decode::link(&message).unwrap().up);
}

#[test]
fn a_port_that_leaves_its_bridge_is_not_gone() {
    let mut message = port(InfoPortKind::Bridge);
    message.header.interface_family = Bridge;
    assert_eq!(event(&DelLink(message.clone())), None);
    assert_eq!(event(&NewLink(message)), None);
}

#[test]
fn a_point_to_point_address_is_ours_alone() {
    let own = address(
        3,
        24,
        vec![
            AddressAttribute::Address(ip("10.0.0.1")),
            AddressAttribute::Local(ip("10.0.0.1")),
        ],
    );
    assert_eq!(decode::address(&own), Some((3, net("10.0.0.1/24"))));
    let point_to_point = address(
        3,
        24,
        vec![
            AddressAttribute::Address(ip("10.0.9.9")),
            AddressAttribute::Local(ip("10.0.0.1")),
        ],
    );
    assert_eq!(
        decode::address(&point_to_point),
        Some((3, net("10.0.0.1/32")))
    );
    let v6 = address(3, 64, vec![AddressAttribute::Address(ip("fd00::1"))]);
    assert_eq!(decode::address(&v6), Some((3, net("fd00::1/64"))));
}

#[test]
fn a_neighbour_shows_its_mac_only_while_it_can_be_used() {
    use NeighbourState::{
        Delay, Failed, Incomplete, None as Unknown, Permanent, Probe, Reachable, Stale,
    };
    for (state, usable) in [
        (Reachable, true),
        (Stale, true),
        (Delay, true),
        (Probe, true),
        (Permanent, true),
        (Incomplete, false),
        (Failed, false),
        (Unknown, false),
    ] {
        let (ifindex, address, entry) = decode::neighbour(&neighbour(state, vec![])).unwrap();
        assert_eq!((ifindex, address), (3, ip("10.0.0.7")));
        assert_eq!(entry.mac, usable.then_some(MAC), "{state}");
        assert_eq!(entry.permanent, state == Permanent, "{state}");
    }
}

#[test]
fn a_neighbour_says_who_keeps_it() {
    let attributes = vec![
        NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed),
        NeighbourAttribute::Protocol(RouteProtocol::Other(PROTOCOL)),
    ];
    let message = neighbour(NeighbourState::Reachable, attributes);
    let (_, _, entry) = decode::neighbour(&message).unwrap();
    assert!(entry.managed);
    assert_eq!(entry.protocol, PROTOCOL);
}

#[test]
fn entries_that_are_no_neighbours_are_passed_over() {
    let mut proxy = neighbour(NeighbourState::Permanent, vec![]);
    proxy.header.flags = NeighbourFlags::Proxy;
    let mut forwarding = neighbour(NeighbourState::Permanent, vec![]);
    forwarding.header.family = Bridge;
    forwarding.attributes.remove(0);
    let mut loopback = neighbour(NeighbourState::Noarp, vec![]);
    loopback.attributes[1] = NeighbourAttribute::LinkLayerAddress(vec![0; 6]);
    let mut group = neighbour(NeighbourState::Noarp, vec![]);
    group.attributes[0] = NeighbourAttribute::Destination(ip("224.0.0.22").into());
    for message in [proxy, forwarding, loopback, group] {
        assert_eq!(decode::neighbour(&message), None, "{message:?}");
    }
}

#[test]
fn a_route_is_a_next_hop_or_something_else() {
    use RouteAttribute as With;
    let gateway = ip("10.0.0.2");
    let via = |gateway| RouteKind::Gateway {
        gateway,
        ifindex: 3,
    };
    let kind = |attributes| decode::route_kind(&route(Inet, attributes));
    assert_eq!(kind(vec![With::Gateway(gateway.into())]), via(gateway));
    let nexthop_object = vec![With::NhId(1), With::Gateway(gateway.into())];
    assert_eq!(kind(nexthop_object), via(gateway));
    let over_v6 = RouteVia::Inet6("fd00::2".parse().unwrap());
    assert_eq!(kind(vec![With::Via(over_v6)]), via(ip("fd00::2")));
    assert_eq!(kind(vec![]), RouteKind::OnLink { ifindex: 3 });
    let multipath = With::MultiPath(vec![RouteNextHop::default()]);
    assert_eq!(kind(vec![multipath]), RouteKind::Other);
    assert_eq!(kind(vec![With::Encap(vec![])]), RouteKind::Other);

    let mut blackhole = route(Inet, vec![]);
    blackhole.header.kind = RouteType::BlackHole;
    let mut for_one_tos = route(Inet, vec![]);
    for_one_tos.header.tos = 8;
    let mut dead = route(Inet, vec![]);
    dead.header.flags = RouteFlags::Dead;
    for message in [blackhole, for_one_tos, dead] {
        assert_eq!(decode::route_kind(&message), RouteKind::Other);
    }
}

#[test]
fn a_route_without_a_destination_is_the_default_route() {
    for (family, everything) in [(Inet, "0.0.0.0/0"), (Inet6, "::/0")] {
        let mut message = route(family, vec![RouteAttribute::Priority(7)]);
        message.header.destination_prefix_length = 0;
        let route = decode::route(&message).unwrap();
        assert_eq!(route.destination, net(everything));
        assert_eq!((route.priority, route.protocol), (7, PROTOCOL));
    }
}

#[test]
fn only_routes_of_the_main_table_count() {
    let destination = RouteAttribute::Destination(ip("10.8.0.0").into());
    assert_eq!(
        event(&NewRoute(route(Inet, vec![destination.clone()]))),
        Some(Event::Routes)
    );
    // The header has no room for the number, and the attribute has.
    let elsewhere = route(Inet, vec![destination, RouteAttribute::Table(1000)]);
    assert_eq!(decode::route(&elsewhere), None);
    assert_eq!(event(&NewRoute(elsewhere)), None);
    let mut cached = route(Inet6, vec![]);
    cached.header.flags = RouteFlags::Cloned;
    assert_eq!(event(&NewRoute(cached)), None);
}

#[test]
fn rules_read_as_people_write_them() {
    for (priority, table) in [(0, 255), (32766, 254), (32767, 253)] {
        assert_eq!(rules::rule(&rule(priority, table, vec![])), None);
    }
    let moved = rules::rule(&rule(100, 255, vec![])).unwrap();
    assert!(!moved.is_ipv6 && !moved.splits_flows);
    assert_eq!(moved.text, "IPv4 100: from all lookup local");

    let mut message = rule(
        50,
        1000,
        vec![
            RuleAttribute::Source(ip("10.3.0.0")),
            RuleAttribute::FwMark(0x200),
            RuleAttribute::FwMask(0xf00),
            RuleAttribute::Iifname("eth1".to_owned()),
        ],
    );
    message.header.src_len = 16;
    message.header.flags = RuleFlags::Invert;
    assert_eq!(
        rules::rule(&message).unwrap().text,
        "IPv4 50: not from 10.3.0.0/16 fwmark 0x200 fwmask 0xf00 iif eth1 lookup 1000"
    );

    let mut message = rule(60, 0, vec![RuleAttribute::Destination(ip("fd00::"))]);
    message.header.family = Inet6;
    message.header.dst_len = 8;
    message.header.action = RuleAction::Blackhole;
    let rule = rules::rule(&message).unwrap();
    assert_eq!(rule.text, "IPv6 60: from all to fd00::/8 blackhole");
    assert!(rule.is_ipv6 && !rule.splits_flows);
}

#[test]
fn a_rule_that_selects_by_packet_splits_flows() {
    let mut by_tos = rule(70, 100, vec![]);
    by_tos.header.tos = 0x10;
    let dscp = RuleAttribute::Other(DefaultNla::new(25, vec![4]));
    let by_dscp = rule(70, 100, vec![dscp]);
    for message in [by_tos, by_dscp] {
        assert!(rules::rule(&message).unwrap().splits_flows, "{message:?}");
    }
    let by_port = RuleAttribute::IpProtocol(6.into());
    assert!(
        !rules::rule(&rule(70, 100, vec![by_port]))
            .unwrap()
            .splits_flows
    );
}

#[test]
fn a_qdisc_counts_where_it_may_hold_packets_back() {
    assert_eq!(decode::qdisc(&qdisc("tbf")), Some((3, "tbf")));
    for kind in [
        "tbf", "htb", "netem", "hfsc", "fq", "cake", "prio", "ingress",
    ] {
        assert!(decode::holds_back(kind), "{kind}");
    }
    for kind in ["clsact", "noqueue", "pfifo_fast", "mq", "fq_codel"] {
        assert!(!decode::holds_back(kind), "{kind}");
    }
}

#[test]
fn a_filter_counts_unless_it_is_a_program_that_decides_by_itself() {
    let filter = |kind, flags: Option<TcBpfFlags>| {
        let mut message = qdisc(kind);
        let options = flags.map(|flags| vec![TcOption::Bpf(TcFilterBpfOption::Flags(flags))]);
        message.attributes.extend(options.map(TcAttribute::Options));
        decode::limiting_filter(&message).map(str::to_owned)
    };
    assert_eq!(filter("u32", None).as_deref(), Some("u32"));
    assert_eq!(filter("bpf", Some(TcBpfFlags::DirectAction)), None);
    let with_actions = filter("bpf", Some(TcBpfFlags::empty()));
    assert_eq!(with_actions.as_deref(), Some("bpf"));
    assert_eq!(filter("bpf", None), None, "an empty place");
}

#[test]
fn a_datagram_holds_several_messages() {
    let mut datagram = bytes(NewLink(veth(3, 2, Some(0))));
    datagram.resize(datagram.len().next_multiple_of(4), 0);
    for _ in 0..2 {
        datagram.extend(bytes(NewRoute(route(Inet, vec![]))));
    }
    datagram.extend(bytes(NewTrafficFilter(qdisc("bpf"))));
    datagram.extend(bytes(NewRule(rule(50, 100, vec![]))));
    datagram.extend(bytes(NewQueueDiscipline(qdisc("tbf"))));

    let events = events_of(&datagram);

    assert!(matches!(events[0], Event::Link(_)));
    assert_eq!(
        events[1..],
        [Event::Routes, Event::Qdiscs, Event::Rules, Event::Qdiscs]
    );
}

#[test]
fn what_cannot_be_read_leads_to_a_full_read() {
    let whole = bytes(NewNeighbour(neighbour(NeighbourState::Stale, vec![])));
    let cut_short = &whole[..whole.len() - 4];
    assert_eq!(events_of(cut_short), [Event::Overrun]);

    let mut garbled = whole.clone();
    // The first attribute claims to be longer than its message.
    garbled[28] = 0xff;
    assert_eq!(events_of(&garbled), [Event::Overrun]);
    // But nothing is lost with a kind of message that says nothing to us.
    garbled[4..6].copy_from_slice(&libc::RTM_NEWACTION.to_ne_bytes());
    assert_eq!(events_of(&garbled), []);
}
