//! `underpass peers`: the other nodes, and what became of each.

use std::net::Ipv4Addr;

use anyhow::Result;
use serde::Serialize;
use underpass_common::addr::{NO_MAC, ShowMac};
use underpass_common::peer::{Peer, PeerState, Refusal};

use super::print::{self, table};
use crate::cli::ReadArgs;
use crate::datapath::{Maps, Pins};

/// A node.
#[derive(Debug, Serialize)]
pub struct PeerReport {
    /// The Node's name.
    pub name: String,
    /// `ready`, `waiting_for_neighbour`, `kernel_routes_elsewhere`, `not_on_link` or `refused`.
    pub state: &'static str,
    /// Why it is refused; absent where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<&'static str>,
    /// IPv4 podCIDR.
    pub pod_cidr: Option<String>,
    /// IPv4 address on our segment.
    pub address: Option<Ipv4Addr>,
    /// MAC on our segment.
    pub mac: Option<String>,
}

/// Runs `underpass peers`.
///
/// # Errors
/// Where the maps cannot be read.
pub fn run(args: &ReadArgs) -> Result<()> {
    let peers = read(&Maps::open(&Pins::new(&args.pins.bpffs))?)?;
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
    Ok(peers)
}

fn report(name: String, peer: &Peer) -> PeerReport {
    let some_v4 = |octets: [u8; 4]| (octets != [0; 4]).then(|| Ipv4Addr::from(octets));
    PeerReport {
        name,
        state: PeerState::from_number(peer.state).map_or("unknown", PeerState::name),
        refusal: Refusal::from_number(peer.refusal)
            .filter(|refusal| *refusal != Refusal::None)
            .map(Refusal::description),
        pod_cidr: some_v4(peer.pod_cidr_v4).map(|net| format!("{net}/{}", peer.pod_cidr_v4_len)),
        address: some_v4(peer.address_v4),
        mac: (peer.mac != NO_MAC).then(|| ShowMac(peer.mac).to_string()),
    }
}

/// The table for people.
pub fn show(peers: &[PeerReport]) -> String {
    if peers.is_empty() {
        return "no other nodes".into();
    }
    let dash = || "-".to_owned();
    table(
        ["PEER", "POD CIDR", "ADDRESS", "MAC", "STATE"],
        peers.iter().map(|peer| {
            [
                peer.name.clone(),
                peer.pod_cidr.clone().unwrap_or_else(dash),
                peer.address
                    .map_or_else(dash, |address| address.to_string()),
                peer.mac.clone().unwrap_or_else(dash),
                match peer.refusal {
                    Some(reason) => format!("refused: {reason}"),
                    None => peer.state.replace('_', " "),
                },
            ]
        }),
    )
}
