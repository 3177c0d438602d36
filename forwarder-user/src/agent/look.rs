//! What nobody tells the agent: looked at every second.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tracing::debug;
use underpass_common::verdict::Hook;

use super::Agent;
use crate::config::Ingress;
use crate::plan::Plan;
use crate::sysctl;
use crate::world::kernel::{LinkKind, Onlookers};
use crate::world::netlink::xdp_targets;

/// The name of that, in the log.
const ONLOOKERS: &str = "asking for the programs of others on the uplinks";

impl Agent {
    /// Notes that the source is still there, where it gives a sign of life.
    pub(super) fn look_at_source(&mut self) {
        let heard = self.source.heard_unix_s();
        if self.world.nodes.is_some()
            && let Some(heard) = heard
            && self.reporter.nodes_heard(heard)
        {
            self.write_record();
        }
    }

    /// An address that moved to another veth, or is gone, must not be reached by a cached way out.
    pub(super) fn look_at_endpoints(&mut self) {
        let read = self.applier.endpoints();
        let Some(endpoints) = self.reporter.tried("reading the endpoints", read) else {
            return;
        };
        let moved = self
            .known_endpoints
            .iter()
            .any(|(address, known)| endpoints.get(address) != Some(known));
        if moved {
            debug!("an endpoint has changed");
            self.applier.bump_generation();
        }
        if moved || endpoints.len() != self.known_endpoints.len() {
            self.mark_due(Duration::ZERO);
        }
        self.known_endpoints = endpoints;
    }

    /// Has XDP go on, and finds out which devices take what it hands them: the kernel tells nobody who does not ask.
    pub(super) fn look_at_xdp(&mut self) {
        if self.config.ingress != Ingress::Xdp {
            return;
        }
        let renewed = self.applier.renew_xdp_lease();
        self.reporter.tried("letting XDP go on", renewed);
        let targets = self
            .reporter
            .tried("asking which devices take frames from XDP", xdp_targets());
        // Not told: nobody.
        let targets = targets.unwrap_or_default();
        if targets != self.world.kernel.xdp_targets {
            self.world.kernel.xdp_targets = targets;
            self.mark_due(Duration::ZERO);
        }
    }

    /// Looks whether programs of others have come to the uplinks, or gone from them: not all of that is told by events.
    pub(super) async fn look_for_onlookers(&mut self) {
        if self.config.ingress == Ingress::Xdp
            && let Some(found) = self.onlookers(&self.uplinks.clone()).await
            && found != self.world.kernel.onlookers
        {
            self.mark_due(Duration::ZERO);
        }
    }

    /// Programs of others on the uplinks, which would not see what XDP carries. True where there are others than before.
    pub(super) async fn look_at_onlookers(&mut self, plan: &Plan) -> bool {
        if self.config.ingress != Ingress::Xdp {
            return false;
        }
        let uplinks = plan.uplinks.iter().map(|uplink| uplink.ifindex).collect();
        let Some(found) = self.onlookers(&uplinks).await else {
            return false;
        };
        let is_new = found != self.world.kernel.onlookers;
        self.world.kernel.onlookers = found;
        is_new
    }

    async fn onlookers(&mut self, uplinks: &BTreeSet<u32>) -> Option<BTreeMap<u32, Onlookers>> {
        let mut all = BTreeMap::new();
        for &uplink in uplinks {
            let ingress = self.others_at(Hook::FromWire, uplink).await?;
            let egress = self.others_at(Hook::ToWire, uplink).await?;
            all.insert(uplink, Onlookers { ingress, egress });
        }
        Some(all)
    }

    /// Programs and filters of others where a hook is, or would be.
    async fn others_at(&mut self, hook: Hook, uplink: u32) -> Option<Vec<String>> {
        let programs = self.applier.onlookers(hook, uplink);
        let filters = self.netlink.filters(uplink, hook.is_entrance()).await;
        let found = programs.and_then(|mut found| {
            let others = filters?;
            let others = others.iter().filter(|filter| !self.applier.is_ours(filter));
            found.extend(others.map(|filter| {
                let name = filter.name.as_deref().unwrap_or(&filter.kind);
                format!("filter {name}")
            }));
            Ok(found)
        });
        self.reporter.tried(ONLOOKERS, found)
    }

    /// An interface's MTU for IPv6 changes without a word from the kernel. Looked at are the few that
    /// much goes through; a pod's own veth has to wait for the next resync.
    pub(super) fn look_at_mtus(&mut self) {
        let uplinks = &self.uplinks;
        let links = self.world.kernel.links.values_mut();
        let mut changed = false;
        for link in
            links.filter(|link| link.kind == LinkKind::Bridge || uplinks.contains(&link.ifindex))
        {
            let now = sysctl::mtu_v6(&link.name);
            if link.mtu_v6 != now {
                debug!(link = link.name, ?now, "the MTU for IPv6 has changed");
                link.mtu_v6 = now;
                changed = true;
            }
        }
        if changed {
            self.mark_due(Duration::ZERO);
        }
    }
}
