//! Any bytes in the pinned maps.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use serde::Serialize;
use serde_json::Value;
use underpass_common::agent::Agent;
use underpass_common::flow::{Flow, FlowKey};
use underpass_common::peer::{Peer, PeerName, PeerState, Refusal};
use underpass_common::pod::{Pod, PodState};
use underpass_common::settings::{Offload, Settings};
use underpass_common::verdict::{Count, Hook, Verdict};

use super::paint::Paint;
use super::status::{self, Status};
use super::top::{self, Reading};
use super::trace::{self, KernelWay, Question, Snapshot, Way};
use super::{flows, peers, pods, print};
use crate::datapath::maps::Fill;
use crate::fuzzing::Bytes;

pub(crate) fn run(input: &[u8]) {
    let mut bytes = Bytes::new(input);
    let settings: Settings = bytes.plain();
    let agent: Agent = bytes.plain();
    let status = Status {
        peers: peers_are_shown(&mut bytes),
        pods: pods_are_shown(&mut bytes),
        ..status_is_shown(&settings, &agent, counts(&mut bytes))
    };
    assert_is_a_screen(&status::show(&status, Paint::PLAIN));
    assert_json(&status);
    flows_are_shown(&mut bytes, &settings);
    a_trace_is_shown(&mut bytes, settings);
    frames_are_shown(&mut bytes, status, &settings);
}

/// `underpass top`, on terminals of any size.
fn frames_are_shown(bytes: &mut Bytes<'_>, status: Status, settings: &Settings) {
    let flows = bytes.several(4, |bytes| (flow_key(bytes), bytes.plain()));
    let before = status::report(settings, &bytes.plain(), counts(bytes));
    let at = Instant::now();
    let fills = vec![Fill {
        map: "flows_v4",
        entries: bytes.plain(),
        capacity: bytes.plain(),
    }];
    let before = Reading::new(at, before, &[], settings, Vec::new());
    let mut reading = Reading::new(at + Duration::from_secs(1), status, &flows, settings, fills);
    reading.since(&before);
    let told = reading.peers.iter().map(|peer| peer.flows);
    assert_eq!(told.sum::<usize>(), flows.len());
    for (width, height) in [(80, 24), (bytes.byte().into(), bytes.byte().into())] {
        let lines = top::frame(&reading, None, width, height);
        assert!(lines.len() <= height);
        for line in lines {
            let text = line.to_string();
            // A label is not cut: the terminal does that.
            assert!(text.chars().count() <= width.max(9), "{text:?}");
            assert_fits_a_line(&text);
        }
    }
}

/// A count here and there.
fn counts(bytes: &mut Bytes<'_>) -> Vec<(Hook, Verdict, Count)> {
    bytes.several(8, |bytes| {
        let count: Count = bytes.plain();
        (bytes.pick(&Hook::ALL), bytes.pick(Verdict::ALL), count)
    })
}

fn status_is_shown(
    settings: &Settings,
    agent: &Agent,
    counts: Vec<(Hook, Verdict, Count)>,
) -> Status {
    let status = status::report(settings, agent, counts);
    let known = [
        (Offload::Off, "off"),
        (Offload::Confirmed, "confirmed"),
        (Offload::Always, "always"),
    ];
    let offload = known
        .iter()
        .find(|(mode, _)| *mode as u8 == settings.offload);
    assert_eq!(status.offload, offload.map_or("unknown", |(_, name)| name));
    let routes = ["observe", "manage"].get(usize::from(agent.manages_routes));
    assert_eq!(status.routes, routes.copied().unwrap_or("unknown"));
    let sources = ["unknown", "file", "kubernetes"];
    let source = sources.get(usize::from(agent.nodes_source));
    assert_eq!(status.nodes_source, *source.unwrap_or(&"unknown"));
    for text in [
        Some(&status.node),
        status.nodes_error.as_ref(),
        status.uplink.as_ref(),
    ] {
        text.into_iter().for_each(|text| assert_fits_a_line(text));
    }
    for cidr in &status.pod_cidrs {
        assert_is_prefix(cidr);
    }
    assert_is_a_screen(&status::show(&status, Paint::PLAIN));
    if let Some(share) = status.traffic.fast_share {
        assert!((0.0..=1.0).contains(&share), "{share}");
    }
    status
}

fn peers_are_shown(bytes: &mut Bytes<'_>) -> Vec<peers::PeerReport> {
    let shown = bytes.several(3, |bytes| {
        let name: PeerName = bytes.plain();
        let peer: Peer = bytes.plain();
        let report = peers::report(print::text(&name.name), &peer);
        assert_fits_a_line(&report.name);
        let state = PeerState::from_number(peer.state).map_or("unknown", PeerState::name);
        assert_eq!(report.state, state);
        let refusal = match Refusal::from_number(peer.refusal) {
            Some(Refusal::None) => None,
            Some(refusal) => Some(refusal.description()),
            None => Some("unknown"),
        };
        assert_eq!(report.refusal, refusal);
        assert_peer_s_addresses(&report);
        report
    });
    // A row for each family; for a node of none, one that says so.
    let rows = shown.iter().map(|peer| peer.families.len().max(1));
    assert_rows(&peers::show(&shown), rows.sum());
    assert_json(&shown);
    shown
}

fn assert_peer_s_addresses(report: &peers::PeerReport) {
    let families = report.families.iter();
    let cidrs = families.filter_map(|family| family.pod_cidr.as_ref());
    cidrs
        .chain(&report.pod_cidr)
        .for_each(|cidr| assert_is_prefix(cidr));
}

fn pods_are_shown(bytes: &mut Bytes<'_>) -> Vec<pods::PodReport> {
    let entries: BTreeMap<u32, Pod> = bytes
        .several(3, |bytes| (bytes.byte().into(), bytes.plain()))
        .into_iter()
        .collect();
    let endpoints = bytes.several(3, |bytes| (address(bytes), bytes.plain()));
    let shown = pods::reports(&entries, &endpoints.into_iter().collect());
    for (report, pod) in shown.iter().zip(entries.values()) {
        assert_fits_a_line(&report.veth);
        let state = PodState::from_number(pod.state).map_or("unknown", PodState::name);
        assert_eq!(report.state, state);
    }
    assert_rows(&pods::show(&shown), entries.len());
    assert_json(&shown);
    shown
}

fn flows_are_shown(bytes: &mut Bytes<'_>, settings: &Settings) {
    let shown = bytes.several(4, |bytes| {
        let flow: Flow = bytes.plain();
        let report = flows::report(&flow_key(bytes), &flow, settings);
        for (told, direction) in [
            (&report.egress, flow.egress),
            (&report.ingress, flow.ingress),
        ] {
            // Told as fast at the most where the programs take it for fast.
            assert!(!told.confirmed || direction.epoch == settings.epoch);
            assert!(!told.confirmed || direction.confirmed != 0);
            assert_eq!(told.confirmed, told.device.is_some());
        }
        report
    });
    assert_rows(&flows::show(&shown), shown.len());
    assert_json(&shown);
}

/// The walk of a packet through all that, in either direction.
fn a_trace_is_shown(bytes: &mut Bytes<'_>, settings: Settings) {
    let flows = bytes.several(4, |bytes| (flow_key(bytes), bytes.plain()));
    let prefix = |bytes: &mut Bytes<'_>| IpNet::new(address(bytes), bytes.byte() % 33);
    let routes = bytes.several(4, |bytes| {
        Some((prefix(bytes).ok()?.trunc(), bytes.plain()))
    });
    let asked = flows.first().map(|(key, _): &(FlowKey<IpAddr>, Flow)| *key);
    let snapshot = Snapshot {
        node: String::new(),
        settings,
        uplink: bytes.byte().into(),
        uplinks: bytes.several(2, |bytes| bytes.byte().into()),
        attached: [(bytes.pick(&Hook::ALL), bytes.byte().into())].into(),
        pods: [(bytes.byte().into(), bytes.plain())].into(),
        endpoints: bytes
            .several(3, |bytes| (address(bytes), bytes.plain()))
            .into_iter()
            .collect(),
        routes: routes.into_iter().flatten().collect(),
        peers: Vec::new(),
        flows,
        links: BTreeMap::new(),
        veth_by_mac: bytes.flag().then(|| bytes.byte().into()),
        kernel: KernelWay::Local,
    };
    let question = Question {
        way: bytes.pick(&[Way::Out, Way::In, Way::Transit]),
        pod: asked.map(|key| key.pod),
        remote: asked.map(|key| key.remote),
        protocol: None,
        pod_port: None,
        remote_port: None,
    };
    let trace = trace::walk(&question, &snapshot);
    // A packet goes somewhere, and where it is not fast that is said why.
    assert_eq!(trace.result.road == "fast", trace.result.way_out.is_some());
    assert_eq!(
        trace.result.road == "kernel",
        trace.result.to_be_fast.is_some()
    );
    assert!(trace.result.fast_flows <= trace.result.flows);
    assert_fits_a_line(&trace.result.why);
    assert!(!trace::show(&trace).is_empty());
    assert_json(&trace);
}

/// Of either family, as the maps' readers hand it over.
fn flow_key(bytes: &mut Bytes<'_>) -> FlowKey<IpAddr> {
    FlowKey {
        pod: address(bytes),
        remote: address(bytes),
        pod_port: bytes.array(),
        remote_port: bytes.array(),
        protocol: bytes.byte(),
        icmp_type: bytes.byte(),
        _pad: [0; 2],
    }
}

fn address(bytes: &mut Bytes<'_>) -> IpAddr {
    match bytes.flag() {
        true => IpAddr::from(bytes.array::<16>()),
        false => IpAddr::from(bytes.array::<4>()),
    }
}

/// A header and a row for each; where there is nothing, one line that says so.
fn assert_rows(table: &str, rows: usize) {
    assert_eq!(table.lines().count(), rows + 1, "{table}");
}

fn assert_fits_a_line(text: &str) {
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

/// Not wider than it may be, with a line for each thing that is always told.
fn assert_is_a_screen(screen: &str) {
    for line in screen.lines() {
        assert!(line.chars().count() <= print::WIDTH, "{line:?}");
    }
    for label in [
        "node ", "agent", "uplink", "pods in", "nodes", "packets", "peers", "pods ",
    ] {
        assert!(
            screen.lines().any(|line| line.starts_with(label)),
            "{label}"
        );
    }
}

fn assert_is_prefix(text: &str) {
    assert!(text.parse::<IpNet>().is_ok(), "{text}");
}

/// JSON that a program can read.
fn assert_json(report: &impl Serialize) {
    let text = serde_json::to_string_pretty(report).expect("a report is JSON");
    assert!(serde_json::from_str::<Value>(&text).is_ok(), "{text}");
}
