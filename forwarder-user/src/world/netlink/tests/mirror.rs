//! What the mirror makes of messages.

use netlink_packet_route::RouteNetlinkMessage::{
    self, DelAddress, DelLink, DelNeighbour, NewAddress, NewLink, NewNeighbour,
};
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::LinkFlags;
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourExtFlags, NeighbourState};

use super::messages::{MAC, address, ip, neighbour, net, veth};
use crate::world::kernel::{Kernel, LinkKind, Neighbour, VethPeer};
use crate::world::netlink::events::event;
use crate::world::netlink::mirror::{Noted, fill_in_local_peers};

/// Applies messages to a mirror, and returns what is left to ask.
fn tell(kernel: &mut Kernel, messages: impl IntoIterator<Item = RouteNetlinkMessage>) -> Noted {
    let mut noted = Noted::default();
    for event in messages.into_iter().filter_map(|message| event(&message)) {
        noted.note(kernel, event);
    }
    noted
}

#[test]
fn what_says_nothing_new_changes_nothing() {
    let mut kernel = Kernel::default();
    let v4 = AddressAttribute::Local(ip("10.0.0.1"));
    let told = |state| {
        [
            NewLink(veth(3, 2, Some(0))),
            NewAddress(address(3, 24, vec![v4.clone()])),
            NewNeighbour(neighbour(state, vec![])),
        ]
    };
    assert!(tell(&mut kernel, told(NeighbourState::Reachable)).changed);
    let before = kernel.clone();
    // A timer has run out, and that is all.
    assert!(!tell(&mut kernel, told(NeighbourState::Stale)).changed);
    assert_eq!(kernel, before);
}

#[test]
fn a_link_keeps_what_its_events_do_not_tell() {
    let mut kernel = Kernel::default();
    tell(&mut kernel, [NewLink(veth(3, 2, Some(0)))]);
    let link = kernel.links.get_mut(&3).unwrap();
    link.qdiscs = vec!["tbf".to_owned()];
    if let LinkKind::Veth(peer) = &mut link.kind {
        peer.mac = Some(MAC);
    }
    let noted = tell(&mut kernel, [NewLink(veth(3, 2, Some(0)))]);
    assert!(!noted.changed && !noted.qdiscs);
    assert!(noted.peers.contains(&3), "the MAC is read again");

    // In another namespace it is another device.
    tell(&mut kernel, [NewLink(veth(3, 2, Some(1)))]);
    let peer = VethPeer {
        ifindex: 2,
        netns_id: Some(1),
        mac: None,
    };
    assert_eq!(kernel.links[&3].kind, LinkKind::Veth(peer));
}

#[test]
fn a_link_that_comes_and_goes_asks_for_what_changes_silently() {
    let mut kernel = Kernel::default();
    let mut down = veth(3, 2, Some(0));
    down.header.flags = LinkFlags::empty();

    assert!(tell(&mut kernel, [NewLink(veth(3, 2, Some(0)))]).qdiscs);
    let noted = tell(&mut kernel, [NewLink(down.clone())]);
    assert!(noted.routes && !noted.qdiscs);
    // It had lost its carrier, and now its routes.
    assert!(tell(&mut kernel, [NewLink(down.clone())]).routes);
    assert!(tell(&mut kernel, [NewLink(veth(3, 2, Some(0)))]).qdiscs);
    assert!(tell(&mut kernel, [DelLink(down)]).routes);
}

#[test]
fn a_vanished_link_takes_its_addresses_and_neighbours_with_it() {
    let mut kernel = Kernel::default();
    let v4 = |ifindex| {
        let local = AddressAttribute::Local(ip("10.0.0.1"));
        NewAddress(address(ifindex, 24, vec![local]))
    };
    let entry = |ifindex| {
        let mut message = neighbour(NeighbourState::Reachable, vec![]);
        message.header.ifindex = ifindex;
        NewNeighbour(message)
    };
    for ifindex in [2, 3, 4] {
        let told = [
            NewLink(veth(ifindex, 9, Some(0))),
            v4(ifindex),
            entry(ifindex),
        ];
        tell(&mut kernel, told);
    }
    assert!(tell(&mut kernel, [DelLink(veth(3, 9, Some(0)))]).changed);
    assert!(kernel.links.keys().eq(&[2, 4]));
    assert!(kernel.addresses.keys().eq(&[2, 4]));
    assert!(kernel.neighbours.keys().map(|key| key.0).eq([2, 4]));
}

#[test]
fn a_peer_in_our_own_namespace_is_followed_without_asking() {
    let mut kernel = Kernel::default();
    let noted = tell(
        &mut kernel,
        [NewLink(veth(3, 2, None)), NewLink(veth(2, 3, None))],
    );
    assert!(noted.any_link && noted.peers.is_empty());
    assert!(fill_in_local_peers(&mut kernel));
    let LinkKind::Veth(peer) = kernel.links[&3].kind else {
        panic!("no veth");
    };
    assert_eq!(peer.mac, Some(kernel.links[&2].mac));
    assert!(
        !fill_in_local_peers(&mut kernel),
        "nothing new the second time"
    );

    // It leaves for another namespace, and only it says so.
    let noted = tell(&mut kernel, [DelLink(veth(2, 3, None))]);
    assert!(noted.links.contains(&3));
}

#[test]
fn an_end_that_does_not_know_its_peer_yet_is_read_again() {
    let noted = tell(&mut Kernel::default(), [NewLink(veth(3, 0, None))]);
    assert!(noted.links.contains(&3));
}

#[test]
fn addresses_and_neighbours_come_and_go() {
    let mut kernel = Kernel::default();
    let local = AddressAttribute::Local(ip("10.0.0.1"));
    let own = address(3, 24, vec![local]);
    let entry = neighbour(NeighbourState::Stale, vec![]);
    tell(
        &mut kernel,
        [NewAddress(own.clone()), NewNeighbour(entry.clone())],
    );
    assert_eq!(kernel.addresses[&3], [net("10.0.0.1/24")]);
    let known = Neighbour {
        mac: Some(MAC),
        permanent: false,
        managed: false,
        protocol: 0,
    };
    assert_eq!(kernel.neighbours[&(3, ip("10.0.0.7"))], known);

    let noted = tell(&mut kernel, [DelAddress(own), DelNeighbour(entry)]);
    assert!(noted.changed && noted.routes);
    assert_eq!(kernel, Kernel::default());
}

#[test]
fn a_failed_neighbour_stays_only_where_somebody_keeps_it() {
    let mut kernel = Kernel::default();
    let managed = NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed);
    let failed = |attributes| NewNeighbour(neighbour(NeighbourState::Failed, attributes));
    tell(
        &mut kernel,
        [NewNeighbour(neighbour(NeighbourState::Stale, vec![]))],
    );
    assert!(tell(&mut kernel, [failed(vec![])]).changed);
    assert!(kernel.neighbours.is_empty());
    tell(&mut kernel, [failed(vec![managed])]);
    assert_eq!(kernel.neighbours[&(3, ip("10.0.0.7"))].mac, None);
}
