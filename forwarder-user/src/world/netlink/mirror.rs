//! What an event does to the mirror. Pure; what only the kernel can answer is noted down.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::decode;
use super::events::Event;
use crate::world::kernel::{Kernel, Link, LinkKind, Neighbour};

/// What a batch of events has done, and what must be asked before the mirror is true again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Noted {
    /// The mirror is not what it was.
    pub changed: bool,
    /// Routes are to be read again.
    pub routes: bool,
    /// Rules are to be read again.
    pub rules: bool,
    /// Queueing disciplines are to be read again.
    pub qdiscs: bool,
    /// Veths whose peer lives in another namespace, and is to be looked up.
    pub peers: BTreeSet<u32>,
    /// Links that have changed without an event of their own.
    pub links: BTreeSet<u32>,
    /// Some link has come, gone or changed.
    pub any_link: bool,
}

impl Noted {
    /// Applies one event to the mirror. [`Event::Overrun`] is not for here.
    pub(super) fn note(&mut self, kernel: &mut Kernel, event: Event) {
        match event {
            Event::Link(link) => self.link(kernel, link),
            Event::LinkGone(ifindex) => self.link_gone(kernel, ifindex),
            Event::Address(ifindex, address) => self.address(kernel, ifindex, address),
            Event::AddressGone(ifindex, address) => self.address_gone(kernel, ifindex, address),
            Event::Neighbour(ifindex, ip, neighbour) => {
                self.neighbour(kernel, ifindex, ip, neighbour);
            }
            Event::NeighbourGone(ifindex, ip) => {
                self.changed |= kernel.neighbours.remove(&(ifindex, ip)).is_some();
            }
            Event::Routes => self.routes = true,
            Event::Rules => self.rules = true,
            Event::Qdiscs => self.qdiscs = true,
            Event::Overrun => {}
        }
    }

    fn link(&mut self, kernel: &mut Kernel, mut link: Link) {
        self.any_link = true;
        // IPv4 routes out of a link that goes down vanish without an event of their own.
        self.routes |= !link.up;
        let old = kernel.links.get(&link.ifindex);
        // The default discipline comes with the first "up", without an event of its own.
        self.qdiscs |= link.up && !old.is_some_and(|old| old.up);
        if let LinkKind::Veth(peer) = &mut link.kind {
            if peer.netns_id.is_some() {
                self.peers.insert(link.ifindex);
            } else if peer.ifindex == 0 {
                // The end that is made first does not know the other yet, and no event follows.
                self.links.insert(link.ifindex);
            }
            if let Some(LinkKind::Veth(known)) = old.map(|old| &old.kind)
                && (known.ifindex, known.netns_id) == (peer.ifindex, peer.netns_id)
            {
                peer.mac = known.mac;
            }
        }
        // IPv6's own MTU and those of its routes follow the device's (rt6_mtu_change() of
        // net/ipv6/route.c), and only after that has been told.
        if old.is_some_and(|old| old.mtu != link.mtu) {
            self.links.insert(link.ifindex);
            self.routes = true;
        }
        if let Some(old) = old {
            link.qdiscs.clone_from(&old.qdiscs);
            link.ingress_filters.clone_from(&old.ingress_filters);
            link.egress_filters.clone_from(&old.egress_filters);
        }
        if old != Some(&link) {
            kernel.links.insert(link.ifindex, link);
            self.changed = true;
        }
    }

    fn link_gone(&mut self, kernel: &mut Kernel, ifindex: u32) {
        let Some(link) = kernel.links.remove(&ifindex) else {
            return;
        };
        self.changed = true;
        self.any_link = true;
        self.routes = true;
        // Gone to another namespace, perhaps: its peer here has no event of its own then.
        if let LinkKind::Veth(peer) = link.kind
            && peer.netns_id.is_none()
            && kernel.links.contains_key(&peer.ifindex)
        {
            self.links.insert(peer.ifindex);
        }
        kernel.addresses.remove(&ifindex);
        let lowest = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let of_the_link: Vec<_> = kernel
            .neighbours
            .range((ifindex, lowest)..)
            .map(|(key, _)| *key)
            .take_while(|key| key.0 == ifindex)
            .collect();
        for key in of_the_link {
            kernel.neighbours.remove(&key);
        }
    }

    fn address(&mut self, kernel: &mut Kernel, ifindex: u32, address: IpNet) {
        let addresses = kernel.addresses.entry(ifindex).or_default();
        if let Err(place) = addresses.binary_search(&address) {
            addresses.insert(place, address);
            self.changed = true;
        }
    }

    fn address_gone(&mut self, kernel: &mut Kernel, ifindex: u32, address: IpNet) {
        // With its last IPv4 address an interface loses its routes, without an event of their own.
        self.routes = true;
        let Some(addresses) = kernel.addresses.get_mut(&ifindex) else {
            return;
        };
        if let Ok(place) = addresses.binary_search(&address) {
            addresses.remove(place);
            self.changed = true;
        }
        if addresses.is_empty() {
            kernel.addresses.remove(&ifindex);
        }
    }

    fn neighbour(&mut self, kernel: &mut Kernel, ifindex: u32, ip: IpAddr, neighbour: Neighbour) {
        let key = (ifindex, ip);
        self.changed |= if decode::worth_keeping(&neighbour) {
            kernel.neighbours.insert(key, neighbour) != Some(neighbour)
        } else {
            kernel.neighbours.remove(&key).is_some()
        };
    }
}

/// Fills in the MACs of veth peers that live in our own namespace, which the mirror knows itself.
/// Tells whether anything has changed.
pub(super) fn fill_in_local_peers(kernel: &mut Kernel) -> bool {
    let macs: Vec<_> = kernel
        .links
        .values()
        .filter_map(|link| match link.kind {
            LinkKind::Veth(peer) if peer.netns_id.is_none() => {
                let mac = kernel.links.get(&peer.ifindex).map(|peer| peer.mac);
                (mac != peer.mac).then_some((link.ifindex, mac))
            }
            _ => None,
        })
        .collect();
    for (ifindex, mac) in &macs {
        if let Some(LinkKind::Veth(peer)) = kernel.links.get_mut(ifindex).map(|link| &mut link.kind)
        {
            peer.mac = *mac;
        }
    }
    !macs.is_empty()
}
