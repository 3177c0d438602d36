//! Room in the kernel's neighbour tables for all peers.

use std::net::IpAddr;

use tracing::{info, warn};

use crate::neighbour_limits::{Kernels, Limits, Marks, Table, entries, raise};
use crate::plan::Plan;

/// Keeps the limits high enough, and has `detach` know what they were.
pub struct NeighbourLimits {
    wanted: bool,
    marks: Marks,
    warned: bool,
}

impl NeighbourLimits {
    /// `wanted`: whether they may be changed at all.
    pub fn new(wanted: bool, marks: Marks) -> Self {
        Self {
            wanted,
            marks,
            warned: false,
        }
    }

    /// Looks whether the plan's peers fit. To be called before the kernel is asked to resolve them.
    pub fn keep(&mut self, plan: &Plan) {
        for table in Table::ALL {
            let is_in = |address: &&IpAddr| address.is_ipv6() == (table == Table::Ipv6);
            let addresses = plan.peers.values().flat_map(|peer| &peer.addresses);
            let peers = addresses.filter(is_in).count();
            self.keep_table(table, peers, plan.pods.len());
        }
    }

    fn keep_table(&mut self, table: Table, peers: usize, pods: usize) {
        let needed = entries(peers, pods);
        let keys = format!("net.{}.neigh.default.gc_thresh1 to 3", table.name());
        if !self.wanted {
            if let Ok(Some(limits)) = Limits::read(&Kernels, table)
                && !limits.hold(needed)
            {
                self.warn_once(&format!(
                    "{keys} are {limits} and left alone: too few for {peers} peers, which will be forgotten \
                     and asked for again, and their traffic goes slowly"
                ));
            }
            return;
        }
        match raise(&mut Kernels, &self.marks, table, needed) {
            Ok(None) => {}
            Ok(Some((old, new))) => info!(
                "{keys} are {new} now, were {old}: {peers} peers are to have room in the neighbour table \
                 (--neighbour-limits leave for not doing this)"
            ),
            Err(error) => self.warn_once(&format!(
                "{error:#}; {keys} are too few for {peers} peers: raise them on the host"
            )),
        }
    }

    fn warn_once(&mut self, text: &str) {
        if !self.warned {
            warn!("{text}");
            self.warned = true;
        }
    }
}
