//! The walk: the decisions of the programs in their order, on a snapshot. Pure.
//!
//! It mirrors `entrance.rs` and `flow.rs` of the programs, and goes on after the first "the kernel's":
//! what comes behind tells whether the packet can ever be confirmed.

use std::net::IpAddr;

use underpass_common::addr::ShowMac;
use underpass_common::pod::PodIngress;
use underpass_common::settings::Offload;
use underpass_common::verdict::{Hook, Verdict};

use super::{Outcome, Question, Snapshot, Step, Trace, Way, words};

/// What would become of a packet.
pub fn walk(question: &Question, snapshot: &Snapshot) -> Trace {
    let mut walk = Walk {
        q: question,
        s: snapshot,
        steps: Vec::new(),
        stop: None,
    };
    walk.programs();
    walk.offload();
    walk.pod_cidrs();
    if question.way != Way::Transit {
        walk.pod();
    }
    let flows = walk.flows();
    let known = walk.look_up(flows.asks_anew);
    let way_out = flows.cached.or(known);
    walk.way_out(way_out);
    let exit = walk.kernel(known);
    let steps = std::mem::take(&mut walk.steps);
    Trace {
        node: snapshot.node.clone(),
        packet: question.report(),
        entrance: question.way.entrance().name(),
        exit: question.way.exit().name(),
        steps,
        result: walk.end(&flows, way_out, &exit),
    }
}

/// A walk under way.
pub(super) struct Walk<'a> {
    pub(super) q: &'a Question,
    pub(super) s: &'a Snapshot,
    steps: Vec<Step>,
    pub(super) stop: Option<Stop>,
}

/// Where the entrance leaves the packet to the kernel.
pub(super) struct Stop {
    /// `None`: no program sees it.
    pub(super) verdict: Option<Verdict>,
    /// Why, in a few words.
    pub(super) why: String,
}

impl Walk<'_> {
    pub(super) fn step(
        &mut self,
        step: &'static str,
        looked_at: impl Into<String>,
        found: impl Into<String>,
        outcome: Outcome,
    ) {
        self.steps.push(Step {
            step,
            looked_at: looked_at.into(),
            found: found.into(),
            outcome,
        });
    }

    /// The first reason is the one that counts.
    pub(super) fn stop(&mut self, verdict: impl Into<Option<Verdict>>, why: impl Into<String>) {
        let verdict = verdict.into();
        self.stop.get_or_insert_with(|| Stop {
            verdict,
            why: why.into(),
        });
    }

    /// The device that a hook is on for this packet, where it is known.
    pub(super) fn place(&self, hook: Hook) -> Option<u32> {
        match hook {
            Hook::FromPod | Hook::ToPod => self.s.veth_of(self.q.pod),
            Hook::ToWire => self.s.uplink_to(self.q.remote),
            Hook::FromWire | Hook::FromWireXdp => self.s.uplink_to(self.q.sender()),
        }
    }

    pub(super) fn is_attached(&self, hook: Hook) -> Option<bool> {
        let ifindex = self.place(hook)?;
        Some(self.s.attached.contains(&(hook, ifindex)))
    }

    /// Those of the hooks of which it is so.
    fn names(&self, hooks: [Hook; 2], attached: Option<bool>) -> String {
        let those = hooks
            .iter()
            .filter(|hook| self.is_attached(**hook) == attached);
        let names: Vec<_> = those.map(|hook| hook.name()).collect();
        names.join(", ")
    }

    /// The program before the entrance: it carries what the entrance would, or lets it pass.
    fn xdp(&mut self) {
        let hook = Hook::FromWireXdp;
        let uplink = self.place(hook).map(|uplink| self.s.device(uplink));
        let on = format!("{} on {}", hook.name(), uplink.unwrap_or_default());
        if self.q.way == Way::Transit {
            let found =
                "carries what is confirmed, if it has its checksum and the other uplink takes it";
            return self.step("xdp", on, found.to_owned(), Outcome::Ok);
        }
        let looked_at = format!("{on}, pods");
        let veth = self.s.veth_of(self.q.pod);
        let ingress = veth
            .and_then(|veth| self.s.pods.get(&veth))
            .map(|pod| pod.ingress);
        let found = match ingress.and_then(PodIngress::from_number) {
            Some(PodIngress::Xdp) => "carries what is confirmed, if it has its checksum",
            Some(PodIngress::TcNoGro) => "lets it pass: GRO is off at the pod's end of the veth",
            _ => "lets it pass: the pod takes nothing from XDP",
        };
        self.step("xdp", looked_at, found.to_owned(), Outcome::Ok);
    }

    fn programs(&mut self) {
        let hooks = [self.q.way.entrance(), self.q.way.exit()];
        let places = hooks.map(|hook| {
            let place = self.place(hook);
            let unknown = match hook {
                Hook::FromPod | Hook::ToPod => "the pod's veth, not known yet".to_owned(),
                Hook::ToWire | Hook::FromWire | Hook::FromWireXdp => {
                    "the uplink, of which there is none".to_owned()
                }
            };
            let device = place.map_or(unknown, |ifindex| self.s.device(ifindex));
            format!("{} on {device}", hook.name())
        });
        let missing = self.names(hooks, Some(false));
        let unknown = self.names(hooks, None);
        let (found, outcome) = match (missing.as_str(), unknown.as_str()) {
            ("", "") => ("attached".to_owned(), Outcome::Ok),
            ("", unknown) => (
                format!("attached, but for {unknown}: not known"),
                Outcome::Ok,
            ),
            (missing, _) => (format!("NOT attached: {missing}"), Outcome::Kernel),
        };
        self.step("programs", places.join(", "), found, outcome);
        if hooks[0] == Hook::FromWire && self.is_attached(Hook::FromWireXdp) == Some(true) {
            self.xdp();
        }
        let [entrance, _] = hooks;
        let has_uplink = self.place(Hook::FromWire).is_some();
        if self.is_attached(entrance) == Some(false) || !has_uplink {
            self.stop(None, "no program of ours sees it");
        }
    }

    fn offload(&mut self) {
        let settings = &self.s.settings;
        let [off, confirmed, always] =
            [Offload::Off, Offload::Confirmed, Offload::Always].map(|mode| mode as u8);
        let counters = format!(
            "generation {}, epoch {}",
            settings.generation, settings.epoch
        );
        let found = match settings.offload {
            mode if mode == off => "off".to_owned(),
            mode if mode == confirmed => format!("confirmed; {counters}"),
            mode if mode == always => format!("always; {counters}"),
            other => format!("unknown ({other}), taken for confirmed; {counters}"),
        };
        let is_off = settings.is_off();
        self.step("offload", "settings", found, kernels(is_off));
        if is_off {
            self.stop(Verdict::Off, "offload is off");
        }
    }

    fn pod_cidrs(&mut self) {
        let cidrs: Vec<_> = self.s.pod_cidrs().iter().map(ToString::to_string).collect();
        let looked_at = format!("own podCIDRs: {}", cidrs.join(" "));
        if self.q.way == Way::Transit {
            return self.transit(looked_at);
        }
        let (found, is_own) = match self.q.pod {
            None => ("any pod of this node".to_owned(), true),
            Some(pod) if self.s.is_own(pod) => (format!("{pod} is in there"), true),
            Some(pod) => (format!("{pod} is not in there"), false),
        };
        self.step("pod_cidrs", looked_at, &found, kernels(!is_own));
        if !is_own {
            self.stop(Verdict::NotPodTraffic, found);
        }
    }

    /// Of what comes in by an uplink, and is for nobody here, only what is for a peer's pods is looked at.
    fn transit(&mut self, looked_at: String) {
        let Some(remote) = self.q.remote.filter(|remote| !self.has_way_to(*remote)) else {
            let found = "neither end is in there: in transit, from uplink to uplink";
            return self.step("pod_cidrs", looked_at, found, Outcome::Ok);
        };
        let found = "neither end is in there, and no peer's pods are at the destination";
        self.step("pod_cidrs", looked_at, found, Outcome::Kernel);
        self.stop(Verdict::NotPodTraffic, words::no_route(self.s, remote));
    }

    pub(super) fn has_way_to(&self, remote: IpAddr) -> bool {
        let route = self.s.route(remote);
        route.is_some_and(|(_, route)| !route.is_kernels())
    }

    fn pod(&mut self) {
        let Some(pod) = self.q.pod else {
            let found = "no pod's address is known yet: nothing has been delivered to one";
            return self.step("pod", "endpoints", found, Outcome::Note);
        };
        let Some(veth) = self.s.veth_of(Some(pod)) else {
            let found = "its veth is not known: the kernel has delivered nothing to it yet";
            return self.step(
                "pod",
                format!("endpoints, neighbours: {pod}"),
                found,
                Outcome::Note,
            );
        };
        let learned = match self.s.endpoints.get(&pod) {
            Some(endpoint) => format!(
                "learned: pod {}, gateway {}",
                ShowMac(endpoint.pod_mac),
                ShowMac(endpoint.gateway_mac)
            ),
            None => "nothing learned yet".to_owned(),
        };
        let state = words::pod_state(self.s.pods.get(&veth));
        let found = match state {
            None => format!("{}, attached; {learned}", self.s.device(veth)),
            Some(why) => format!("{}: {why}", self.s.device(veth)),
        };
        let looked_at = format!("endpoints, pods: {pod}");
        self.step("pod", looked_at, found, kernels(state.is_some()));
    }
}

pub(super) fn kernels(is_kernels: bool) -> Outcome {
    match is_kernels {
        true => Outcome::Kernel,
        false => Outcome::Ok,
    }
}
