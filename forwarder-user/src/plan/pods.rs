//! Which interfaces are pods' veths, and which of them take part.

use std::collections::BTreeSet;

use ipnet::IpNet;
use underpass_common::addr::{Mac, NO_MAC};
use underpass_common::pod::{PodIngress, PodState};

use super::table::{Table, leaves_by};
use super::{Problem, Subject, Uplink};
use crate::config::Ingress;
use crate::world::kernel::{Kernel, Link, LinkKind, VethPeer};

/// A pod's veth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPlan {
    /// Interface index of the host's end.
    pub ifindex: u32,
    /// Name of the host's end.
    pub name: String,
    /// MAC of the pod's end; all zeros where it could not be read.
    pub mac: Mac,
    /// Whether it takes part.
    pub state: PodState,
    /// Whether XDP hands packets over to it.
    pub ingress: PodIngress,
}

impl PodPlan {
    /// What somebody should mend.
    pub(super) fn problem(&self) -> Option<Problem> {
        let why = match self.state {
            PodState::PeerUnknown => "the MAC of the pod's end cannot be read",
            PodState::OtherMtu => "its bridge has a smaller MTU",
            _ => return None,
        };
        let text = format!(
            "pod veth {}: {why}; its traffic stays with the kernel",
            self.name
        );
        Some(Problem::new(Subject::Pod(self.name.clone()), text))
    }
}

/// Finds the pods' veths, by interface index.
pub(super) fn find(
    kernel: &Kernel,
    table: &Table<'_>,
    own_pod_cidrs: &[IpNet],
    uplinks: &[Uplink],
    ingress: Ingress,
) -> Vec<PodPlan> {
    let bridges = pod_bridges(kernel, own_pod_cidrs);
    let routed = routed_to_pods(table, own_pod_cidrs);
    let mut pods = Vec::new();
    for link in kernel.links.values() {
        let LinkKind::Veth(peer) = link.kind else {
            continue;
        };
        let is_uplink = uplinks.iter().any(|uplink| uplink.ifindex == link.ifindex);
        let leads_to_pods = match link.master {
            Some(bridge) => bridges.contains(&bridge) || routed.contains(&bridge),
            None => routed.contains(&link.ifindex),
        };
        if link.up && peer.netns_id.is_some() && !is_uplink && leads_to_pods {
            let bridge = link.master.and_then(|bridge| kernel.links.get(&bridge));
            let mut pod = pod(link, peer, bridge);
            if ingress == Ingress::Xdp && pod.state == PodState::Attached {
                pod.ingress = match kernel.xdp_targets.contains(&link.ifindex) {
                    true => PodIngress::Xdp,
                    false => PodIngress::TcNoGro,
                };
            }
            pods.push(pod);
        }
    }
    pods
}

fn pod(link: &Link, peer: VethPeer, bridge: Option<&Link>) -> PodPlan {
    let mac = peer.mac.unwrap_or(NO_MAC);
    // What the bridge does to packets is jumped over as well.
    let state = if link.shapes() || bridge.is_some_and(Link::shapes) {
        PodState::Shaped
    } else if mac == NO_MAC {
        PodState::PeerUnknown
    } else if bridge.is_some_and(|bridge| bridge.mtu < link.mtu) {
        PodState::OtherMtu
    } else {
        PodState::Attached
    };
    PodPlan {
        ifindex: link.ifindex,
        name: link.name.clone(),
        mac,
        state,
        ingress: PodIngress::Tc,
    }
}

/// Bridges that are some pods' gateway.
fn pod_bridges(kernel: &Kernel, own_pod_cidrs: &[IpNet]) -> BTreeSet<u32> {
    let in_own = |address: &IpNet| {
        own_pod_cidrs
            .iter()
            .any(|own| own.contains(&address.addr()))
    };
    kernel
        .links
        .values()
        .filter(|link| link.kind == LinkKind::Bridge)
        .map(|link| link.ifindex)
        .filter(|ifindex| {
            let mut addresses = kernel.addresses.get(ifindex).into_iter().flatten();
            addresses.any(in_own)
        })
        .collect()
}

/// Interfaces that the kernel routes a part of our podCIDRs out of.
fn routed_to_pods(table: &Table<'_>, own_pod_cidrs: &[IpNet]) -> BTreeSet<u32> {
    own_pod_cidrs
        .iter()
        .flat_map(|own| table.at_or_inside(*own))
        .filter_map(|(_, route)| leaves_by(route))
        .collect()
}
