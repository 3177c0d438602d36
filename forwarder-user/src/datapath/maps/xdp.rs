//! What the XDP program alone reads.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use underpass_common::map_names;
use underpass_common::xdp::Lease;

use super::Maps;
use super::tables::{gone, read_all};

impl Maps {
    /// The devices, by interface index, of which XDP may carry what comes in, and until when.
    ///
    /// # Errors
    /// Where the kernel does not answer.
    pub fn xdp_leases(&self) -> Result<BTreeMap<u32, Lease>> {
        let all = read_all(&self.xdp_lease, map_names::XDP_LEASE)?;
        Ok(all.into_iter().collect())
    }

    /// Lets XDP carry what comes in by an uplink, or by a bonded part of one.
    ///
    /// # Errors
    /// Where the map is full.
    pub fn set_xdp_lease(&mut self, ifindex: u32, lease: &Lease) -> Result<()> {
        self.xdp_lease
            .insert(ifindex, lease, 0)
            .with_context(|| format!("cannot write the map {}", map_names::XDP_LEASE))
    }

    /// Lets it carry nothing of that any longer.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn remove_xdp_lease(&mut self, ifindex: u32) -> Result<()> {
        gone(self.xdp_lease.remove(&ifindex))
            .with_context(|| format!("cannot remove from the map {}", map_names::XDP_LEASE))
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

    /// The uplinks, by interface index, that get packets in transit by XDP. The kernel takes out those that go.
    ///
    /// # Errors
    /// Where the kernel does not answer.
    pub fn xdp_uplinks(&self) -> Result<BTreeSet<u32>> {
        self.xdp_uplinks
            .keys()
            .collect::<Result<_, _>>()
            .with_context(|| format!("cannot read the map {}", map_names::XDP_UPLINKS))
    }

    /// Has packets in transit that leave by this uplink handed over by XDP.
    ///
    /// # Errors
    /// Where the map is full or the uplink is gone.
    pub fn add_xdp_uplink(&mut self, ifindex: u32) -> Result<()> {
        self.xdp_uplinks
            .insert(ifindex, ifindex, None, 0)
            .with_context(|| format!("cannot write the map {}", map_names::XDP_UPLINKS))
    }

    /// Has them handed over by XDP no longer.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn remove_xdp_uplink(&mut self, ifindex: u32) -> Result<()> {
        gone(self.xdp_uplinks.remove(ifindex))
            .with_context(|| format!("cannot remove from the map {}", map_names::XDP_UPLINKS))
    }
}
