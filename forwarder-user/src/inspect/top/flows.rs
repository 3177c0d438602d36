//! How many flows each peer and each pod has. Pure.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;
use underpass_common::flow::{Flow, FlowKey};
use underpass_common::settings::Settings;

use super::super::flows::is_confirmed;
use super::super::peers::PeerReport;
use super::super::pods::PodReport;

/// The flows of a peer or a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::inspect) struct Tally {
    /// A node's name or a veth's, and its state where that keeps it from being fast.
    pub name: String,
    /// How many flows there are.
    pub flows: usize,
    /// How many are confirmed, in one direction at least.
    pub confirmed: usize,
    /// How many are confirmed in both.
    pub both: usize,
}

impl Tally {
    fn named(name: &str, state: &str, good: &str) -> Self {
        Self {
            name: match state == good {
                true => name.to_owned(),
                false => format!("{name}: {}", state.replace('_', " ")),
            },
            ..Self::default()
        }
    }

    fn add(&mut self, flow: &Flow, settings: &Settings) {
        let ways = [&flow.egress, &flow.ingress].map(|way| is_confirmed(way, settings));
        self.flows += 1;
        self.confirmed += usize::from(ways.contains(&true));
        self.both += usize::from(ways == [true; 2]);
    }
}

/// The flows of each peer, by where their far ends are.
pub(super) fn of_peers(
    flows: &[(FlowKey<IpAddr>, Flow)],
    settings: &Settings,
    peers: &[PeerReport],
) -> Vec<Tally> {
    let prefixes = Prefixes::of(peers);
    let named = |peer: &PeerReport| Tally::named(&peer.name, peer.state, "ready");
    let tallies = peers.iter().map(named).collect();
    tally(flows, settings, tallies, |key| prefixes.find(key.remote))
}

/// The flows of each pod, by what has been learned of its addresses.
pub(super) fn of_pods(
    flows: &[(FlowKey<IpAddr>, Flow)],
    settings: &Settings,
    pods: &[PodReport],
) -> Vec<Tally> {
    let mut places = HashMap::new();
    for (place, pod) in pods.iter().enumerate() {
        places.extend(pod.addresses.iter().map(|&address| (address, place)));
    }
    let named = |pod: &PodReport| Tally::named(&pod.veth, pod.state, "attached");
    let tallies = pods.iter().map(named).collect();
    tally(flows, settings, tallies, |key| {
        places.get(&key.pod).copied()
    })
}

/// Those with the most flows first; what nobody can be named for comes last.
fn tally(
    flows: &[(FlowKey<IpAddr>, Flow)],
    settings: &Settings,
    mut tallies: Vec<Tally>,
    place: impl Fn(&FlowKey<IpAddr>) -> Option<usize>,
) -> Vec<Tally> {
    let mut others = Tally::named("(others)", "", "");
    for (key, flow) in flows {
        let of = place(key).map_or(&mut others, |place| &mut tallies[place]);
        of.add(flow, settings);
    }
    tallies.sort_by(|a, b| b.flows.cmp(&a.flows).then_with(|| a.name.cmp(&b.name)));
    tallies.extend(Some(others).filter(|others| others.flows > 0));
    tallies
}

/// The podCIDRs of peers: a lookup costs as much as there are different lengths, however many peers there are.
#[derive(Default)]
struct Prefixes {
    places: HashMap<IpNet, usize>,
    lengths: BTreeSet<u8>,
}

impl Prefixes {
    fn of(peers: &[PeerReport]) -> Self {
        let mut prefixes = Self::default();
        for (place, peer) in peers.iter().enumerate() {
            let cidrs = peer.families.iter().filter_map(|one| one.pod_cidr.as_ref());
            for cidr in cidrs.filter_map(|cidr| cidr.parse::<IpNet>().ok()) {
                prefixes.lengths.insert(cidr.prefix_len());
                prefixes.places.insert(cidr.trunc(), place);
            }
        }
        prefixes
    }

    /// The peer with the longest prefix that holds an address.
    fn find(&self, address: IpAddr) -> Option<usize> {
        self.lengths.iter().rev().find_map(|&length| {
            let prefix = IpNet::new(address, length).ok()?;
            self.places.get(&prefix.trunc()).copied()
        })
    }
}
