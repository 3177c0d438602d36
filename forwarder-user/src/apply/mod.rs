//! Makes it so: the only writer of maps, links, routes and neighbours.

mod failures;
mod kernel;
mod tables;
pub(crate) mod tell;
mod xdp;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use aya::Ebpf;
use tracing::info;
use underpass_common::addr::Mac;
use underpass_common::agent::Agent as Record;
use underpass_common::endpoint::Endpoint;
use underpass_common::pod::PodState;
use underpass_common::settings::{LAYOUT_VERSION, Offload, Settings};

use crate::config::Config;
use crate::datapath::attach::Device;
use crate::datapath::{Attachments, Loaded, Maps};
use crate::diff::{Actual, Attachment, Changes, diff, loses_a_way};
use crate::plan::{self, Plan};
use crate::random;
use crate::world::Kernel;
use crate::world::netlink::Netlink;
use failures::Failures;
use tell::tell;

/// The writer, and what it knows of what it wrote.
pub struct Applier {
    ebpf: Ebpf,
    maps: Maps,
    attachments: Attachments,
    settings: Settings,
    offload: Offload,
    /// Where the programs of this very process are attached; elsewhere they are an earlier agent's.
    current: BTreeSet<Attachment>,
    /// What the maps hold that only we write; `None`: to be read.
    written: Option<Actual>,
    /// The XDP program could not be loaded, and why.
    no_xdp: Option<String>,
    /// Why XDP is not on uplinks where it should be, by interface index.
    xdp_refused: BTreeMap<u32, String>,
    /// The devices of which XDP may carry what comes in, each with the uplink that it is or is a part of, and that
    /// one's MAC.
    leased: BTreeMap<u32, (u32, Mac)>,
}

impl Applier {
    /// Takes over what was loaded. Writes nothing yet.
    ///
    /// # Errors
    /// Where the maps cannot be read.
    pub fn new(loaded: Loaded, attachments: Attachments, config: &Config) -> Result<Self> {
        Ok(Self {
            settings: loaded.maps.settings()?,
            ebpf: loaded.ebpf,
            maps: loaded.maps,
            attachments,
            offload: config.offload,
            current: BTreeSet::new(),
            written: None,
            no_xdp: loaded.xdp_refused,
            xdp_refused: BTreeMap::new(),
            leased: BTreeMap::new(),
        })
    }

    /// The endpoints that the programs have learned.
    ///
    /// # Errors
    /// Where the map cannot be read.
    pub fn endpoints(&self) -> Result<BTreeMap<IpAddr, Endpoint>> {
        self.maps.endpoints()
    }

    /// Has every cached way out looked up again, from the next write of the settings on.
    pub fn bump_generation(&mut self) {
        self.settings.generation = next(self.settings.generation);
    }

    /// Has every flow confirmed again, from the next write of the settings on. Packets that are on
    /// their way through the kernel become strangers to the exits by the new seed: they were routed
    /// as it was before.
    fn doubt_confirmations(&mut self) {
        self.settings.epoch = next(self.settings.epoch);
        self.settings.tag_seed = new_seed();
    }

    /// Reads the maps anew next time, should somebody else have written to them.
    pub fn forget_what_was_written(&mut self) {
        self.written = None;
    }

    /// What `underpass status` shows of the agent.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn write_record(&mut self, record: &Record) -> Result<()> {
        if self.maps.agent()? != *record {
            self.maps.set_agent(record)?;
        }
        Ok(())
    }

    /// Makes the plan so, in the order that [`Changes`] gives. What fails is told at the end;
    /// everything else is done all the same.
    ///
    /// # Errors
    /// The first failure; the maps are read anew next time then.
    pub async fn apply(&mut self, netlink: &Netlink, kernel: &Kernel, plan: &Plan) -> Result<()> {
        let mut actual = match self.written.take() {
            Some(written) => written,
            None => self.read()?,
        };
        actual.take_kernel(kernel);
        actual.own_pod_cidrs = plan::pod_cidrs_of(&self.maps.settings()?);
        actual.endpoints = self.maps.endpoints()?;
        actual.attached = self.attachments.attached()?;
        // The kernel takes out devices that go.
        actual.xdp_pods = self.maps.xdp_pods()?;
        actual.xdp_uplinks = self.maps.xdp_uplinks()?;
        self.current.retain(|one| actual.attached.contains(one));
        actual.outdated = &actual.attached - &self.current;

        let changes = diff(&actual, plan);
        // 0: this is the first plan of all, and nothing is confirmed yet.
        let before = self.maps.agent()?.routing_digest;
        if before != 0 && (plan.routing_digest != before || loses_a_way(&changes, plan)) {
            info!("the kernel's rules or routes have changed: every flow is confirmed anew");
            self.doubt_confirmations();
        }
        let mut failures = Failures::default();
        self.lease_xdp(plan, kernel, &mut failures);
        self.remove_xdp_targets(&changes, &mut failures);
        self.write_pods(&changes, &mut failures);
        self.write_trie(&changes, &mut failures);
        self.write_settings(&changes, plan)?;
        self.change_hooks(&changes, kernel, &mut failures);
        self.add_xdp_targets(&changes, kernel, &mut failures);
        kernel::change(netlink, &changes, &mut failures).await;
        self.write_peers(&changes, &mut failures);
        failures.into_result()?;
        actual.apply(&changes);
        self.written = Some(actual);
        Ok(())
    }

    /// What the maps hold that only we write.
    fn read(&self) -> Result<Actual> {
        let peers = self.maps.peers()?.into_iter();
        Ok(Actual {
            routes: self.maps.routes()?,
            pods: self.maps.pods()?,
            peers: peers
                .filter_map(|(key, peer)| Some((plan::peer_name(&key)?.to_owned(), peer)))
                .collect(),
            ..Actual::default()
        })
    }

    fn write_pods(&mut self, changes: &Changes, failures: &mut Failures) {
        for &ifindex in &changes.pods_removed {
            failures.note(self.maps.remove_pod(ifindex));
        }
        for (&ifindex, pod) in &changes.pods_set {
            failures.note(self.maps.set_pod(ifindex, pod));
        }
    }

    fn write_settings(&mut self, changes: &Changes, plan: &Plan) -> Result<()> {
        self.settings.layout_version = LAYOUT_VERSION;
        self.settings.offload = self.offload as u8;
        self.settings.transit = u8::from(plan.transit);
        if changes.own_pod_cidrs.is_some() {
            info!(pod_cidrs = ?plan.own_pod_cidrs, "this node's own podCIDRs");
            plan::put_pod_cidrs(&plan.own_pod_cidrs, &mut self.settings);
        }
        for number in [&mut self.settings.generation, &mut self.settings.epoch] {
            *number = (*number).max(1);
        }
        if self.settings.tag_seed == 0 {
            self.settings.tag_seed = new_seed();
        }
        if self.maps.settings()? != self.settings {
            self.maps.set_settings(&self.settings)?;
        }
        Ok(())
    }

    fn change_hooks(&mut self, changes: &Changes, kernel: &Kernel, failures: &mut Failures) {
        let name = |ifindex: &u32| kernel.links.get(ifindex).map(|link| link.name.as_str());
        let mut detached = Vec::new();
        for attachment in &changes.detach {
            let (hook, ifindex) = *attachment;
            if failures.note(self.attachments.detach(hook, ifindex)) {
                let device = name(&ifindex).unwrap_or("a device that is gone");
                detached.push(format!("{} from {device}", hook.name()));
                self.current.remove(attachment);
            }
        }
        tell("detached", &detached);
        let mut attached = Vec::new();
        self.xdp_refused.clear();
        for attachment in &changes.attach {
            let (hook, ifindex) = *attachment;
            if hook.is_xdp() {
                attached.extend(self.attach_xdp(ifindex, name(&ifindex)));
                continue;
            }
            let done = name(&ifindex)
                .with_context(|| format!("the device with index {ifindex} is gone"))
                .and_then(|name| {
                    let device = Device { ifindex, name };
                    self.attachments.attach(&mut self.ebpf, hook, device)?;
                    attached.push(format!("{} to {name}", hook.name()));
                    Ok(())
                });
            if failures.note(done) {
                self.current.insert(*attachment);
            } else {
                self.mark_attach_failed(ifindex, failures);
            }
        }
        tell("attached", &attached);
    }

    /// So that `underpass pods` does not claim what is not so.
    fn mark_attach_failed(&mut self, ifindex: u32, failures: &mut Failures) {
        let mark = self.maps.pods().and_then(|pods| match pods.get(&ifindex) {
            Some(pod) => {
                let mut pod = *pod;
                pod.state = PodState::AttachFailed as u8;
                self.maps.set_pod(ifindex, &pod)
            }
            None => Ok(()),
        });
        failures.note(mark);
    }
}

/// Not 0, which means "none yet".
fn new_seed() -> u32 {
    (random::number() as u32).max(1)
}

fn next(number: u32) -> u32 {
    // 0 means "none" in a flow.
    number.checked_add(1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::next;

    #[test]
    fn a_generation_is_never_zero() {
        assert_eq!(next(1), 2);
        assert_eq!(next(u32::MAX), 1);
    }
}
