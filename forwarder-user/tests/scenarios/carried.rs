//! Who carries packets past the kernel at a node's uplinks: XDP, or TC in its place.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use underpass_bench::Lab;
use underpass_bench::lab::Node;
use underpass_bench::traffic::Ping;
use underpass_common::verdict::{Hook, Verdict};

use crate::common::{DEADLINE, Datapath};

/// How many pings [`ping`] sends.
pub const PINGS: u16 = 30;

/// Packets that have gone past the kernel at the uplink's entrance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    pub by_xdp: u64,
    pub by_tc: u64,
}

impl Carried {
    /// What has been added to an earlier reading.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            by_xdp: self.by_xdp - earlier.by_xdp,
            by_tc: self.by_tc - earlier.by_tc,
        }
    }
}

impl Datapath {
    /// Packets that XDP has carried so far, and those that TC has in its place.
    pub fn carried(&self) -> Result<Carried> {
        let counts = self.maps.verdicts()?.into_iter();
        let fast = counts.filter(|(_, verdict, _)| *verdict == Verdict::Fast);
        let fast: BTreeMap<Hook, u64> =
            fast.map(|(hook, _, count)| (hook, count.packets)).collect();
        Ok(Carried {
            by_xdp: fast[&Hook::FromWireXdp],
            by_tc: fast[&Hook::FromWire],
        })
    }
}

/// Pings node 2's pod from node 1's: all are answered. Tells what was carried at `node`.
pub fn ping(lab: &Lab, node: &Node) -> Result<Carried> {
    let datapath = Datapath::of(lab, node)?;
    let before = datapath.carried()?;
    let ping = Ping::to(lab.pod(2, 1).address()).timeout(DEADLINE);
    let report = ping
        .interval(Duration::ZERO)
        .count(PINGS)
        .run(lab.pod(1, 1))?;
    ensure!(report.all_replied(), "{report:?}");
    Ok(datapath.carried()?.since(before))
}
