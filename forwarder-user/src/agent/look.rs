//! What nobody tells the agent: looked at every second.

use std::time::Duration;

use tracing::debug;

use super::Agent;
use crate::sysctl;
use crate::world::kernel::LinkKind;

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

    /// An interface's MTU for IPv6 changes without a word from the kernel. Looked at are the few that
    /// much goes through; a pod's own veth has to wait for the next resync.
    pub(super) fn look_at_mtus(&mut self) {
        let uplink = self.reporter.uplink();
        let links = self.world.kernel.links.values_mut();
        let mut changed = false;
        for link in links.filter(|link| link.kind == LinkKind::Bridge || link.ifindex == uplink) {
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
