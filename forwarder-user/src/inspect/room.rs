//! Whether the kernel's neighbour tables have room for the peers that the maps name.

use std::net::IpAddr;

use super::peers::PeerReport;
use crate::neighbour_limits::{Kernels, Limits, Table, entries};

/// How many peers and pods the maps name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    peers_v4: usize,
    peers_v6: usize,
    pods: usize,
}

impl Known {
    pub(super) fn of(peers: &[PeerReport], pods: usize) -> Self {
        let families = peers.iter().flat_map(|peer| &peer.families);
        Self::of_addresses(families.filter_map(|family| family.address), pods)
    }

    /// Of peers with these addresses.
    pub(super) fn of_addresses(addresses: impl Iterator<Item = IpAddr>, pods: usize) -> Self {
        let (v4, v6): (Vec<_>, Vec<_>) = addresses.partition(IpAddr::is_ipv4);
        Self {
            peers_v4: v4.len(),
            peers_v6: v6.len(),
            pods,
        }
    }

    /// One line where a table's limits are too low.
    pub(super) fn shortage(&self, table: Table, limits: Limits) -> Option<String> {
        let peers = match table {
            Table::Ipv4 => self.peers_v4,
            Table::Ipv6 => self.peers_v6,
        };
        (!limits.hold(entries(peers, self.pods))).then(|| {
            format!(
                "net.{}.neigh.default.gc_thresh1 to 3 are {limits}, too few for {peers} peers: the agent raises them \
                 where it may, else raise them on the host",
                table.name()
            )
        })
    }

    /// The same of both tables, as far as their limits are shown here.
    pub(super) fn shortages(&self) -> Vec<String> {
        let shortage = |table| {
            let limits = Limits::read(&Kernels, table).ok()??;
            self.shortage(table, limits)
        };
        Table::ALL.into_iter().filter_map(shortage).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_names_the_table_and_the_peers() {
        let known = Known {
            peers_v4: 5000,
            peers_v6: 3,
            pods: 10,
        };
        let limits = Limits([128, 512, 1024]);
        let text = known.shortage(Table::Ipv4, limits).unwrap();
        let begins =
            "net.ipv4.neigh.default.gc_thresh1 to 3 are 128, 512, 1024, too few for 5000 peers";
        assert!(text.starts_with(begins), "{text}");
        assert_eq!(known.shortage(Table::Ipv6, limits), None);
    }
}
