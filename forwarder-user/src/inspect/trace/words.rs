//! What states mean for a packet, in words.

use std::net::IpAddr;

use underpass_common::addr::{NO_MAC, ShowMac};
use underpass_common::flow::{Direction, FlowKey, PROTOCOL_ICMP, PROTOCOL_ICMPV6, confirmed};
use underpass_common::peer::PeerState;
use underpass_common::pod::{Pod, PodState};

use super::super::flows;
use super::super::peers::{PeerFamilyReport, PeerReport};
use super::Snapshot;

pub(super) const ATTACH: &str = "its programs have to be attached: `underpass pods` tells the states of pods' veths, `underpass status` \
                                 whether an agent runs, which attaches them";
pub(super) const START: &str =
    "an agent has to run here: it writes the settings when it has read nodes and kernel once";
pub(super) const OWN_PODS: &str = "never: only what pods of this node send or get is, and with --extra-iface what goes \
                                   from one uplink to another; `underpass status` names podCIDRs and uplinks";
pub(super) const FOLLOW: &str =
    "the agent has to follow: `underpass status` tells whether one runs";

/// Of a direction that the kernel would be seen to forward.
pub(super) fn one_packet(exit: &str) -> String {
    format!(
        "one packet of it that the kernel forwards as it is: {exit} confirms it, and the next one is fast. Where that \
         does not come to pass, netfilter translates it (a Service, masquerade) or drops it: `unwitnessed` at {exit} in \
         `underpass status -o json` counts the former"
    )
}

/// Where the kernel sends it elsewhere.
pub(super) fn next_hops(exit: &str) -> String {
    format!(
        "the kernel's next hop and ours must be the same, {exit} says `other_next_hop` else. A running agent follows the \
         kernel's routes and neighbours: `underpass status` tells whether one runs, `underpass peers` what it makes of them"
    )
}

/// Why the trie has no way to an address.
pub(super) fn no_route(snapshot: &Snapshot, to: IpAddr) -> String {
    let carved = snapshot.route(to).filter(|(_, route)| route.is_kernels());
    let carved = carved.map(|(prefix, _)| format!("{prefix} is left to the kernel"));
    let claimed = snapshot
        .claimer(to)
        .map(|(peer, family)| claim(peer, family));
    match (carved, claimed) {
        (Some(carved), Some(claimed)) => format!("{carved}: {claimed}"),
        (Some(carved), None) => carved,
        (None, Some(claimed)) => claimed,
        (None, None) if snapshot.is_own(to) => {
            "it is in this node's own podCIDRs: what pods of one node send to another stays within it".into()
        }
        (None, None) if snapshot.node_at(to).is_some() => format!(
            "it is the address of {} itself: only what is for pods goes fast",
            snapshot.node_at(to).unwrap_or_default()
        ),
        (None, None) => "no node's podCIDR holds it: it is a Service's address, which kube-proxy's rules translate, \
                         or outside the cluster; both are the kernel's"
            .into(),
    }
}

fn claim(peer: &PeerReport, family: &PeerFamilyReport) -> String {
    let (name, cidr) = (&peer.name, family.pod_cidr.as_deref().unwrap_or("?"));
    let address = family
        .address
        .map_or_else(|| "its address".to_owned(), |address| address.to_string());
    let state = PeerState::ALL
        .into_iter()
        .find(|state| state.name() == family.state);
    let why = match state {
        Some(PeerState::Ready) => {
            "is ready, and the kernel routes this part of its podCIDR elsewhere".to_owned()
        }
        Some(PeerState::WaitingForNeighbour) => {
            format!("waits for its neighbour: {address} has no MAC yet, or does not answer")
        }
        Some(PeerState::KernelRoutesElsewhere) => {
            format!("is not routed to: the kernel has no route to it by {address}, or another one")
        }
        Some(PeerState::OtherMtu) => {
            "has a way with another MTU than the uplink's, which only the kernel honours".to_owned()
        }
        Some(PeerState::NotOnLink) => format!("is not on our segment: {address} is not on-link"),
        Some(PeerState::Refused) => format!("is refused: {}", family.refusal.unwrap_or("unknown")),
        None => format!("is in a state unknown here: {}", family.state),
    };
    format!("{name} ({cidr}) {why}")
}

/// Why a pod's veth takes no part; `None`: it does.
pub(super) fn pod_state(pod: Option<&Pod>) -> Option<&'static str> {
    let Some(pod) = pod else {
        return Some("the agent knows of no such veth");
    };
    match PodState::from_number(pod.state) {
        Some(PodState::Attached) => None,
        Some(PodState::Shaped) => {
            Some("shaped: its queueing discipline or filter must not be jumped over")
        }
        Some(PodState::PeerUnknown) => Some("the pod's end of the veth cannot be read"),
        Some(PodState::AttachFailed) => Some("attaching failed, the agent's log says why"),
        Some(PodState::OtherMtu) => {
            Some("the bridge before it has a smaller MTU, which only the kernel honours")
        }
        None => Some("in a state unknown here"),
    }
}

/// `tcp 10.244.1.11:40000 - 10.244.2.11:80`, from the pod to the far end.
pub(super) fn flow(key: &FlowKey<IpAddr>) -> String {
    let [protocol, pod, remote] = flows::named(key);
    match key.protocol {
        PROTOCOL_ICMP | PROTOCOL_ICMPV6 => format!("{protocol} {pod} {remote}"),
        _ => format!("{protocol} {pod} - {remote}"),
    }
}

/// How a confirmed direction came to be so.
pub(super) fn confirmation(snapshot: &Snapshot, direction: &Direction) -> String {
    let how = match direction.confirmed {
        confirmed::MID_STREAM => "confirmed in mid-stream (FIN and RST go by the kernel)",
        _ => "confirmed",
    };
    let entrance = match direction.entrance.ifindex {
        0 => "the wire".to_owned(),
        uplink if direction.entrance.mac == NO_MAC => snapshot.device_name(uplink),
        veth => {
            let device = snapshot.device_name(veth);
            format!("{device} to {}", ShowMac(direction.entrance.mac))
        }
    };
    let (epoch, generation) = (direction.epoch, direction.generation);
    format!("{how}; from {entrance}; epoch {epoch}, generation {generation}")
}
