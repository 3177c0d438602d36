//! The ways: that of trie or endpoints, that of the kernel, and what the exit makes of the two.

use std::net::IpAddr;

use underpass_common::addr::{Mac, ShowMac};
use underpass_common::flow::WayOut;
use underpass_common::route::Route;
use underpass_common::verdict::Verdict;

use super::walk::{Walk, kernels};
use super::{KernelWay, Outcome, Way, words};

/// What the exit would say of the packet, should the kernel forward it untranslated.
pub(super) enum Exit {
    /// A verdict.
    Says(Verdict),
    /// Nothing: it never gets there.
    NeverThere(String),
    /// Nobody can tell.
    Unknown(String),
}

impl Exit {
    pub(super) fn verdict(&self) -> Option<Verdict> {
        match self {
            Self::Says(verdict) => Some(*verdict),
            Self::NeverThere(_) | Self::Unknown(_) => None,
        }
    }
}

/// A frame of the kernel's.
#[derive(Clone, Copy)]
struct Sent {
    /// Interface that the route leads to: the pods' bridge, or the device itself.
    ifindex: u32,
    /// `None`: not resolved yet.
    dst_mac: Option<Mac>,
    src_mac: Option<Mac>,
}

impl Walk<'_> {
    /// Trie or endpoints. `is_asked`: the entrance needs them, and has no cached way out.
    pub(super) fn look_up(&mut self, is_asked: bool) -> Option<WayOut> {
        match (self.q.way, self.q.remote) {
            (Way::Out | Way::Transit, Some(remote)) => self.route(remote, is_asked),
            (Way::Out | Way::Transit, None) => None,
            (Way::In, _) => self.endpoint(is_asked),
        }
    }

    fn route(&mut self, remote: IpAddr, is_asked: bool) -> Option<WayOut> {
        let map = if remote.is_ipv6() {
            "routes_v6"
        } else {
            "routes_v4"
        };
        let looked_at = format!("{map}: {remote}");
        let ways = self
            .s
            .route(remote)
            .filter(|(_, route)| !route.is_kernels());
        let Some((prefix, route)) = ways else {
            let why = words::no_route(self.s, remote);
            self.step("route", looked_at, &why, Outcome::Kernel);
            if is_asked {
                self.stop(Verdict::NoRoute, why);
            }
            return None;
        };
        let found = format!("{prefix}: {}", self.shown_route(&route));
        self.step("route", looked_at, found, Outcome::Ok);
        Some(route.into())
    }

    fn shown_route(&self, route: &Route) -> String {
        let peer = self.s.peer_with(route.peer_mac);
        let peer = peer.map_or_else(String::new, |name| format!(" ({name})"));
        let (mac, device) = (ShowMac(route.peer_mac), self.s.device(route.ifindex));
        format!("to {mac}{peer} on {device}")
    }

    fn endpoint(&mut self, is_asked: bool) -> Option<WayOut> {
        let pod = self.q.pod?;
        let map = if pod.is_ipv6() {
            "endpoints_v6"
        } else {
            "endpoints_v4"
        };
        let looked_at = format!("{map}: {pod}");
        let Some(endpoint) = self.s.endpoints.get(&pod) else {
            let why = "the kernel has not been seen to deliver anything to it yet";
            self.step("endpoint", looked_at, why, Outcome::Note);
            if is_asked {
                self.stop(Verdict::NoEndpoint, why);
            }
            return None;
        };
        let (mac, device) = (ShowMac(endpoint.pod_mac), self.s.device(endpoint.ifindex));
        self.step(
            "endpoint",
            looked_at,
            format!("{mac} behind {device}"),
            Outcome::Ok,
        );
        Some((*endpoint).into())
    }

    pub(super) fn way_out(&mut self, way_out: Option<WayOut>) {
        let Some(way_out) = way_out else {
            return;
        };
        let device = self.s.device(way_out.ifindex);
        let Some(link) = self.s.links.get(&way_out.ifindex) else {
            self.step(
                "way_out",
                device,
                "there is no such device",
                Outcome::Kernel,
            );
            return self.stop(Verdict::WayOutGone, "its device is gone");
        };
        let (found, outcome) = match link.up {
            true => (
                format!("up, MTU {}: what is larger is the kernel's", link.mtu),
                Outcome::Ok,
            ),
            false => ("DOWN: what goes there is lost".to_owned(), Outcome::Note),
        };
        self.step("way_out", device, found, outcome);
    }

    /// What the kernel would do with the packet, and what the exit would say of that.
    pub(super) fn kernel(&mut self, known: Option<WayOut>) -> Exit {
        let (exit, found) = match &self.s.kernel {
            KernelWay::Forwards {
                ifindex,
                next_hop,
                neighbour,
            } => {
                let found = format!("via {next_hop} on {}", self.s.device(*ifindex));
                self.step("kernel_route", self.asked(), found, Outcome::Ok);
                let mac = neighbour.as_ref().and_then(|neighbour| neighbour.mac);
                self.neighbour(*ifindex, *next_hop);
                let sent = Sent {
                    ifindex: *ifindex,
                    dst_mac: mac,
                    src_mac: self.s.links.get(ifindex).map(|link| link.mac),
                };
                return self.exit(&sent, known);
            }
            KernelWay::Unknown(why) => (Exit::Unknown(why.clone()), why.clone()),
            KernelWay::Local => {
                let found = "for this node itself".to_owned();
                (Exit::NeverThere(found.clone()), found)
            }
            KernelWay::Drops(why) => {
                let found = format!("the kernel drops it: {why}");
                (Exit::NeverThere(found.clone()), found)
            }
        };
        self.step("kernel_route", self.asked(), found, Outcome::Kernel);
        exit
    }

    /// What the kernel was asked.
    fn asked(&self) -> String {
        let show = |ip: Option<IpAddr>| ip.map_or_else(String::new, |ip| ip.to_string());
        let packet = self.q.report();
        match packet.from {
            Some(from) => format!("routes: {} from {from}", show(packet.to)),
            None => format!("routes: {}", show(packet.to)),
        }
    }

    fn neighbour(&mut self, ifindex: u32, next_hop: IpAddr) {
        let KernelWay::Forwards { neighbour, .. } = &self.s.kernel else {
            return;
        };
        let (found, outcome) = match neighbour {
            None => (
                "no entry: asked for with the next packet".to_owned(),
                Outcome::Note,
            ),
            Some(now) => match now.mac {
                Some(mac) => (format!("{}, {}", ShowMac(mac), now.state), Outcome::Ok),
                None => (format!("no MAC, {}", now.state), Outcome::Note),
            },
        };
        let looked_at = format!("neighbours: {next_hop} on {}", self.s.device_name(ifindex));
        self.step("neighbour", looked_at, found, outcome);
    }

    fn exit(&mut self, sent: &Sent, known: Option<WayOut>) -> Exit {
        match self.q.way {
            Way::Out | Way::Transit => self.at_uplink(sent, known),
            Way::In => self.at_veth(sent, known),
        }
    }

    /// `to_wire` of the programs.
    fn at_uplink(&mut self, sent: &Sent, known: Option<WayOut>) -> Exit {
        let hook = self.q.way.exit();
        if !self.s.attached.contains(&(hook, sent.ifindex)) {
            let device = self.s.device_name(sent.ifindex);
            let why = format!(
                "the kernel sends it out of {device}, where {} is not",
                hook.name()
            );
            self.step("agreement", "trie and kernel", &why, Outcome::Kernel);
            return Exit::NeverThere(why);
        }
        let Some(known) = known else {
            return Exit::Says(match self.q.way {
                Way::Transit => Verdict::NotPodTraffic,
                Way::Out | Way::In => Verdict::NoRoute,
            });
        };
        let agree = known.ifindex == sent.ifindex
            && sent.dst_mac.is_none_or(|mac| mac == known.dst_mac)
            && sent.src_mac == Some(known.src_mac);
        let found = match (agree, sent.dst_mac) {
            (true, Some(_)) => "they agree".to_owned(),
            (true, None) => {
                "nothing against it, until the kernel knows its next hop's MAC".to_owned()
            }
            (false, _) => self.disagreement(sent, &known),
        };
        self.step("agreement", "trie and kernel", found, kernels(!agree));
        Exit::Says(match agree {
            true => Verdict::Confirmed,
            false => Verdict::OtherNextHop,
        })
    }

    fn disagreement(&self, sent: &Sent, known: &WayOut) -> String {
        let known = Sent {
            ifindex: known.ifindex,
            dst_mac: Some(known.dst_mac),
            src_mac: Some(known.src_mac),
        };
        format!(
            "they DISAGREE: the trie has {}, the kernel sends {}. The kernel wins: nothing is confirmed so; \
             what has been goes on by the trie until its next change",
            self.frame(&known),
            self.frame(sent)
        )
    }

    /// `02:4e:00:00:00:01 -> 02:4e:00:00:00:02 (node2) on eth0`.
    fn frame(&self, sent: &Sent) -> String {
        let show = |mac: Option<Mac>| mac.map_or("?".to_owned(), |mac| ShowMac(mac).to_string());
        let peer = sent.dst_mac.and_then(|mac| self.s.peer_with(mac));
        let peer = peer.map_or_else(String::new, |name| format!(" ({name})"));
        let (from, to) = (show(sent.src_mac), show(sent.dst_mac));
        format!(
            "{from} -> {to}{peer} on {}",
            self.s.device_name(sent.ifindex)
        )
    }

    /// `to_pod` of the programs.
    fn at_veth(&mut self, sent: &Sent, known: Option<WayOut>) -> Exit {
        let hook = self.q.way.exit();
        let Some(veth) = self.place(hook) else {
            let why = "which veth the pod is behind shows with the first packet";
            self.step("agreement", "pods and kernel", why, Outcome::Note);
            return Exit::Unknown(why.into());
        };
        let device = self.s.device_name(veth);
        let is_there = self.leads_to(sent.ifindex, veth);
        if !is_there || !self.s.attached.contains(&(hook, veth)) {
            let why = match is_there {
                true => format!("{} is not on {device}", hook.name()),
                false => format!(
                    "the kernel sends it out of {}, not to {device}",
                    self.s.device_name(sent.ifindex)
                ),
            };
            self.step("agreement", "pods and kernel", &why, Outcome::Kernel);
            return Exit::NeverThere(why);
        }
        let pod = self.s.pods.get(&veth);
        if words::pod_state(pod).is_some() {
            return Exit::Says(Verdict::NoEndpoint);
        }
        let fits = sent
            .dst_mac
            .is_none_or(|mac| pod.is_some_and(|pod| pod.mac == mac));
        let found = match fits {
            true => agreement(sent, known),
            false => format!(
                "they DISAGREE: the kernel sends {}, which is not the MAC behind {device}. The kernel wins: \
                 nothing is confirmed so",
                self.frame(sent)
            ),
        };
        self.step("agreement", "pods and kernel", found, kernels(!fits));
        Exit::Says(match fits {
            true => Verdict::Confirmed,
            false => Verdict::OtherNextHop,
        })
    }

    /// True where what is sent out of a device may come to a veth: the same, or a port of it.
    fn leads_to(&self, ifindex: u32, veth: u32) -> bool {
        let master = self.s.links.get(&veth).and_then(|link| link.master);
        ifindex == veth || master == Some(ifindex)
    }
}

/// What an endpoint holds against what the kernel sends, where both fit the pod's veth.
fn agreement(sent: &Sent, known: Option<WayOut>) -> String {
    let Some(known) = known else {
        return "they agree; the endpoint is learned with the first packet".into();
    };
    let agree = sent.dst_mac.is_none_or(|mac| mac == known.dst_mac)
        && sent.src_mac.is_none_or(|mac| mac == known.src_mac);
    match agree {
        true => "they agree".into(),
        false => {
            "the endpoint is older than what the kernel sends: learned anew with its next packet"
                .into()
        }
    }
}
