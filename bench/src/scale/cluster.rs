//! The large cluster: its Nodes' names and addresses, and what makes them look alive. Pure.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::lab::names::UPLINK;

/// As many peers as half of the segment has addresses for.
pub(super) const MOST_PEERS: usize = 30_000;
/// Where the peers' IPv4 addresses are: the lower half of the segment, so that the asker's own lies outside.
const PEERS_V4: &str = "172.20.0.0/17";
/// Our node's addresses on the segment.
const OWN_SEGMENT: [&str; 2] = ["172.20.255.254/16", "fd00:78::fffe:1/64"];

/// A peer by its number, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer(pub usize);

impl Peer {
    pub(super) fn name(self) -> String {
        format!("worker-{:05}.example.internal", self.0)
    }

    /// IPv4 first.
    pub(super) fn addresses(self) -> [IpAddr; 2] {
        let number = self.0 as u32 + 16;
        [
            Ipv4Addr::from_bits(Ipv4Addr::new(172, 20, 0, 0).to_bits() + number).into(),
            Ipv6Addr::from_bits(
                Ipv6Addr::new(0xfd00, 0x78, 0, 0, 0, 0, 0, 0).to_bits() + u128::from(number),
            )
            .into(),
        ]
    }

    /// IPv4 first.
    pub(super) fn pod_cidrs(self) -> [IpNet; 2] {
        self.cidrs(Ipv4Addr::new(10, 0, 0, 0), 0x20)
    }

    /// Others, of which the kernel knows as well.
    pub(super) fn other_pod_cidrs(self) -> [IpNet; 2] {
        self.cidrs(Ipv4Addr::new(10, 128, 0, 0), 0x21)
    }

    fn cidrs(self, first: Ipv4Addr, block: u16) -> [IpNet; 2] {
        let v4 = Ipv4Addr::from_bits(first.to_bits() + ((self.0 as u32) << 8));
        let v6 = Ipv6Addr::new(0xfd00, block, self.0 as u16, 0, 0, 0, 0, 0);
        [
            Ipv4Net::new_assert(v4, 24).into(),
            Ipv6Net::new_assert(v6, 64).into(),
        ]
    }
}

/// Puts our node onto the peers' segment: lines of `ip`.
pub(super) fn join_segment() -> String {
    let mut lines = String::new();
    for address in OWN_SEGMENT {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        let _ = writeln!(lines, "addr add {address} dev {UPLINK}{nodad}");
    }
    lines
}

/// Has one host answer for all peers: ARP because the addresses are local to it, neighbour discovery as
/// their proxy.
pub(super) fn answer_for(peers: usize) -> String {
    let mut lines = format!("route add local {PEERS_V4} dev lo\n");
    for peer in (0..peers).map(Peer) {
        let [_, v6] = peer.addresses();
        let _ = writeln!(lines, "neigh add proxy {v6} dev {UPLINK}");
    }
    lines
}

/// The host-gw routes as a CNI makes them, to the podCIDRs of all peers and to the other podCIDRs of
/// some; `verb`: `add` or `del`.
pub(super) fn routes(verb: &str, peers: usize, with_others: &[Peer]) -> String {
    let mut lines = String::new();
    let mut write = |cidrs: [IpNet; 2], addresses: [IpAddr; 2]| {
        for (cidr, address) in cidrs.iter().zip(addresses) {
            let _ = writeln!(lines, "route {verb} {cidr} via {address} dev {UPLINK}");
        }
    };
    for peer in (0..peers).map(Peer) {
        write(peer.pod_cidrs(), peer.addresses());
    }
    for peer in with_others {
        write(peer.other_pod_cidrs(), peer.addresses());
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_peers_share_anything() {
        let all = || (0..MOST_PEERS).map(Peer);
        let addresses: BTreeSet<IpAddr> = all().flat_map(Peer::addresses).collect();
        let cidrs = all().flat_map(|peer| [peer.pod_cidrs(), peer.other_pod_cidrs()]);
        let cidrs: BTreeSet<IpNet> = cidrs.flatten().collect();
        assert_eq!(addresses.len(), 2 * MOST_PEERS);
        assert_eq!(cidrs.len(), 4 * MOST_PEERS);
        let segment: IpNet = PEERS_V4.parse().unwrap();
        let v4 = addresses.iter().filter(|address| address.is_ipv4());
        assert!(v4.clone().all(|address| segment.contains(address)));
        let own: IpNet = OWN_SEGMENT[0].parse().unwrap();
        assert!(!segment.contains(&own.addr()));
        assert!(v4.clone().all(|address| own.contains(address)));
    }
}
