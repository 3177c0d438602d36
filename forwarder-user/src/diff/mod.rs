//! What must be changed to get from what there is to what is planned: a pure function. Once the
//! changes have been made there is nothing left to change.

mod actual;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use underpass_common::endpoint::Endpoint;
use underpass_common::peer::{Peer, PeerState};
use underpass_common::pod::{Pod, PodIngress, PodState};
use underpass_common::route::Route;
use underpass_common::verdict::Hook;

use crate::plan::{Plan, PodPlan, peer_key};
use crate::world::netlink::NextHop;

pub use actual::Actual;

/// A program on an interface, by its index.
pub type Attachment = (Hook, u32);

/// Changes, in the order in which they must be made:
///
/// 1. [`xdp_pods_removed`](Self::xdp_pods_removed), [`xdp_uplinks_removed`](Self::xdp_uplinks_removed): what XDP
///    hands to who no longer takes it is lost.
///    [`pods_removed`](Self::pods_removed), [`pods_set`](Self::pods_set): from then on `to_pod` learns no
///    endpoint on a veth that is gone, and may learn those on a new one before it is attached.
/// 2. [`routes`](Self::routes), one after the other as they stand; then
///    [`endpoints_removed`](Self::endpoints_removed) and [`own_pod_cidrs`](Self::own_pod_cidrs). They come
///    early because what is wrong in them loses packets.
/// 3. A new generation, where [`needs_new_generation`](Self::needs_new_generation): *after* the trie
///    and the endpoints, or flows would look up the old answers again and keep them.
/// 4. [`detach`](Self::detach), entrances first, then [`attach`](Self::attach), exits first: an
///    entrance without an exit stamps packets that nobody looks at. Then
///    [`xdp_pods_added`](Self::xdp_pods_added) and [`xdp_uplinks_added`](Self::xdp_uplinks_added).
/// 5. [`neighbours_kept`](Self::neighbours_kept), [`kernel_routes`](Self::kernel_routes): each is of use
///    to the kernel's own road, and brings an event by which the trie follows.
/// 6. [`kernel_routes_deleted`](Self::kernel_routes_deleted),
///    [`neighbours_released`](Self::neighbours_released): when nothing in the trie leans on them any more.
/// 7. [`peers_set`](Self::peers_set), [`peers_removed`](Self::peers_removed): for people.
///
/// Any of them may fail without harm to what came before; what is left over is found by the next
/// [`diff`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Entries to remove from the map `xdp_pods`, by interface index.
    pub xdp_pods_removed: BTreeSet<u32>,
    /// Entries to add to the map `xdp_pods`.
    pub xdp_pods_added: BTreeSet<u32>,
    /// Entries to remove from the map `xdp_uplinks`, by interface index.
    pub xdp_uplinks_removed: BTreeSet<u32>,
    /// Entries to add to the map `xdp_uplinks`.
    pub xdp_uplinks_added: BTreeSet<u32>,
    /// Entries to remove from the map `pods`, by interface index.
    pub pods_removed: BTreeSet<u32>,
    /// Entries to add or replace in the map `pods`.
    pub pods_set: BTreeMap<u32, Pod>,
    /// Changes of the trie, in order: no address is ever caught by a route that an exception should
    /// have kept it from.
    pub routes: Vec<RouteChange>,
    /// Endpoints to forget: their veth is gone, another pod's or left to the kernel, or their address
    /// is not ours.
    pub endpoints_removed: BTreeSet<IpAddr>,
    /// This node's own podCIDRs, where they changed.
    pub own_pod_cidrs: Option<Vec<IpNet>>,
    /// Programs to take off interfaces, in order. The interface may be gone.
    pub detach: Vec<Attachment>,
    /// Programs to put onto interfaces, in order; where one is attached already it is an earlier
    /// agent's, to be swapped in place.
    pub attach: Vec<Attachment>,
    /// Neighbours that the kernel is to keep resolved.
    pub neighbours_kept: BTreeSet<(u32, IpAddr)>,
    /// Kernel routes to add or to lead elsewhere.
    pub kernel_routes: Vec<KernelRouteChange>,
    /// Kernel routes to delete.
    pub kernel_routes_deleted: Vec<(IpNet, NextHop)>,
    /// Neighbours that the kernel need not keep resolved any longer.
    pub neighbours_released: BTreeSet<(u32, IpAddr)>,
    /// Entries to add or replace in the map `peers`, by node name.
    pub peers_set: BTreeMap<String, Peer>,
    /// Entries to remove from the map `peers`, by node name.
    pub peers_removed: BTreeSet<String>,
}

/// A change of the trie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteChange {
    /// Add or replace.
    Set(IpNet, Route),
    /// Remove.
    Remove(IpNet),
}

/// A change of a kernel route of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelRouteChange {
    /// Add it.
    Add(IpNet, NextHop),
    /// Lead it elsewhere.
    Replace {
        /// Where to.
        destination: IpNet,
        /// The next hop that it has.
        old: NextHop,
        /// The next hop that it should have.
        new: NextHop,
    },
}

impl Changes {
    /// True where nothing is to be done.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// True where flows must look up their way out again.
    pub fn needs_new_generation(&self) -> bool {
        !self.routes.is_empty()
            || !self.endpoints_removed.is_empty()
            || self.own_pod_cidrs.is_some()
    }
}

/// True where the kernel no longer routes a podCIDR to the peer that has it: it may drop what comes from
/// there, too, so flows must be confirmed anew.
pub fn loses_a_way(changes: &Changes, plan: &Plan) -> bool {
    let is_claimed = |prefix: &IpNet| {
        let mut peers = plan.peers.values();
        peers.any(|peer| {
            peer.state == PeerState::KernelRoutesElsewhere && peer.pod_cidrs.contains(prefix)
        })
    };
    let mut routes = changes.routes.iter();
    routes.any(|change| matches!(change, RouteChange::Remove(prefix) if is_claimed(prefix)))
}

/// Compares.
pub fn diff(actual: &Actual, plan: &Plan) -> Changes {
    let pods: BTreeMap<u32, Pod> = plan
        .pods
        .iter()
        .map(|(i, pod)| (*i, pod.record()))
        .collect();
    // A name that is no key has no entry: the plan has refused its node.
    let peers = plan
        .peers
        .iter()
        .filter(|(name, _)| peer_key(name).is_some());
    let peers = peers
        .map(|(name, peer)| (name.clone(), peer.record()))
        .collect();
    let (pods_set, pods_removed) = entries(&actual.pods, &pods);
    let (peers_set, peers_removed) = entries(&actual.peers, &peers);
    let (attach, detach) = hooks(actual, plan);
    let by_xdp = plan
        .pods
        .values()
        .filter(|pod| pod.ingress == PodIngress::Xdp);
    let xdp_pods: BTreeSet<u32> = by_xdp.map(|pod| pod.ifindex).collect();
    let (kernel_routes, kernel_routes_deleted) = kernel_routes(actual, plan);
    Changes {
        xdp_pods_removed: &actual.xdp_pods - &xdp_pods,
        xdp_pods_added: &xdp_pods - &actual.xdp_pods,
        xdp_uplinks_removed: &actual.xdp_uplinks - &plan.xdp_uplinks,
        xdp_uplinks_added: &plan.xdp_uplinks - &actual.xdp_uplinks,
        pods_removed,
        pods_set,
        routes: routes(&actual.routes, &plan.routes),
        endpoints_removed: stale_endpoints(actual, plan),
        own_pod_cidrs: (actual.own_pod_cidrs != plan.own_pod_cidrs)
            .then(|| plan.own_pod_cidrs.clone()),
        detach,
        attach,
        neighbours_kept: &plan.neighbours - &actual.neighbours,
        kernel_routes,
        kernel_routes_deleted,
        neighbours_released: &actual.neighbours - &plan.neighbours,
        peers_set,
        peers_removed,
    }
}

/// What to set and what to remove so that a map holds `wanted`.
fn entries<K: Ord + Clone, V: Copy + PartialEq>(
    actual: &BTreeMap<K, V>,
    wanted: &BTreeMap<K, V>,
) -> (BTreeMap<K, V>, BTreeSet<K>) {
    let is_new = |(key, value): &(&K, &V)| actual.get(*key) != Some(*value);
    let set = wanted.iter().filter(is_new);
    let removed = actual.keys().filter(|key| !wanted.contains_key(*key));
    (
        set.map(|(key, value)| (key.clone(), *value)).collect(),
        removed.cloned().collect(),
    )
}

/// Exceptions are made before the routes around them, and outlive those.
fn routes(actual: &BTreeMap<IpNet, Route>, wanted: &BTreeMap<IpNet, Route>) -> Vec<RouteChange> {
    let (set, removed) = entries(actual, wanted);
    let (exceptions, ways): (Vec<_>, Vec<_>) =
        set.into_iter().partition(|(_, route)| route.is_kernels());
    let (old_exceptions, old_ways): (Vec<IpNet>, Vec<IpNet>) = removed
        .into_iter()
        .partition(|prefix| actual[prefix].is_kernels());
    let set = |(prefix, route)| RouteChange::Set(prefix, route);
    let mut changes: Vec<RouteChange> = exceptions.into_iter().map(set).collect();
    changes.extend(old_ways.into_iter().map(RouteChange::Remove));
    changes.extend(old_exceptions.into_iter().map(RouteChange::Remove));
    changes.extend(ways.into_iter().map(set));
    changes
}

fn stale_endpoints(actual: &Actual, plan: &Plan) -> BTreeSet<IpAddr> {
    let is_good = |address: &IpAddr, endpoint: &Endpoint| {
        let pod = plan.pods.get(&endpoint.ifindex);
        // The index of a veth that is gone may be another one's now: its MAC tells.
        let same_pod = pod.is_some_and(|pod| takes_part(pod) && pod.mac == endpoint.pod_mac);
        same_pod && plan.own_pod_cidrs.iter().any(|own| own.contains(address))
    };
    let stale = actual.endpoints.iter().filter(|(a, e)| !is_good(a, e));
    stale.map(|(address, _)| *address).collect()
}

fn takes_part(pod: &PodPlan) -> bool {
    pod.state == PodState::Attached
}

/// What to attach, exits first, and what to detach, entrances first.
fn hooks(actual: &Actual, plan: &Plan) -> (Vec<Attachment>, Vec<Attachment>) {
    let uplinks = plan.uplinks.iter().map(|uplink| uplink.ifindex);
    let pods = plan
        .pods
        .values()
        .filter(|pod| takes_part(pod))
        .map(|pod| pod.ifindex);
    let xdp = plan.xdp.iter();
    let wanted: BTreeSet<Attachment> = uplinks
        .flat_map(|ifindex| [(Hook::ToWire, ifindex), (Hook::FromWire, ifindex)])
        .chain(pods.flat_map(|ifindex| [(Hook::ToPod, ifindex), (Hook::FromPod, ifindex)]))
        .chain(xdp.map(|ifindex| (Hook::FromWireXdp, *ifindex)))
        .collect();
    let current = &actual.attached - &actual.outdated;
    let mut attach: Vec<_> = wanted.difference(&current).copied().collect();
    let mut detach: Vec<_> = actual.attached.difference(&wanted).copied().collect();
    // XDP comes when TC stands behind it, and goes first.
    attach.sort_by_key(|(hook, _)| (hook.is_entrance(), hook.is_xdp()));
    detach.sort_by_key(|(hook, _)| (!hook.is_entrance(), !hook.is_xdp()));
    (attach, detach)
}

/// What to add or lead elsewhere, and what to delete.
fn kernel_routes(actual: &Actual, plan: &Plan) -> (Vec<KernelRouteChange>, Vec<(IpNet, NextHop)>) {
    let none = Vec::new();
    let mut set = Vec::new();
    let mut deleted = Vec::new();
    for (&destination, &new) in &plan.kernel_routes {
        let there = actual.kernel_routes.get(&destination).unwrap_or(&none);
        if there.contains(&new) {
            // A replacement that was broken off leaves the old one beside the new one.
            let surplus = there.iter().filter(|next_hop| **next_hop != new);
            deleted.extend(surplus.map(|next_hop| (destination, *next_hop)));
        } else if let Some((&old, surplus)) = there.split_first() {
            set.push(KernelRouteChange::Replace {
                destination,
                old,
                new,
            });
            deleted.extend(surplus.iter().map(|next_hop| (destination, *next_hop)));
        } else {
            set.push(KernelRouteChange::Add(destination, new));
        }
    }
    for (&destination, next_hops) in &actual.kernel_routes {
        if !plan.kernel_routes.contains_key(&destination) {
            deleted.extend(next_hops.iter().map(|next_hop| (destination, *next_hop)));
        }
    }
    (set, deleted)
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
