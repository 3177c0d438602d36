//! The end of a walk: the road, and what would make it the fast one.

use underpass_common::addr::ShowMac;
use underpass_common::flow::WayOut;
use underpass_common::verdict::Verdict;

use super::confirmation::Flows;
use super::walk::{Stop, Walk};
use super::ways::Exit;
use super::{KernelWay, Road, Way, WayOutReport, words};

impl Walk<'_> {
    /// What came of it all.
    pub(super) fn end(&self, flows: &Flows, way_out: Option<WayOut>, exit: &Exit) -> Road {
        let mut road = Road {
            road: "kernel",
            verdict: None,
            meaning: None,
            why: String::new(),
            exit_verdict: None,
            to_be_fast: None,
            way_out: None,
            flows: flows.matching,
            fast_flows: flows.fast,
        };
        let verdict = match (&self.stop, way_out) {
            (None, Some(way_out)) => {
                road.road = "fast";
                road.why = self.why_fast(flows);
                road.way_out = Some(self.way_out_report(&way_out));
                Some(Verdict::Fast)
            }
            (stop, _) => {
                road.why = stop
                    .as_ref()
                    .map_or_else(String::new, |stop| stop.why.clone());
                road.exit_verdict = exit.verdict().map(Verdict::name);
                road.to_be_fast = Some(self.to_be_fast(stop.as_ref(), exit));
                stop.as_ref().and_then(|stop| stop.verdict)
            }
        };
        road.verdict = verdict.map(Verdict::name);
        road.meaning = verdict.map(|verdict| verdict.description().trim());
        road
    }

    fn why_fast(&self, flows: &Flows) -> String {
        match (flows.fast, flows.matching) {
            (0, _) => "offload is always, and the way out is known".to_owned(),
            (1, 1) => "the kernel has forwarded a packet of this flow, unchanged".to_owned(),
            (fast, all) => {
                format!("{fast} of the {all} flows that match; a new one begins in the kernel")
            }
        }
    }

    fn way_out_report(&self, way_out: &WayOut) -> WayOutReport {
        WayOutReport {
            device: self.s.device_name(way_out.ifindex),
            ifindex: way_out.ifindex,
            dst_mac: ShowMac(way_out.dst_mac).to_string(),
            src_mac: ShowMac(way_out.src_mac).to_string(),
            peer: match self.q.way {
                Way::Out | Way::Transit => self.s.peer_with(way_out.dst_mac).map(str::to_owned),
                Way::In => None,
            },
        }
    }

    /// What would have to be otherwise.
    fn to_be_fast(&self, stop: Option<&Stop>, exit: &Exit) -> String {
        let (s, hook) = (self.s, self.q.way.exit().name());
        let Some(verdict) = stop.and_then(|stop| stop.verdict) else {
            return words::ATTACH.to_owned();
        };
        match verdict {
            Verdict::Off => words::START.to_owned(),
            Verdict::NotPodTraffic if self.q.way == Way::Transit => {
                let why = stop.map_or("", |stop| &stop.why);
                format!("never as it stands: {why}")
            }
            Verdict::NotPodTraffic => words::OWN_PODS.to_owned(),
            Verdict::WayOutGone => words::FOLLOW.to_owned(),
            _ => match (exit, self.q.remote) {
                (Exit::Says(Verdict::Confirmed), _) => words::one_packet(hook),
                (Exit::Says(Verdict::NoRoute), Some(remote)) => {
                    format!("never as it stands: {}", words::no_route(s, remote))
                }
                (Exit::Says(Verdict::OtherNextHop), _) => words::next_hops(hook),
                (Exit::Says(Verdict::NoEndpoint), _) => {
                    let veth = self.place(self.q.way.exit());
                    let pod = veth.and_then(|veth| s.pods.get(&veth));
                    let why = words::pod_state(pod).unwrap_or("its veth is not known");
                    format!("never as it stands: {why}")
                }
                (Exit::Says(_), _) => words::one_packet(hook),
                (Exit::NeverThere(why), _) => self.never_there(why),
                (Exit::Unknown(why), _) => format!("{}; {why}", words::one_packet(hook)),
            },
        }
    }

    /// Of a Service's address the kernel's lookup says little: it is translated before.
    fn never_there(&self, why: &str) -> String {
        let is_local = self.s.kernel == KernelWay::Local;
        match self.q.remote {
            Some(remote) if self.q.way != Way::In && !is_local && !self.has_way_to(remote) => {
                format!("never as it stands: {}", words::no_route(self.s, remote))
            }
            _ => format!("never as it stands: {why}"),
        }
    }
}
