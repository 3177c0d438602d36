//! Makes it so: the only writer of maps, links, routes and neighbours.
//!
//! The order of the writes, and why:
//! 1. the maps `pods` and `peers`: `to_pod` learns only what stands in `pods`
//! 2. trie and endpoints, deletions included, then the generation: a cached way out that was looked
//!    up before is looked up again after
//! 3. programs off devices that are no longer ours, entrances first: nothing enters the fast path
//!    that could not be watched at the exit
//! 4. routes and neighbours of the kernel: a peer leaves the trie before the kernel forgets it
//! 5. programs on devices, exits first

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::IpAddr;

use anyhow::Result;
use aya::Ebpf;
use tracing::{info, warn};
use underpass_common::agent::Agent as Record;
use underpass_common::endpoint::Endpoint;
use underpass_common::settings::{LAYOUT_VERSION, Offload, Settings};
use underpass_common::verdict::Hook;

use crate::config::Config;
use crate::datapath::attach::Device;
use crate::datapath::{Attachments, Loaded, Maps};
use crate::plan::{self, Plan};
use crate::world::Kernel;
use crate::world::netlink::Netlink;

/// The writer, and what it knows of what it wrote.
pub struct Applier {
    ebpf: Ebpf,
    maps: Maps,
    attachments: Attachments,
    settings: Settings,
    offload: Offload,
    /// Where the programs of this very process are attached: others are to be swapped.
    ours: BTreeSet<(Hook, u32)>,
    /// What the maps hold that only we write; `None`: to be read.
    written: Option<Written>,
}

/// What the maps hold that no program writes.
#[derive(Default)]
struct Written {
    routes: BTreeMap<ipnet::IpNet, underpass_common::route::Route>,
    pods: BTreeMap<u32, underpass_common::pod::Pod>,
    peers: BTreeMap<String, underpass_common::peer::Peer>,
}

/// Goes on after a failure, so that one device does not keep the others waiting, and tells the first.
#[derive(Default)]
struct Failures {
    first: Option<anyhow::Error>,
    count: usize,
}

impl Failures {
    fn note(&mut self, result: Result<()>) -> bool {
        if let Err(error) = result {
            self.count += 1;
            self.first.get_or_insert(error);
            return false;
        }
        true
    }

    fn result(self) -> Result<()> {
        match (self.first, self.count) {
            (None, _) => Ok(()),
            (Some(error), 1) => Err(error),
            (Some(error), count) => {
                Err(error.context(format!("{count} changes failed; the first")))
            }
        }
    }
}

impl Applier {
    /// Takes over what was loaded. Writes nothing yet.
    ///
    /// # Errors
    /// Where the maps cannot be read.
    pub fn new(loaded: Loaded, attachments: Attachments, config: &Config) -> Result<Self> {
        let settings = loaded.maps.settings()?;
        Ok(Self {
            ebpf: loaded.ebpf,
            maps: loaded.maps,
            attachments,
            settings,
            offload: config.offload,
            ours: BTreeSet::new(),
            written: None,
        })
    }

    /// The endpoints that the programs have learned.
    ///
    /// # Errors
    /// Where the map cannot be read.
    pub fn endpoints(&self) -> Result<BTreeMap<IpAddr, Endpoint>> {
        self.maps.endpoints()
    }

    /// Has every cached way out looked up again, with the next write of the settings.
    pub fn bump_generation(&mut self) {
        self.settings.generation = next(self.settings.generation);
    }

    /// Has every flow confirmed again, with the next write of the settings.
    pub fn doubt_confirmations(&mut self) {
        self.settings.epoch = next(self.settings.epoch);
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

    /// Makes the plan so. What fails is told at the end; everything else is done all the same.
    ///
    /// # Errors
    /// The first failure.
    pub async fn apply(&mut self, netlink: &Netlink, kernel: &Kernel, plan: &Plan) -> Result<()> {
        let mut failures = Failures::default();
        let mut written = match self.written.take() {
            Some(written) => written,
            None => self.read()?,
        };
        self.write_people(plan, &mut written, &mut failures);
        self.write_trie(plan, &mut written, &mut failures);
        self.forget_endpoints(plan, &mut failures)?;
        self.write_settings(plan)?;
        let attached = self.attachments.attached()?;
        self.ours.retain(|one| attached.contains(one));
        let wanted = wanted_hooks(plan);
        self.detach(&attached, &wanted, &mut failures);
        change_kernel(netlink, kernel, plan, &mut failures).await;
        self.attach(plan, &wanted, kernel, &mut written, &mut failures);
        self.written = Some(written);
        failures.result()
    }
}

impl Applier {
    fn read(&self) -> Result<Written> {
        Ok(Written {
            routes: self.maps.routes()?,
            pods: self.maps.pods()?,
            peers: self
                .maps
                .peers()?
                .into_iter()
                .filter_map(|(key, peer)| Some((plan::peer_name(&key)?.to_owned(), peer)))
                .collect(),
        })
    }

    fn write_people(&mut self, plan: &Plan, written: &mut Written, failures: &mut Failures) {
        for (&ifindex, pod) in &plan.pods {
            let record = pod.record();
            if written.pods.get(&ifindex) != Some(&record)
                && failures.note(self.maps.set_pod(ifindex, &record))
            {
                written.pods.insert(ifindex, record);
            }
        }
        written.pods.retain(|ifindex, _| {
            plan.pods.contains_key(ifindex) || !failures.note(self.maps.remove_pod(*ifindex))
        });
        for (name, peer) in &plan.peers {
            let record = peer.record();
            if written.peers.get(name) == Some(&record) {
                continue;
            }
            if let Some(key) = plan::peer_key(name)
                && failures.note(self.maps.set_peer(&key, &record))
            {
                written.peers.insert(name.clone(), record);
            }
        }
        written.peers.retain(|name, _| {
            plan.peers.contains_key(name)
                || plan::peer_key(name)
                    .is_none_or(|key| !failures.note(self.maps.remove_peer(&key)))
        });
    }

    fn write_trie(&mut self, plan: &Plan, written: &mut Written, failures: &mut Failures) {
        for (prefix, route) in &plan.routes {
            if written.routes.get(prefix) != Some(route)
                && failures.note(self.maps.set_route(prefix, route))
            {
                info!(%prefix, "route written");
                written.routes.insert(*prefix, *route);
                self.bump_generation();
            }
        }
        let gone: Vec<_> = written
            .routes
            .keys()
            .filter(|prefix| !plan.routes.contains_key(prefix))
            .copied()
            .collect();
        for prefix in gone {
            if failures.note(self.maps.remove_route(&prefix)) {
                info!(%prefix, "route removed");
                written.routes.remove(&prefix);
                self.bump_generation();
            }
        }
    }

    fn forget_endpoints(&mut self, plan: &Plan, failures: &mut Failures) -> Result<()> {
        for (address, endpoint) in self.maps.endpoints()? {
            let lives = plan.pods.get(&endpoint.ifindex).is_some_and(|pod| {
                pod.state == underpass_common::pod::PodState::Attached
                    && pod.mac == endpoint.pod_mac
                    && plan
                        .own_pod_cidrs
                        .iter()
                        .any(|cidr| cidr.contains(&address))
            });
            if !lives {
                failures.note(self.maps.remove_endpoint(&address));
                self.bump_generation();
            }
        }
        Ok(())
    }

    fn write_settings(&mut self, plan: &Plan) -> Result<()> {
        self.settings.layout_version = LAYOUT_VERSION;
        self.settings.offload = self.offload as u8;
        plan::put_pod_cidrs(&plan.own_pod_cidrs, &mut self.settings);
        for number in [&mut self.settings.generation, &mut self.settings.epoch] {
            *number = (*number).max(1);
        }
        if self.settings.tag_seed == 0 {
            self.settings.tag_seed = RandomState::new().build_hasher().finish() as u32;
        }
        if self.maps.settings()? != self.settings {
            self.maps.set_settings(&self.settings)?;
        }
        Ok(())
    }

    fn detach(
        &mut self,
        attached: &BTreeSet<(Hook, u32)>,
        wanted: &BTreeSet<(Hook, u32)>,
        failures: &mut Failures,
    ) {
        for &(hook, ifindex) in attached.difference(wanted) {
            if failures.note(self.attachments.detach(hook, ifindex)) {
                info!(hook = hook.name(), ifindex, "detached");
                self.ours.remove(&(hook, ifindex));
            }
        }
    }

    fn attach(
        &mut self,
        plan: &Plan,
        wanted: &BTreeSet<(Hook, u32)>,
        kernel: &Kernel,
        written: &mut Written,
        failures: &mut Failures,
    ) {
        for &(hook, ifindex) in wanted.difference(&self.ours.clone()) {
            let Some(link) = kernel.links.get(&ifindex) else {
                continue;
            };
            let device = Device {
                ifindex,
                name: &link.name,
            };
            if failures.note(self.attachments.attach(&mut self.ebpf, hook, device)) {
                info!(hook = hook.name(), device = link.name, "attached");
                self.ours.insert((hook, ifindex));
            } else if let Some(pod) = plan.pods.get(&ifindex) {
                let mut record = pod.record();
                record.state = underpass_common::pod::PodState::AttachFailed as u8;
                failures.note(self.maps.set_pod(ifindex, &record));
                written.pods.insert(ifindex, record);
            }
        }
    }
}

/// Exits before entrances, in the order of [`Hook`]'s set.
fn wanted_hooks(plan: &Plan) -> BTreeSet<(Hook, u32)> {
    let mut wanted = BTreeSet::new();
    for pod in plan.pods.values() {
        if pod.state == underpass_common::pod::PodState::Attached {
            wanted.extend([(Hook::ToPod, pod.ifindex), (Hook::FromPod, pod.ifindex)]);
        }
    }
    if let Some(uplink) = &plan.uplink {
        wanted.extend([
            (Hook::ToWire, uplink.ifindex),
            (Hook::FromWire, uplink.ifindex),
        ]);
    }
    wanted
}

/// Routes and neighbours.
async fn change_kernel(netlink: &Netlink, kernel: &Kernel, plan: &Plan, failures: &mut Failures) {
    use crate::world::RouteKind;
    use crate::world::netlink::{NextHop, PROTOCOL, RouteAdded};
    let mut have: BTreeMap<ipnet::IpNet, NextHop> = BTreeMap::new();
    for route in kernel
        .routes
        .iter()
        .filter(|route| route.protocol == PROTOCOL)
    {
        if let RouteKind::Gateway { gateway, ifindex } = route.kind {
            have.insert(route.destination, NextHop { gateway, ifindex });
        }
    }
    for (destination, next_hop) in &plan.kernel_routes {
        let result = match have.get(destination) {
            Some(old) if old == next_hop => continue,
            Some(old) => netlink.replace_route(*destination, *old, *next_hop).await,
            None => netlink
                .add_route(*destination, *next_hop)
                .await
                .map(|added| {
                    if added == RouteAdded::Taken {
                        warn!(%destination, "a route of somebody else is there: left alone");
                    }
                }),
        };
        failures.note(result);
    }
    for (destination, next_hop) in &have {
        if !plan.kernel_routes.contains_key(destination) {
            failures.note(netlink.delete_route(*destination, *next_hop).await);
        }
    }
    for &(ifindex, ip) in &plan.neighbours {
        let kept = kernel
            .neighbours
            .get(&(ifindex, ip))
            .is_some_and(|n| n.managed || n.permanent);
        if !kept {
            failures.note(netlink.keep_neighbour_fresh(ifindex, ip).await);
        }
    }
    for (&(ifindex, ip), neighbour) in &kernel.neighbours {
        if neighbour.managed
            && neighbour.protocol == PROTOCOL
            && !plan.neighbours.contains(&(ifindex, ip))
        {
            failures.note(netlink.release_neighbour(ifindex, ip).await);
        }
    }
}

fn next(number: u32) -> u32 {
    // 0 means "none" in a flow.
    number.checked_add(1).unwrap_or(1)
}
