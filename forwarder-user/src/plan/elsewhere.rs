//! Where the kernel routes pods' addresses elsewhere than to their pods and nodes.
//!
//! A route decides not only where packets *to* an address go, but also whether packets *from* it are
//! taken (`fib_validate_source()` of the kernel's net/ipv4/fib_frontend.c, RFC 3704), and whether a
//! local pod is reached at all. Of such a change the trie tells nothing to flows that come in by the
//! wire, so whoever sees it has all flows confirmed anew.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;

use ipnet::IpNet;
use underpass_common::peer::PeerState;

use super::table::{Table, leaves_by};
use super::{PeerPlan, PodPlan, Uplink};
use crate::world::kernel::{Kernel, PolicyRule, RouteKind};
use crate::world::netlink::NextHop;

/// What a plan knows of pods and nodes.
pub(super) struct Places<'a> {
    pub kernel: &'a Kernel,
    pub table: &'a Table<'a>,
    pub own_pod_cidrs: &'a [IpNet],
    pub pods: &'a BTreeMap<u32, PodPlan>,
    pub peers: &'a BTreeMap<String, PeerPlan>,
    pub uplinks: &'a [Uplink],
}

impl Places<'_> {
    /// The routes to pods' addresses that lead elsewhere, by destination. Not those around a peer's
    /// whole podCIDR: where there is none to it yet, no flow is confirmed by it either.
    pub fn elsewhere(&self) -> BTreeMap<IpNet, RouteKind> {
        let mut elsewhere = self.of_own_pods();
        for peer in self.peers.values() {
            if peer.state != PeerState::Refused {
                self.of_peer(peer, &mut elsewhere);
            }
        }
        elsewhere
    }

    fn of_own_pods(&self) -> BTreeMap<IpNet, RouteKind> {
        let link = |ifindex: &u32| self.kernel.links.get(ifindex);
        let bridges = self.pods.keys().filter_map(|pod| link(pod)?.master);
        let to_pods: BTreeSet<u32> = self.pods.keys().copied().chain(bridges).collect();
        let own = self.own_pod_cidrs.iter();
        own.flat_map(|own| self.table.at_or_inside(*own))
            .filter(|(_, route)| leaves_by(route).is_none_or(|by| !to_pods.contains(&by)))
            .map(|(destination, route)| (destination, route.kind))
            .collect()
    }

    fn of_peer(&self, peer: &PeerPlan, elsewhere: &mut BTreeMap<IpNet, RouteKind>) {
        for &cidr in &peer.pod_cidrs {
            let is_ipv4 = cidr.addr().is_ipv4();
            let next_hop = peer.addresses.iter().find(|ip| ip.is_ipv4() == is_ipv4);
            let right = next_hop.and_then(|&gateway| {
                let ifindex = self.uplink_to(gateway)?;
                Some(RouteKind::from(NextHop { gateway, ifindex }))
            });
            let routes = self.table.at_or_inside(cidr);
            let kinds = routes.map(|(destination, route)| (destination, route.kind));
            elsewhere.extend(kinds.filter(|(_, kind)| Some(*kind) != right));
        }
    }

    /// Where a node is: by the uplink that the kernel reaches it by, else by the first.
    fn uplink_to(&self, node: IpAddr) -> Option<u32> {
        let by = self.table.to(node).and_then(leaves_by);
        let uplinks = || self.uplinks.iter().map(|uplink| uplink.ifindex);
        uplinks()
            .find(|ifindex| Some(*ifindex) == by)
            .or_else(|| uplinks().next())
    }
}

/// Policy rules and routes that lead elsewhere, in one number that is never 0.
pub(super) fn digest(rules: &[PolicyRule], elsewhere: &BTreeMap<IpNet, RouteKind>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for rule in rules {
        rule.text.hash(&mut hasher);
    }
    elsewhere.hash(&mut hasher);
    hasher.finish().max(1)
}
