//! What the XDP program alone reads.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use underpass_common::map_names;
use underpass_common::xdp::Lease;

use super::Maps;
use super::tables::gone;

impl Maps {
    /// Whether XDP may carry anything, and for which MAC.
    ///
    /// # Errors
    /// Where the kernel does not answer.
    pub fn xdp_lease(&self) -> Result<Lease> {
        self.xdp_lease
            .get(&0, 0)
            .with_context(|| format!("cannot read the map {}", map_names::XDP_LEASE))
    }

    /// Lets XDP carry packets, or no longer.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn set_xdp_lease(&mut self, lease: &Lease) -> Result<()> {
        self.xdp_lease
            .set(0, lease, 0)
            .with_context(|| format!("cannot write the map {}", map_names::XDP_LEASE))
    }

    /// The veths, by interface index, whose pods get packets by XDP. The kernel takes out those that go.
    ///
    /// # Errors
    /// Where the kernel does not answer.
    pub fn xdp_pods(&self) -> Result<BTreeSet<u32>> {
        self.xdp_pods
            .keys()
            .collect::<Result<_, _>>()
            .with_context(|| format!("cannot read the map {}", map_names::XDP_PODS))
    }

    /// Has packets for the pod at this veth handed over by XDP.
    ///
    /// # Errors
    /// Where the map is full or the veth is gone.
    pub fn add_xdp_pod(&mut self, ifindex: u32) -> Result<()> {
        self.xdp_pods
            .insert(ifindex, ifindex, None, 0)
            .with_context(|| format!("cannot write the map {}", map_names::XDP_PODS))
    }

    /// Has them handed over by XDP no longer.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn remove_xdp_pod(&mut self, ifindex: u32) -> Result<()> {
        gone(self.xdp_pods.remove(ifindex))
            .with_context(|| format!("cannot remove from the map {}", map_names::XDP_PODS))
    }
}
