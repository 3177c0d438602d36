//! What there is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use underpass_common::endpoint::Endpoint;
use underpass_common::peer::Peer;
use underpass_common::pod::Pod;
use underpass_common::route::Route;

use super::{Attachment, Changes, KernelRouteChange, RouteChange};
use crate::world::kernel::{Kernel, RouteKind};
use crate::world::netlink::{NextHop, PROTOCOL};

/// What the maps hold, what is attached, and what of the kernel's tables is ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actual {
    /// This node's own podCIDRs, from the map `settings`.
    pub own_pod_cidrs: Vec<IpNet>,
    /// The trie.
    pub routes: BTreeMap<IpNet, Route>,
    /// Pods as `to_pod` learned them.
    pub endpoints: BTreeMap<IpAddr, Endpoint>,
    /// The map `pods`.
    pub pods: BTreeMap<u32, Pod>,
    /// The map `xdp_pods`.
    pub xdp_pods: BTreeSet<u32>,
    /// The map `xdp_uplinks`.
    pub xdp_uplinks: BTreeSet<u32>,
    /// The map `peers`, by node name.
    pub peers: BTreeMap<String, Peer>,
    /// Programs that are attached and alive, by interface index.
    pub attached: BTreeSet<Attachment>,
    /// Those of `attached` whose program is an earlier agent's.
    pub outdated: BTreeSet<Attachment>,
    /// Neighbours that the kernel keeps resolved on our request.
    pub neighbours: BTreeSet<(u32, IpAddr)>,
    /// Kernel routes of ours. More than one to a destination: a replacement was broken off.
    pub kernel_routes: BTreeMap<IpNet, Vec<NextHop>>,
}

impl Actual {
    /// Takes over which neighbours and routes of the kernel's are ours.
    pub fn take_kernel(&mut self, kernel: &Kernel) {
        let neighbours = kernel.neighbours.iter();
        let ours = neighbours.filter(|(_, n)| n.managed && n.protocol == PROTOCOL);
        self.neighbours = ours.map(|(key, _)| *key).collect();
        self.kernel_routes.clear();
        for route in kernel
            .routes
            .iter()
            .filter(|route| route.protocol == PROTOCOL)
        {
            if let RouteKind::Gateway { gateway, ifindex } = route.kind {
                let next_hops = self.kernel_routes.entry(route.destination).or_default();
                next_hops.push(NextHop { gateway, ifindex });
            }
        }
    }

    /// What there is once `changes` have been made.
    pub fn apply(&mut self, changes: &Changes) {
        self.pods
            .retain(|ifindex, _| !changes.pods_removed.contains(ifindex));
        self.pods.extend(&changes.pods_set);
        let gone = &changes.xdp_pods_removed;
        self.xdp_pods.retain(|ifindex| !gone.contains(ifindex));
        self.xdp_pods.extend(&changes.xdp_pods_added);
        let gone = &changes.xdp_uplinks_removed;
        self.xdp_uplinks.retain(|ifindex| !gone.contains(ifindex));
        self.xdp_uplinks.extend(&changes.xdp_uplinks_added);
        for change in &changes.routes {
            match *change {
                RouteChange::Set(prefix, route) => self.routes.insert(prefix, route),
                RouteChange::Remove(prefix) => self.routes.remove(&prefix),
            };
        }
        let forgotten = &changes.endpoints_removed;
        self.endpoints
            .retain(|address, _| !forgotten.contains(address));
        if let Some(own_pod_cidrs) = &changes.own_pod_cidrs {
            self.own_pod_cidrs.clone_from(own_pod_cidrs);
        }
        self.attached
            .retain(|attached| !changes.detach.contains(attached));
        self.attached.extend(&changes.attach);
        self.outdated
            .retain(|old| !changes.attach.contains(old) && !changes.detach.contains(old));
        self.neighbours.extend(&changes.neighbours_kept);
        for change in &changes.kernel_routes {
            self.change_kernel_route(change);
        }
        for (destination, next_hop) in &changes.kernel_routes_deleted {
            self.delete_kernel_route(*destination, *next_hop);
        }
        let released = &changes.neighbours_released;
        self.neighbours
            .retain(|neighbour| !released.contains(neighbour));
        let peers = changes.peers_set.iter();
        self.peers
            .extend(peers.map(|(name, peer)| (name.clone(), *peer)));
        self.peers
            .retain(|name, _| !changes.peers_removed.contains(name));
    }

    fn change_kernel_route(&mut self, change: &KernelRouteChange) {
        let (destination, new) = match *change {
            KernelRouteChange::Add(destination, new) => (destination, new),
            KernelRouteChange::Replace {
                destination,
                old,
                new,
            } => {
                self.delete_kernel_route(destination, old);
                (destination, new)
            }
        };
        self.kernel_routes.entry(destination).or_default().push(new);
    }

    fn delete_kernel_route(&mut self, destination: IpNet, gone: NextHop) {
        if let Some(next_hops) = self.kernel_routes.get_mut(&destination) {
            next_hops.retain(|next_hop| *next_hop != gone);
            if next_hops.is_empty() {
                self.kernel_routes.remove(&destination);
            }
        }
    }
}
