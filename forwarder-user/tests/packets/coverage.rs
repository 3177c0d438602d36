//! Every verdict, at every hook that can give it, was given by a run in this test; the others are
//! listed with the reason.

use std::collections::BTreeSet;

use underpass_common::verdict::{Hook, Verdict};

use crate::full::{run_with_full_table, with_full_table};
use crate::rig::with_rig;
use crate::table::{Family, run};
use crate::{always, confirmed, entrances, mtu, parsing, tcp, to_pod, to_wire};

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
        Hook::FromWire => &[
            (NoRoute, "the way out of a packet for a pod is an endpoint"),
            (OtherEntrance, "all uplinks are one entrance"),
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

/// Verdicts on what has no twin: `v6_headers` and `icmp_errors` have packets of their own for them, but for
/// one that is lost after the first write, which needs a tunnel's header.
const OF_NO_TWIN: [Verdict; 6] = [
    Verdict::Dropped,
    Verdict::NotIp,
    Verdict::Malformed,
    Verdict::IpOptions,
    Verdict::Fragment,
    Verdict::Icmp,
];

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
    for (family, hook) in [Family::V4, Family::V6]
        .into_iter()
        .flat_map(|f| Hook::ALL.map(|h| (f, h)))
    {
        for &verdict in Verdict::ALL {
            let why = impossible(hook).iter().find(|(one, _)| *one == verdict);
            match (given.contains(&(family, hook, verdict)), why) {
                (true, None) | (false, Some(_)) => {}
                (true, Some((_, why))) => {
                    wrong.push(format!("{hook:?} gave {verdict:?} ({family:?}): {why}?"));
                }
                (false, None) if family == Family::V6 && OF_NO_TWIN.contains(&verdict) => {}
                (false, None) => {
                    wrong.push(format!("{hook:?} never gave {verdict:?} ({family:?})"))
                }
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
    }
    rows.extend(Hook::ALL.into_iter().flat_map(parsing::rows));
    rows.extend(entrances::rows());
    rows.extend(to_wire::rows());
    rows.extend(to_pod::rows());
    rows
}
