//! What XDP needs, where it is asked for.

use std::collections::BTreeMap;

use underpass_common::verdict::Hook;

use super::Outcome::{Pass, Warn};
use super::{Facts, finding, findings, fit, foreign, no, port};
use crate::inspect::check::Outcome;
use crate::inspect::check::facts::{Foreign, Port, XdpFacts};
use crate::world::netlink::XdpFeatures;
use crate::xdp::XdpMode;

const UPLINK: u32 = 2;

/// A machine that nothing is wrong with, and where XDP is asked for.
fn fit_for_xdp() -> Facts {
    let mut facts = fit();
    facts.network.pods = [11, 12]
        .map(|ifindex| Port {
            ifindex,
            ..port(&format!("veth{ifindex}"))
        })
        .to_vec();
    let devices = [UPLINK, 11, 12].map(|ifindex| (ifindex, XdpFeatures::ALL));
    facts.network.xdp = Some(XdpFacts {
        mode: XdpMode::Native,
        sets_pod_gro: false,
        features: Ok(Some(devices.into())),
        why_not_native: "the driver has none".into(),
        vlans: Vec::new(),
        may_enter: Ok(true),
        hidden: Vec::new(),
    });
    facts
}

type Case = (fn(&mut Facts), &'static str, Outcome, &'static str);

fn judge(cases: &[Case]) {
    for (change, name, outcome, words) in cases {
        let mut facts = fit_for_xdp();
        change(&mut facts);
        let found = finding(&facts, name);
        assert_eq!(found.outcome, *outcome, "{found:?}");
        assert!(found.detail.contains(words), "{found:?}");
        assert_eq!(found.fix.is_none(), *outcome == Pass, "{found:?}");
    }
}

fn xdp(facts: &mut Facts) -> &mut XdpFacts {
    facts.network.xdp.as_mut().unwrap()
}

fn features(facts: &mut Facts) -> &mut BTreeMap<u32, XdpFeatures> {
    xdp(facts).features.as_mut().unwrap().as_mut().unwrap()
}

#[test]
fn nobody_looks_where_xdp_is_not_asked_for() {
    let (without, with) = (findings(&fit()), findings(&fit_for_xdp()));
    assert_eq!(with.len(), without.len() + 4);
    assert!(with.iter().all(|one| one.outcome == Pass), "{with:?}");
    assert!(without.iter().all(|one| !one.name.contains("XDP")));
}

const DRIVER: &str = "XDP in the driver";

#[test]
fn the_driver_and_its_place() {
    judge(&[
        (|_| {}, DRIVER, Pass, "eth0 runs programs"),
        (
            |it| {
                features(it).remove(&UPLINK);
            },
            DRIVER,
            Warn,
            "eth0: the driver has none; TC",
        ),
        (
            |it| {
                features(it).remove(&UPLINK);
                xdp(it).mode = XdpMode::Generic;
            },
            DRIVER,
            Pass,
            "not needed",
        ),
        (|it| xdp(it).features = Ok(None), DRIVER, Warn, "Linux 6.3"),
        (
            |it| xdp(it).features = Err(no("not permitted")),
            DRIVER,
            Warn,
            "not permitted",
        ),
        (
            |it| it.network.uplink = Err(no("no uplink")),
            DRIVER,
            Pass,
            "no uplink",
        ),
        (|_| {}, "XDP's place", Pass, "no program of others"),
        (
            |it| {
                it.network.programs = Ok(foreign(Hook::FromWire, true)
                    .into_iter()
                    .map(|one| Foreign {
                        is_xdp: true,
                        what: "XDP program guard (id 7, native mode)".into(),
                        ..one
                    })
                    .collect());
            },
            "XDP's place",
            Warn,
            "taken: XDP program guard (id 7, native mode); it is left alone",
        ),
        (
            |it| it.network.programs = Err(no("not permitted")),
            "XDP's place",
            Warn,
            "not permitted",
        ),
    ]);
}

#[test]
fn what_xdp_would_not_see_and_who_would_not_see_it() {
    const SIGHT: &str = "XDP and others";
    judge(&[
        (|_| {}, SIGHT, Pass, "no VLANs"),
        (
            |it| xdp(it).vlans = vec!["eth0.5".into()],
            SIGHT,
            Warn,
            "carries VLANs (eth0.5)",
        ),
        (
            |it| it.network.programs = Ok(foreign(Hook::FromWire, false)),
            SIGHT,
            Warn,
            "TCX program guard (id 7) on what comes in",
        ),
        // What goes out, and what comes from pods, XDP has nothing to do with.
        (
            |it| it.network.programs = Ok(foreign(Hook::ToWire, true)),
            SIGHT,
            Pass,
            "",
        ),
        (
            |it| it.network.programs = Ok(foreign(Hook::FromPod, true)),
            SIGHT,
            Pass,
            "",
        ),
    ]);
}

#[test]
fn pods_that_take_frames_and_who_makes_them() {
    const PODS: &str = "pods by XDP";
    const SET: &str = "--pod-gro set";
    judge(&[
        (|_| {}, PODS, Pass, "all 2 take frames"),
        (|it| it.network.pods.clear(), PODS, Pass, "none known"),
        (
            |it| {
                features(it).remove(&12);
            },
            PODS,
            Warn,
            "1 of 2 take frames; by TC, for GRO is off at the pod's end: veth12",
        ),
        (
            |it| {
                features(it).remove(&12);
                xdp(it).sets_pod_gro = true;
            },
            PODS,
            Pass,
            "1 of 2 take frames; the agent is to switch GRO on",
        ),
        (
            |it| xdp(it).features = Ok(None),
            PODS,
            Warn,
            "TC will have all",
        ),
        (|it| xdp(it).features = Err(no("odd")), PODS, Warn, "odd"),
        (
            |it| xdp(it).sets_pod_gro = true,
            SET,
            Pass,
            "can be entered",
        ),
        (
            |it| {
                xdp(it).sets_pod_gro = true;
                xdp(it).may_enter = Ok(false);
            },
            SET,
            Warn,
            "CAP_SYS_ADMIN is missing",
        ),
        (
            |it| {
                xdp(it).sets_pod_gro = true;
                xdp(it).may_enter = Err(no("untold"));
            },
            SET,
            Warn,
            "untold",
        ),
        (
            |it| {
                xdp(it).sets_pod_gro = true;
                xdp(it).hidden = vec!["veth11".into()];
            },
            SET,
            Warn,
            "not to be found of veth11",
        ),
    ]);
}
