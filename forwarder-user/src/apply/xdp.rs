//! XDP on the uplinks, and which pods and uplinks it hands packets to. Where it cannot be had TC does the work: that is no
//! failure, but somebody should know.

use std::collections::{BTreeMap, BTreeSet};

use nix::time::{ClockId, clock_gettime};
use underpass_common::addr::Mac;
use underpass_common::verdict::Hook;
use underpass_common::xdp::{LEASE_NS, Lease};

use super::failures::Failures;
use super::tell::tell;
use super::{Applier, Changes, Plan};
use crate::datapath::attach::Device;
use crate::world::Kernel;
use crate::world::netlink::Filter;

impl Applier {
    /// Why XDP is not on uplinks where it should be, by interface index.
    pub fn xdp_refused(&self) -> &BTreeMap<u32, String> {
        &self.xdp_refused
    }

    /// TCX programs of others on an uplink, by name: where this hook is, or would be.
    ///
    /// # Errors
    /// Where the kernel does not tell.
    pub fn onlookers(&self, hook: Hook, uplink: u32) -> anyhow::Result<Vec<String>> {
        self.attachments.onlookers(hook, uplink)
    }

    /// Whether a filter is one of ours.
    pub fn is_ours(&self, filter: &Filter) -> bool {
        self.attachments.is_ours(&filter.kind, filter.priority)
    }

    /// Lets XDP go on for a while. To be called every second.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn renew_xdp_lease(&mut self) -> anyhow::Result<()> {
        for (&receiver, &(uplink, mac)) in &self.leased {
            self.maps.set_xdp_lease(receiver, &lease(uplink, mac)?)?;
        }
        Ok(())
    }

    /// Lets XDP carry packets to the MACs of the uplinks where it is, and no others.
    pub(super) fn lease_xdp(&mut self, plan: &Plan, kernel: &Kernel, failures: &mut Failures) {
        self.leased.clear();
        for uplink in plan
            .uplinks
            .iter()
            .filter(|it| plan.xdp.contains(&it.ifindex))
        {
            let receivers = kernel.receivers(uplink.ifindex).into_iter();
            self.leased
                .extend(receivers.map(|receiver| (receiver, (uplink.ifindex, uplink.mac))));
        }
        let written = self.end_leases().and_then(|()| self.renew_xdp_lease());
        failures.note(written);
    }

    /// Takes back what is not to go on.
    fn end_leases(&mut self) -> anyhow::Result<()> {
        for ifindex in self.maps.xdp_leases()?.into_keys() {
            if !self.leased.contains_key(&ifindex) {
                self.maps.remove_xdp_lease(ifindex)?;
            }
        }
        Ok(())
    }

    /// Attaches the program to an uplink; what there is to tell of it.
    pub(super) fn attach_xdp(&mut self, ifindex: u32, name: Option<&str>) -> Option<String> {
        let name = name?;
        let outcome = match &self.no_xdp {
            Some(why) => Err(why.clone()),
            None => {
                let device = Device { ifindex, name };
                let attached = self
                    .attachments
                    .attach(&mut self.ebpf, Hook::FromWireXdp, device);
                attached.map_err(|error| format!("{error:#}"))
            }
        };
        match outcome {
            Ok(()) => {
                self.current.insert((Hook::FromWireXdp, ifindex));
                Some(format!("{} to {name}", Hook::FromWireXdp.name()))
            }
            Err(why) => {
                self.xdp_refused.insert(ifindex, why);
                None
            }
        }
    }

    /// Whoever no longer takes what XDP hands over would lose it.
    pub(super) fn remove_xdp_targets(&mut self, changes: &Changes, failures: &mut Failures) {
        for &ifindex in &changes.xdp_pods_removed {
            failures.note(self.maps.remove_xdp_pod(ifindex));
        }
        for &ifindex in &changes.xdp_uplinks_removed {
            failures.note(self.maps.remove_xdp_uplink(ifindex));
        }
        tell(
            "no longer by XDP: the pod at interface",
            &listed(&changes.xdp_pods_removed),
        );
        tell(
            "in transit no longer by XDP: what leaves by interface",
            &listed(&changes.xdp_uplinks_removed),
        );
    }

    pub(super) fn add_xdp_targets(
        &mut self,
        changes: &Changes,
        kernel: &Kernel,
        failures: &mut Failures,
    ) {
        for &ifindex in &changes.xdp_pods_added {
            failures.note(self.maps.add_xdp_pod(ifindex));
        }
        let mut uplinks = Vec::new();
        for &ifindex in &changes.xdp_uplinks_added {
            if failures.note(self.maps.add_xdp_uplink(ifindex)) {
                let link = kernel.links.get(&ifindex);
                uplinks.extend(link.map(|link| &*link.name));
            }
        }
        tell(
            "by XDP: the pod at interface",
            &listed(&changes.xdp_pods_added),
        );
        tell("in transit by XDP: what leaves by", &uplinks);
    }
}

fn listed(ifindexes: &BTreeSet<u32>) -> Vec<u32> {
    ifindexes.iter().copied().collect()
}

fn lease(uplink: u32, uplink_mac: Mac) -> anyhow::Result<Lease> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    let now_ns = now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64;
    Ok(Lease {
        uplink,
        uplink_mac,
        until_ns: now_ns + LEASE_NS,
        ..Lease::default()
    })
}
