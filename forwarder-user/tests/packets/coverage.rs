//! Every verdict, at every hook that can give it, was given by a run in this test to a packet of each
//! family; the others are listed with the reason.

use std::collections::BTreeSet;

use underpass_common::verdict::{Hook, Verdict};

use crate::family::Family;
use crate::full::{run_with_full_table, with_full_table};
use crate::rig::with_rig;
use crate::table::run;
use crate::{
    always, confirmed, entrances, icmp_error, ipv6, key_check, mtu, parsing, quotes, sources, tcp,
    to_pod, to_wire, transit,
};

/// Verdicts that a hook cannot give, by the way it is written.
fn impossible(hook: Hook) -> &'static [(Verdict, &'static str)] {
    use Verdict::*;
    const EXITS_ONLY: &str = "only what comes out of the kernel can be compared";
    const ENTRANCES_ONLY: &str = "an exit watches: it looks for no flow to follow and no way out";
    match hook {
        Hook::FromPod => &[
            (NoEndpoint, "the way out of a pod's packets is a route"),
            (Confirmed, EXITS_ONLY),
            (Unwitnessed, EXITS_ONLY),
            (OtherNextHop, EXITS_ONLY),
            (FlowTableFull, EXITS_ONLY),
        ],
        Hook::FromWireXdp => unreachable!("it gives no reasons: see `express`"),
        Hook::FromWire => &[
            (
                NoRoute,
                "a pod is reached by an endpoint, and what no route holds is not in transit",
            ),
            (Confirmed, EXITS_ONLY),
            (Unwitnessed, EXITS_ONLY),
            (OtherNextHop, EXITS_ONLY),
            (FlowTableFull, EXITS_ONLY),
        ],
        Hook::ToWire => &[
            (
                NoEndpoint,
                "an unknown pod is judged by the note of its entrance",
            ),
            (Fast, ENTRANCES_ONLY),
            (TtlExpired, ENTRANCES_ONLY),
            (TcpOpening, ENTRANCES_ONLY),
            (TcpClosing, ENTRANCES_ONLY),
            (Unconfirmed, ENTRANCES_ONLY),
            (OtherEntrance, ENTRANCES_ONLY),
            (TooBig, ENTRANCES_ONLY),
            (WayOutGone, ENTRANCES_ONLY),
            (Dropped, ENTRANCES_ONLY),
        ],
        Hook::ToPod => &[
            (NoRoute, "a pod is reached by its veth, not by a route"),
            (Fast, ENTRANCES_ONLY),
            (TtlExpired, ENTRANCES_ONLY),
            (TcpOpening, ENTRANCES_ONLY),
            (TcpClosing, ENTRANCES_ONLY),
            (Unconfirmed, ENTRANCES_ONLY),
            (OtherEntrance, ENTRANCES_ONLY),
            (TooBig, ENTRANCES_ONLY),
            (WayOutGone, ENTRANCES_ONLY),
            (Dropped, ENTRANCES_ONLY),
        ],
    }
}

#[test]
fn every_verdict_is_given_by_every_hook_that_can() {
    const TEST: &str = "every_verdict_is_given_by_every_hook_that_can";
    let mut given = BTreeSet::new();
    with_rig(TEST, |rig| given.extend(run(rig, &all_rows())));
    with_full_table(TEST, |rig| given.extend(run_with_full_table(rig)));
    if given.is_empty() {
        return; // Skipped, and said so.
    }
    let mut wrong = Vec::new();
    let places = Family::ALL
        .into_iter()
        .flat_map(|family| Hook::TC.map(|hook| (family, hook)));
    for (family, hook) in places {
        let who = format!("{} to {}", hook.name(), family.name());
        for &verdict in Verdict::ALL {
            let why = impossible(hook).iter().find(|(one, _)| *one == verdict);
            match (given.contains(&(family, hook, verdict)), why) {
                (true, None) | (false, Some(_)) => {}
                (true, Some((_, why))) => wrong.push(format!("{who} gave {verdict:?}: {why}?")),
                (false, None) => wrong.push(format!("{who} never gave {verdict:?}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn all_rows() -> Vec<crate::table::Row> {
    let mut rows = Vec::new();
    for hook in [Hook::FromPod, Hook::FromWire] {
        rows.extend(always::rows(hook));
        rows.extend(confirmed::rows(hook));
        rows.extend(mtu::rows(hook));
        rows.extend(tcp::rows(hook));
        rows.extend(icmp_error::rows(hook));
        rows.extend(quotes::rows(hook));
    }
    for hook in Hook::TC {
        rows.extend(parsing::rows(hook));
        rows.extend(ipv6::rows(hook));
        rows.extend(key_check::rows(hook));
    }
    rows.extend(entrances::rows());
    rows.extend(sources::rows());
    rows.extend(to_wire::rows());
    rows.extend(to_pod::rows());
    rows.extend(transit::rows());
    rows
}
