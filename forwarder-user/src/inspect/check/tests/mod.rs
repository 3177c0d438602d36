//! Each check: passed, warned and failed as it can be.

mod network;
mod xdp;

use caps::Capability;
use underpass_common::verdict::Hook;

use super::facts::{
    Answer, Facts, Feature, Foreign, Machine, Network, Offloads, PeerFact, Peers, Port, Standing,
};
use super::{Finding, Outcome, findings, settings, show};
use crate::inspect::paint::Paint;
use crate::inspect::print::WIDTH;
use crate::neighbour_limits::{Limits, Table};
use crate::sysctl;

/// A machine that nothing is wrong with.
fn fit() -> Facts {
    let sysctls = [
        (sysctl::IPV4_FORWARD, 1),
        (sysctl::IPV6_FORWARD, 1),
        (sysctl::TCP_BE_LIBERAL, 1),
        (sysctl::TCP_LOOSE, 1),
        (settings::RP_FILTER_ALL, 0),
        (settings::RP_FILTER_UPLINK, 0),
        (settings::BRIDGE_NF, 1),
    ];
    let sysctls = sysctls.map(|(key, value)| (key.to_owned(), Ok(Some(value))));
    Facts {
        machine: Machine {
            release: "6.18.0".into(),
            version: Ok([6, 18, 0]),
            btf: true,
            features: vec![feature("bpf_check_mtu", Ok(true))],
            tcx: Ok(true),
            bpffs: Ok("/sys/fs/bpf/underpass".into()),
            missing_capabilities: Ok(Vec::new()),
        },
        sysctls: sysctls.into(),
        limits: Table::ALL
            .map(|table| (table, Ok(Some(Limits([128, 512, 1024])))))
            .to_vec(),
        network: Network {
            uplink: Ok(port("eth0")),
            uplink_is_wanted: true,
            extra_uplinks: Vec::new(),
            pods: vec![port("veth1"), port("veth2")],
            peers: Peers {
                source: Some("nodes file nodes.yaml".into()),
                error: None,
                list: vec![peer(2, Standing::Answers), peer(3, Standing::Answers)],
            },
            programs: Ok(Vec::new()),
            xdp: None,
        },
    }
}

fn feature(name: &'static str, there: Answer<bool>) -> Feature {
    Feature { name, there }
}

fn port(name: &str) -> Port {
    Port {
        ifindex: 2,
        name: name.into(),
        mtu: 1500,
        offloads: Offloads {
            gro: Some(true),
            tso: Some(true),
            gso: Some(true),
        },
        ..Port::default()
    }
}

fn peer(number: u8, standing: Standing) -> PeerFact {
    PeerFact {
        name: format!("node{number}"),
        address: Some([10, 0, 0, number].into()),
        standing,
    }
}

fn finding(facts: &Facts, name: &str) -> Finding {
    let mut findings = findings(facts).into_iter();
    let found = findings.find(|finding| finding.name == name);
    found.unwrap_or_else(|| panic!("nobody looks at {name}"))
}

/// A change to a fit machine, the check that notices it, how it is judged, and words of what is found.
type Case = (fn(&mut Facts), &'static str, Outcome, &'static str);

fn judge(cases: &[Case]) {
    for (change, name, result, words) in cases {
        let mut facts = fit();
        change(&mut facts);
        let finding = finding(&facts, name);
        assert_eq!(finding.outcome, *result, "{finding:?}");
        assert!(finding.detail.contains(words), "{finding:?}");
        let is_pass = *result == Outcome::Pass;
        let fix = finding.fix.as_deref();
        assert_eq!(fix.is_none_or(str::is_empty), is_pass, "{finding:?}");
    }
}

fn set(facts: &mut Facts, key: &str, value: Answer<Option<u64>>) {
    facts.sysctls.insert(key.into(), value);
}

fn no(text: &str) -> String {
    text.to_owned()
}

use Outcome::{Fail, Pass, Warn};

#[test]
fn a_fit_machine_passes_everywhere() {
    let findings = findings(&fit());
    assert!(findings.len() > 20, "{findings:?}");
    for finding in &findings {
        assert_eq!(
            (finding.outcome, &finding.fix),
            (Pass, &None),
            "{finding:?}"
        );
    }
    let mut names: Vec<_> = findings.iter().map(|finding| &finding.name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), findings.len(), "a name stands for one thing");
}

#[test]
fn the_kernel_and_what_it_can_do() {
    judge(&[
        (|_| {}, "kernel", Pass, "6.18.0"),
        (|it| it.machine.version = Ok([5, 12, 0]), "kernel", Pass, ""),
        (
            |it| it.machine.version = Ok([5, 11, 9]),
            "kernel",
            Fail,
            "5.12 is the oldest",
        ),
        (
            |it| it.machine.version = Err(no("odd")),
            "kernel",
            Warn,
            "odd",
        ),
        (
            |it| it.machine.features.push(feature("LPM tries", Ok(false))),
            "BPF features",
            Fail,
            "lacks LPM tries",
        ),
        (
            |it| {
                it.machine
                    .features
                    .push(feature("LPM tries", Err(no("not permitted"))))
            },
            "BPF features",
            Warn,
            "(LPM tries): not permitted",
        ),
        (|_| {}, "BPF features", Pass, "there: bpf_check_mtu"),
        (|it| it.machine.tcx = Ok(false), "TCX", Warn, "clsact"),
        (
            |it| it.machine.tcx = Err(no("not permitted")),
            "TCX",
            Warn,
            "not permitted",
        ),
        (|it| it.machine.btf = false, "BTF", Warn, "bpftool"),
        (
            |it| it.machine.bpffs = Err(no("is not")),
            "bpffs",
            Fail,
            "is not",
        ),
        (
            |it| it.machine.missing_capabilities = Ok(vec![Capability::CAP_BPF]),
            "capabilities",
            Fail,
            "missing: CAP_BPF",
        ),
        (
            |it| it.machine.missing_capabilities = Err(no("untold")),
            "capabilities",
            Warn,
            "untold",
        ),
    ]);
}

#[test]
fn settings_of_the_kernel() {
    judge(&[
        (
            |it| set(it, sysctl::IPV4_FORWARD, Ok(Some(0))),
            sysctl::IPV4_FORWARD,
            Warn,
            "no IPv4",
        ),
        (
            |it| set(it, sysctl::IPV6_FORWARD, Ok(Some(0))),
            sysctl::IPV6_FORWARD,
            Warn,
            "no IPv6",
        ),
        (
            |it| set(it, sysctl::IPV6_FORWARD, Ok(None)),
            sysctl::IPV6_FORWARD,
            Pass,
            "not in",
        ),
        (
            |it| set(it, sysctl::IPV4_FORWARD, Err(no("odd"))),
            sysctl::IPV4_FORWARD,
            Warn,
            "odd",
        ),
        (
            |it| set(it, sysctl::TCP_BE_LIBERAL, Ok(Some(0))),
            sysctl::TCP_BE_LIBERAL,
            Warn,
            "INVALID",
        ),
        (
            |it| set(it, sysctl::TCP_LOOSE, Ok(Some(0))),
            sysctl::TCP_LOOSE,
            Warn,
            "mid-stream",
        ),
        (
            |it| set(it, settings::RP_FILTER_ALL, Ok(Some(1))),
            "rp_filter",
            Warn,
            "all: 1, uplink: 0, strict",
        ),
        (
            |it| set(it, settings::RP_FILTER_UPLINK, Ok(Some(1))),
            "rp_filter",
            Warn,
            "uplink: 1, strict",
        ),
        (
            |it| {
                set(it, settings::RP_FILTER_UPLINK, Ok(Some(1)));
                set(it, settings::RP_FILTER_ALL, Ok(Some(2)));
            },
            "rp_filter",
            Pass,
            "all: 2, uplink: 1",
        ),
        (
            |it| set(it, settings::BRIDGE_NF, Ok(Some(0))),
            settings::BRIDGE_NF,
            Pass,
            "skip iptables",
        ),
        (
            |it| set(it, settings::BRIDGE_NF, Ok(None)),
            settings::BRIDGE_NF,
            Pass,
            "br_netfilter",
        ),
        (
            |it| {
                let peers = (0..400).map(|number: u16| {
                    let [high, low] = number.to_be_bytes();
                    PeerFact {
                        address: Some([10, 1, high, low].into()),
                        ..peer(9, Standing::Answers)
                    }
                });
                it.network.peers.list = peers.collect();
            },
            "neighbour table (IPv4)",
            Warn,
            "too few for 400 peers",
        ),
        (
            |it| it.limits[1].1 = Ok(None),
            "neighbour table (IPv6)",
            Pass,
            "not shown",
        ),
        (
            |it| it.limits[1].1 = Err(no("odd")),
            "neighbour table (IPv6)",
            Warn,
            "odd",
        ),
    ]);
}

fn foreign(hook: Hook, before_ours: bool) -> Vec<Foreign> {
    vec![Foreign {
        device: "eth0".into(),
        hook,
        what: "TCX program guard (id 7)".into(),
        before_ours,
        is_xdp: false,
    }]
}

#[test]
fn the_screen_keeps_its_width_and_the_json_its_form() {
    let mut facts = fit();
    facts.machine.version = Ok([5, 10, 0]);
    facts.machine.release = "5.10.0-32-amd64".into();
    facts.network.programs = Ok(foreign(Hook::FromWire, true));
    let findings = findings(&facts);
    let screen = show(&findings, Paint::PLAIN);
    assert!(
        screen.lines().all(|line| line.chars().count() <= WIDTH),
        "{screen}"
    );
    assert!(
        screen.starts_with(
            "FAIL  kernel: 5.10.0-32-amd64; 5.12 is the oldest that can work\n      fix: boot a newer"
        ),
        "{screen}"
    );
    assert!(screen.ends_with(" pass, 1 warn, 1 fail\n"), "{screen}");
    let coloured = show(&findings, Paint::COLOURED);
    assert!(
        coloured.starts_with("\x1b[31mFAIL\x1b[0m  kernel: "),
        "{coloured}"
    );
    let json = serde_json::to_value(&findings).unwrap();
    let expected = serde_json::json!({
        "name": "kernel",
        "outcome": "fail",
        "detail": "5.10.0-32-amd64; 5.12 is the oldest that can work",
        "fix": "boot a newer kernel, best 6.6 or later",
    });
    assert_eq!(json[0], expected);
    assert_eq!(json[2]["fix"], serde_json::Value::Null);
}
