//! What became of the other nodes, as it changes.

use std::collections::{BTreeMap, BTreeSet};

use tracing::{info, warn};
use underpass_common::addr::Mac;
use underpass_common::peer::PeerState;

use crate::apply::tell::tell;
use crate::plan::{PeerPlan, Plan};

/// Tells which nodes are on the fast path, and which no longer. Why a node cannot be is a problem of the plan, and
/// told there; whoever is new and waits for its MAC soon has it.
#[derive(Default)]
pub struct PeerTeller {
    known: BTreeMap<String, Known>,
}

/// What was last seen of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    state: PeerState,
    macs: [Option<Mac>; 2],
}

impl Known {
    fn of(peer: &PeerPlan) -> Self {
        let mac = |family: &crate::plan::PeerFamilyPlan| family.mac;
        Self {
            state: peer.state,
            macs: [peer.v4.as_ref().map(mac), peer.v6.as_ref().map(mac)],
        }
    }
}

impl PeerTeller {
    /// Tells what is new since last time; how many nodes have lost their MAC since.
    pub fn tell(&mut self, plan: &Plan) -> usize {
        let (mut ready, mut moved, mut lost) = (Vec::new(), Vec::new(), Vec::new());
        for (name, peer) in &plan.peers {
            let now = Known::of(peer);
            let before = self.known.insert(name.clone(), now);
            if before == Some(now) {
                continue;
            }
            let was_ready = before.is_some_and(|known| known.state == PeerState::Ready);
            match now.state {
                PeerState::Ready if was_ready => moved.push(described(name, peer, plan)),
                PeerState::Ready => ready.push(described(name, peer, plan)),
                PeerState::WaitingForNeighbour if was_ready => lost.push(name),
                _ => {}
            }
        }
        tell("on the fast path", &ready);
        tell("answers with another MAC", &moved);
        warn_of_lost(&lost, plan);
        let is_gone = |name: &&String| !plan.peers.contains_key(*name);
        let gone: Vec<String> = self.known.keys().filter(is_gone).cloned().collect();
        tell("no longer a node of the cluster", &gone);
        self.known.retain(|name, _| plan.peers.contains_key(name));
        lost.len()
    }
}

/// `node2 (10.244.2.0/24) at 192.0.2.2 on eth0`
fn described(name: &str, peer: &PeerPlan, plan: &Plan) -> String {
    let families = [peer.v4, peer.v6].into_iter().flatten();
    let uplinks: BTreeSet<u32> = families.map(|family| family.uplink).collect();
    let named = uplinks
        .into_iter()
        .filter_map(|ifindex| plan.uplink(ifindex));
    let uplinks: Vec<&str> = named.map(|uplink| &*uplink.name).collect();
    let uplinks = match uplinks.is_empty() {
        true => "no uplink".to_owned(),
        false => uplinks.join(", "),
    };
    let list = |items: Vec<String>| items.join(", ");
    format!(
        "{name} ({}) at {} on {uplinks}",
        list(peer.pod_cidrs.iter().map(ToString::to_string).collect()),
        list(peer.addresses.iter().map(ToString::to_string).collect()),
    )
}

fn warn_of_lost(lost: &[&String], plan: &Plan) {
    match lost {
        [] => {}
        [name] => {
            let detail = plan.peers[*name].detail.as_deref().unwrap_or(name);
            warn!("{detail} any more: its pods' traffic is the kernel's until it answers");
        }
        [first, .., last] => warn!(
            "{} nodes have no MAC any more, from {first} to {last}: their pods' traffic is the kernel's until they answer",
            lost.len()
        ),
    }
    if lost.len() == plan.peers.len() && lost.len() > 1 {
        info!("these are all of them: look at this node's own uplinks");
    }
}

#[cfg(test)]
mod tests {
    use underpass_common::peer::Refusal;

    use super::*;

    fn plan(peers: &[(&str, PeerState)]) -> Plan {
        let peer = |state| PeerPlan {
            pod_cidrs: Vec::new(),
            addresses: Vec::new(),
            v4: None,
            v6: None,
            state,
            refusal: Refusal::None,
            detail: None,
        };
        Plan {
            peers: peers
                .iter()
                .map(|(name, state)| ((*name).to_owned(), peer(*state)))
                .collect(),
            ..Plan::default()
        }
    }

    #[test]
    fn a_loss_is_counted_once_and_only_of_those_who_had_a_mac() {
        let mut teller = PeerTeller::default();
        let (ready, waiting) = (PeerState::Ready, PeerState::WaitingForNeighbour);
        for (peers, lost) in [
            (vec![("a", waiting), ("b", waiting)], 0),
            (vec![("a", ready), ("b", waiting)], 0),
            (vec![("a", waiting), ("b", waiting)], 1),
            (vec![("a", waiting), ("b", waiting)], 0),
            (vec![("b", ready)], 0),
            (vec![("b", PeerState::NotOnLink)], 0),
        ] {
            assert_eq!(teller.tell(&plan(&peers)), lost, "{peers:?}");
        }
        assert_eq!(teller.known.len(), 1);
    }
}
