//! The flow table: `flow.rs` of the programs, with words.

use std::net::IpAddr;

use underpass_common::addr::{NO_MAC, ShowMac};
use underpass_common::flow::{Entrance, Flow, FlowKey, WayOut, confirmed};
use underpass_common::settings::Offload;
use underpass_common::verdict::Verdict;

use super::walk::{Walk, kernels};
use super::{Outcome, Way, words};

/// What the flow table says of the packet.
#[derive(Default)]
pub(super) struct Flows {
    /// Entries that match.
    pub(super) matching: usize,
    /// How many of them go fast in this direction.
    pub(super) fast: usize,
    /// The cached way out of one that goes fast.
    pub(super) cached: Option<WayOut>,
    /// The way out is to be looked up, as trie or endpoints have it now.
    pub(super) asks_anew: bool,
}

/// What a confirmed direction has for its packets.
enum Cached {
    Fresh(WayOut),
    Outdated,
}

impl Walk<'_> {
    /// The table, and whether one of its entries is confirmed for the packet.
    pub(super) fn flows(&mut self) -> Flows {
        if self.s.settings.offload == Offload::Always as u8 {
            return self.always();
        }
        let s = self.s;
        let matching: Vec<_> = s
            .flows
            .iter()
            .filter(|(key, _)| self.q.is_of(key))
            .collect();
        self.flow_step(&matching);
        let judged: Vec<_> = matching
            .iter()
            .map(|(key, flow)| (key, self.judge(key, flow)))
            .collect();
        let fast = judged.iter().filter(|(_, judged)| judged.is_ok()).count();
        let best = judged
            .iter()
            .find(|(_, judged)| judged.is_ok())
            .or(judged.first());
        let mut flows = Flows {
            matching: matching.len(),
            fast,
            ..Flows::default()
        };
        let Some((key, judged)) = best else {
            self.stop(Verdict::Unconfirmed, "there is no entry of such a flow");
            return flows;
        };
        let looked_at = format!(
            "{fast} of {} confirmed; {}",
            matching.len(),
            words::flow(key)
        );
        match judged {
            Ok((cached, found)) => {
                self.step("confirmation", looked_at, found, Outcome::Ok);
                match cached {
                    Cached::Fresh(way_out) => flows.cached = Some(*way_out),
                    Cached::Outdated => flows.asks_anew = true,
                }
            }
            Err((verdict, why)) => {
                self.step("confirmation", looked_at, why, Outcome::Kernel);
                self.stop(*verdict, why);
            }
        }
        flows
    }

    fn flow_step(&mut self, matching: &[&(FlowKey<IpAddr>, Flow)]) {
        const SHOWN: usize = 3;
        let map = if self.q.is_ipv6() {
            "flows_v6"
        } else {
            "flows_v4"
        };
        let named: Vec<_> = matching.iter().map(|(key, _)| words::flow(key)).collect();
        let found = match named.len() {
            0 => "no entry".to_owned(),
            1..=SHOWN => named.join(", "),
            all => format!("{all}: {}, ...", named[..SHOWN].join(", ")),
        };
        let looked_at = format!("{map}: {}", self.q.report().line());
        self.step("flow", looked_at, found, kernels(matching.is_empty()));
    }

    /// `--offload always`: by the trie alone, for a pod at its own veth.
    fn always(&mut self) -> Flows {
        let learned = self
            .q
            .pod
            .is_some_and(|pod| self.s.endpoints.contains_key(&pod));
        self.step(
            "flow",
            "offload always",
            "not asked: the trie decides",
            Outcome::Ok,
        );
        if self.q.way == Way::Out && !learned {
            self.stop(Verdict::OtherEntrance, "nothing is known of the pod's veth");
        }
        Flows {
            asks_anew: true,
            ..Flows::default()
        }
    }

    /// `flow::way_out()` of the programs, with words.
    fn judge(
        &self,
        key: &FlowKey<IpAddr>,
        flow: &Flow,
    ) -> Result<(Cached, String), (Verdict, String)> {
        let direction = match self.q.way {
            Way::Out | Way::Transit => flow.egress,
            Way::In => flow.ingress,
        };
        let now = &self.s.settings;
        let unconfirmed = |why: String| Err((Verdict::Unconfirmed, why));
        if direction.confirmed == confirmed::NO {
            return unconfirmed("this direction is not confirmed".into());
        }
        if direction.epoch != now.epoch {
            return unconfirmed(format!(
                "confirmed in epoch {}, and now is {}: the kernel's policy routing has changed since",
                direction.epoch, now.epoch
            ));
        }
        if direction.generation == 0 {
            return unconfirmed("its entry is just being written".into());
        }
        if let Some(entrance) = self.entrance(key)
            && entrance != direction.entrance
        {
            return Err((
                Verdict::OtherEntrance,
                self.other(&direction.entrance, &entrance),
            ));
        }
        let how = words::confirmation(self.s, &direction);
        Ok(if direction.generation == now.generation {
            (Cached::Fresh(direction.way_out), how)
        } else {
            (
                Cached::Outdated,
                format!("{how}, by now {}: looked up again", now.generation),
            )
        })
    }

    /// Where a packet of that flow comes in, as far as it is known.
    fn entrance(&self, key: &FlowKey<IpAddr>) -> Option<Entrance> {
        match self.q.way {
            Way::In | Way::Transit if !self.s.settings.has_transit() => Some(Entrance::WIRE),
            // Which one its packets come in by is known where the trie has its sender.
            Way::In | Way::Transit => {
                let (_, route) = self.s.route(self.sender_of(key))?;
                let ifindex = Some(route.ifindex).filter(|ifindex| *ifindex != 0)?;
                Some(Entrance {
                    ifindex,
                    ..Entrance::WIRE
                })
            }
            Way::Out => self.s.endpoints.get(&key.pod).map(|endpoint| Entrance {
                ifindex: endpoint.ifindex,
                mac: endpoint.gateway_mac,
                _pad: [0; 2],
            }),
        }
    }

    /// Who sends a flow's packets in the question's direction.
    fn sender_of(&self, key: &FlowKey<IpAddr>) -> IpAddr {
        match self.q.way {
            Way::Out | Way::Transit => key.pod,
            Way::In => key.remote,
        }
    }

    fn other(&self, confirmed: &Entrance, now: &Entrance) -> String {
        let show = |one: &Entrance| match (one.ifindex, one.mac) {
            (0, _) => "the wire".to_owned(),
            (uplink, NO_MAC) => self.s.device(uplink),
            (veth, mac) => format!("{} to {}", self.s.device(veth), ShowMac(mac)),
        };
        let (confirmed, now) = (show(confirmed), show(now));
        match self.q.way {
            Way::Out => format!("confirmed from {confirmed}, and the pod is at {now}"),
            Way::In | Way::Transit => {
                format!("confirmed from {confirmed}, and its sender is reached by {now}")
            }
        }
    }
}
