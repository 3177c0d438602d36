//! `underpass peers`: the other nodes, and what became of each.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::Result;
use ipnet::IpNet;
use serde::Serialize;
use underpass_common::addr::{NO_MAC, ShowMac};
use underpass_common::peer::{Peer, PeerFamily, PeerState, Refusal};

use super::print::{self, table};
use crate::cli::ReadArgs;
use crate::datapath::{Maps, Pins};

/// A node.
#[derive(Debug, Serialize)]
pub struct PeerReport {
    /// The Node's name.
    pub name: String,
    /// `ready`, `waiting_for_neighbour`, `kernel_routes_elsewhere`, `other_mtu`, `not_on_link` or
    /// `refused`: the worst of the families that the node has both a podCIDR and an address of.
    pub state: &'static str,
    /// Why it is refused; absent where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<&'static str>,
    /// Its podCIDR of the first of `families`.
    pub pod_cidr: Option<String>,
    /// Its address of the first of `families`.
    pub address: Option<IpAddr>,
    /// Its MAC of the first of `families`.
    pub mac: Option<String>,
    /// The families that it has a podCIDR of, IPv4 first.
    pub families: Vec<PeerFamilyReport>,
}

/// A node in one address family.
#[derive(Clone, Debug, Serialize)]
pub struct PeerFamilyReport {
    /// `ipv4` or `ipv6`.
    pub family: &'static str,
    /// As the node's own, of this family alone.
    pub state: &'static str,
    /// Why it is refused; absent where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<&'static str>,
    /// The first podCIDR.
    pub pod_cidr: Option<String>,
    /// Address on our segment.
    pub address: Option<IpAddr>,
    /// MAC on our segment.
    pub mac: Option<String>,
    /// The uplink that its pods are reached by; absent where nothing of it is in the trie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uplink: Option<String>,
}

/// Runs `underpass peers`.
///
/// # Errors
/// Where the maps cannot be read.
pub fn run(args: &ReadArgs) -> Result<()> {
    let peers = read(&super::open(&Pins::new(&args.pins.bpffs))?)?;
    print::print(args.output, &peers, |peers| show(peers))
}

/// All nodes, by name.
///
/// # Errors
/// Where the maps cannot be read.
pub fn read(maps: &Maps) -> Result<Vec<PeerReport>> {
    let mut peers: Vec<_> = maps
        .peers()?
        .into_iter()
        .map(|(name, peer)| report(print::text(&name.name), &peer))
        .collect();
    peers.sort_by(|a, b| a.name.cmp(&b.name));
    let routes = maps.routes()?;
    let uplinks: BTreeSet<u32> = routes.values().map(|route| route.ifindex).collect();
    let names: BTreeMap<u32, String> = uplinks
        .into_iter()
        .filter(|ifindex| *ifindex != 0)
        .map(|ifindex| (ifindex, print::interface(ifindex)))
        .collect();
    for family in peers.iter_mut().flat_map(|peer| &mut peer.families) {
        let pod_cidr = family.pod_cidr.as_ref();
        let pod_cidr = pod_cidr.and_then(|cidr| cidr.parse::<IpNet>().ok());
        let route = pod_cidr.and_then(|cidr| routes.get(&cidr));
        family.uplink = route.and_then(|route| names.get(&route.ifindex)).cloned();
    }
    Ok(peers)
}

pub(super) fn report(name: String, peer: &Peer) -> PeerReport {
    let families: Vec<_> = [family("ipv4", &peer.v4), family("ipv6", &peer.v6)]
        .into_iter()
        .flatten()
        .collect();
    let first = families.first().cloned();
    PeerReport {
        name,
        state: state(peer.state),
        refusal: refusal(peer.refusal),
        pod_cidr: first.as_ref().and_then(|first| first.pod_cidr.clone()),
        address: first.as_ref().and_then(|first| first.address),
        mac: first.and_then(|first| first.mac),
        families,
    }
}

/// `None`: the node takes no part in this family.
fn family<A>(name: &'static str, family: &PeerFamily<A>) -> Option<PeerFamilyReport>
where
    A: Copy + Into<IpAddr>,
{
    let some =
        |address: A| Some(address.into()).filter(|address: &IpAddr| !address.is_unspecified());
    (family.state != 0).then(|| PeerFamilyReport {
        family: name,
        state: state(family.state),
        refusal: refusal(family.refusal),
        pod_cidr: some(family.pod_cidr)
            .and_then(|net| IpNet::new(net, family.pod_cidr_len).ok())
            .map(|net| net.to_string()),
        address: some(family.address),
        mac: (family.mac != NO_MAC).then(|| ShowMac(family.mac).to_string()),
        uplink: None,
    })
}

fn state(number: u8) -> &'static str {
    PeerState::from_number(number).map_or("unknown", PeerState::name)
}

fn refusal(number: u8) -> Option<&'static str> {
    match Refusal::from_number(number) {
        Some(Refusal::None) => None,
        Some(refusal) => Some(refusal.description()),
        None => Some("unknown"),
    }
}

/// The table for people: a line for each family of a node.
pub fn show(peers: &[PeerReport]) -> String {
    if peers.is_empty() {
        return "no other nodes".into();
    }
    let families = peers.iter().flat_map(|peer| &peer.families);
    let uplinks: BTreeSet<_> = families
        .filter_map(|family| family.uplink.as_ref())
        .collect();
    let names_uplinks = uplinks.len() > 1;
    table(
        ["PEER", "POD CIDR", "ADDRESS", "MAC", "STATE"],
        peers.iter().flat_map(|peer| rows(peer, names_uplinks)),
    )
}

/// `names_uplinks`: there are several, and each peer's is told.
fn rows(peer: &PeerReport, names_uplinks: bool) -> Vec<[String; 5]> {
    let dash = || "-".to_owned();
    let state = |state: &str, refusal: Option<&str>| match refusal {
        Some(reason) => format!("refused: {reason}"),
        None => state.replace('_', " "),
    };
    if peer.families.is_empty() {
        let state = state(peer.state, peer.refusal);
        return vec![[peer.name.clone(), dash(), dash(), dash(), state]];
    }
    let row = |family: &PeerFamilyReport| {
        let uplink = family.uplink.as_ref().filter(|_| names_uplinks);
        let on = uplink.map_or_else(String::new, |uplink| format!(" on {uplink}"));
        [
            peer.name.clone(),
            family.pod_cidr.clone().unwrap_or_else(dash),
            family
                .address
                .map_or_else(dash, |address| format!("{address}{on}")),
            family.mac.clone().unwrap_or_else(dash),
            state(family.state, family.refusal),
        ]
    };
    peer.families.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dual_stack() -> Peer {
        Peer {
            v4: PeerFamily {
                pod_cidr: [10, 244, 2, 0],
                address: [10, 0, 0, 2],
                mac: [2, 0, 0, 0, 0, 2],
                pod_cidr_len: 24,
                state: PeerState::Ready as u8,
                ..PeerFamily::default()
            },
            v6: PeerFamily {
                pod_cidr: "fd00:2::".parse::<std::net::Ipv6Addr>().unwrap().octets(),
                address: "fd00::2".parse::<std::net::Ipv6Addr>().unwrap().octets(),
                pod_cidr_len: 64,
                state: PeerState::WaitingForNeighbour as u8,
                ..PeerFamily::default()
            },
            state: PeerState::WaitingForNeighbour as u8,
            ..Peer::default()
        }
    }

    #[test]
    fn a_dual_stack_node_has_a_line_for_each_family() {
        let report = report("node-2".to_owned(), &dual_stack());
        assert_eq!(
            show(&[report]),
            "PEER    POD CIDR       ADDRESS   MAC                STATE\n\
             node-2  10.244.2.0/24  10.0.0.2  02:00:00:00:00:02  ready\n\
             node-2  fd00:2::/64    fd00::2   -                  waiting for neighbour\n"
        );
    }

    #[test]
    fn of_several_uplinks_each_peer_s_is_told() {
        let on = |uplink: &str| {
            let mut report = report(format!("by-{uplink}"), &dual_stack());
            report.families.truncate(1);
            report.families[0].uplink = Some(uplink.to_owned());
            report
        };
        let (first, second) = (on("eth0"), on("eth1"));
        let json = serde_json::to_value(&second).unwrap();
        assert_eq!(json["families"][0]["uplink"], "eth1");
        assert_eq!(
            show(&[first, second]),
            "PEER     POD CIDR       ADDRESS           MAC                STATE\n\
             by-eth0  10.244.2.0/24  10.0.0.2 on eth0  02:00:00:00:00:02  ready\n\
             by-eth1  10.244.2.0/24  10.0.0.2 on eth1  02:00:00:00:00:02  ready\n"
        );
    }

    #[test]
    fn the_older_fields_tell_of_the_first_family() {
        let mut peer = dual_stack();
        let json = |peer: &Peer| serde_json::to_value(report("n".to_owned(), peer)).unwrap();
        let both = json(&peer);
        assert_eq!(both["state"], "waiting_for_neighbour");
        assert_eq!(both["pod_cidr"], "10.244.2.0/24");
        assert_eq!(both["address"], "10.0.0.2");
        assert_eq!(both["mac"], "02:00:00:00:00:02");
        assert_eq!(both["families"][1]["family"], "ipv6");
        assert_eq!(both["families"][1]["address"], "fd00::2");
        peer.v4 = PeerFamily::default();
        let six = json(&peer);
        assert_eq!(six["pod_cidr"], "fd00:2::/64");
        assert_eq!(six["families"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn a_refused_node_without_a_pod_cidr_has_a_line_all_the_same() {
        let peer = Peer {
            state: PeerState::Refused as u8,
            refusal: Refusal::NoPodCidr as u8,
            ..Peer::default()
        };
        let shown = show(&[report("n".to_owned(), &peer)]);
        assert!(
            shown.ends_with("refused: the Node has no podCIDR\n"),
            "{shown}"
        );
    }
}
