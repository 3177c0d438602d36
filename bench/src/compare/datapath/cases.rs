//! What is measured of each program: which packets, under which settings, to which verdict.

use underpass_common::settings::Offload;
use underpass_common::verdict::{Hook, Verdict};

/// Whose packets they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flows {
    /// Of the pod, and in the flow table, confirmed in both directions.
    Known,
    /// Of the pod, and in no table.
    New,
    /// Of the pod with a host that the trie has no route to.
    Outside,
    /// Of the node itself.
    OfHost,
    /// Of pods of other nodes, in by the node's second uplink and out by its first; in the flow table, confirmed.
    Transit,
}

/// What a packet carries in `tc_index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Witness {
    /// Nothing.
    None,
    /// The tag of the entrance.
    Right,
    /// The mark of a fast packet.
    Fast,
}

/// One program in one situation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub hook: Hook,
    pub name: &'static str,
    pub offload: Offload,
    pub flows: Flows,
    pub witness: Witness,
    /// What each packet must come to; `None`: it is not even counted.
    pub verdict: Option<Verdict>,
}

impl Case {
    /// What the program answers.
    pub fn answer(&self) -> i32 {
        match self.verdict {
            Some(Verdict::Fast) if self.hook.is_xdp() => XDP_REDIRECT,
            Some(Verdict::Fast) => TC_ACT_REDIRECT,
            _ => TCX_NEXT,
        }
    }

    /// Whether the node carries packets in transit at all.
    pub fn has_transit(&self) -> bool {
        self.flows == Flows::Transit
    }

    const fn at(hook: Hook, name: &'static str, flows: Flows, verdict: Verdict) -> Self {
        Self {
            hook,
            name,
            offload: Offload::Confirmed,
            flows,
            witness: Witness::None,
            verdict: Some(verdict),
        }
    }

    const fn always(self) -> Self {
        Self {
            offload: Offload::Always,
            ..self
        }
    }

    const fn with(self, witness: Witness) -> Self {
        Self { witness, ..self }
    }

    const fn uncounted(self) -> Self {
        Self {
            verdict: None,
            ..self
        }
    }
}

/// include/uapi/linux/pkt_cls.h
const TC_ACT_REDIRECT: i32 = 7;
/// include/uapi/linux/bpf.h
const TCX_NEXT: i32 = -1;
/// include/uapi/linux/bpf.h
const XDP_REDIRECT: i32 = 4;

/// All cases. `confirming` finds an entry that is confirmed already, and writes it anew: so it is for all packets that
/// the kernel forwards after a flow's first, which has to make the entry.
pub(super) const CASES: [Case; 16] = {
    use Flows::{Known, New, OfHost, Outside, Transit};
    use Hook::{FromPod, FromWire, FromWireXdp, ToPod, ToWire};
    use Verdict::{Confirmed, Fast, NotPodTraffic, Unconfirmed, Unwitnessed};
    [
        Case::at(FromPod, "fast", Known, Fast),
        Case::at(FromPod, "always", Known, Fast).always(),
        Case::at(FromPod, "miss", New, Unconfirmed),
        Case::at(FromWire, "fast", Known, Fast),
        Case::at(FromWire, "always", Known, Fast).always(),
        Case::at(FromWire, "miss", New, Unconfirmed),
        Case::at(FromWire, "host", OfHost, NotPodTraffic),
        Case::at(ToWire, "fast", Known, Fast)
            .with(Witness::Fast)
            .uncounted(),
        Case::at(ToWire, "confirming", Known, Confirmed).with(Witness::Right),
        Case::at(ToWire, "unwitnessed", Outside, Unwitnessed),
        Case::at(ToWire, "host", OfHost, NotPodTraffic),
        Case::at(ToPod, "confirming", Known, Confirmed).with(Witness::Right),
        Case::at(FromWire, "transit", Transit, Fast),
        Case::at(FromWire, "transit, always", Transit, Fast).always(),
        Case::at(FromWireXdp, "transit", Transit, Fast),
        Case::at(FromWireXdp, "transit, always", Transit, Fast).always(),
    ]
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn cases_have_names_of_their_own() {
        let names: BTreeSet<_> = CASES.iter().map(|it| (it.hook.name(), it.name)).collect();
        assert_eq!(names.len(), CASES.len());
    }

    #[test]
    fn a_fast_packet_is_redirected_and_any_other_passed_on() {
        assert_eq!(CASES[0].answer(), TC_ACT_REDIRECT);
        let marked = CASES.iter().find(|it| it.witness == Witness::Fast);
        assert_eq!(marked.unwrap().answer(), TCX_NEXT);
    }
}
