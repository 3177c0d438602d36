//! The screen, made of states that are made up.

use std::time::Duration;

use underpass_common::agent::{Agent, NodesSource};
use underpass_common::settings::Settings;
use underpass_common::verdict::{Count, Hook, Verdict};

use super::*;
use crate::inspect::print::WIDTH;

pub(in crate::inspect) fn agent(nodes_source: u8, nodes_read_unix_s: u64) -> Agent {
    Agent {
        started_unix_s: unix_now() - 3000,
        nodes_read_unix_s,
        routing_digest: 0,
        pid: 1,
        uplink_ifindex: 1,
        manages_routes: 0,
        nodes_source,
        version: [1, 20, 3],
        ingress: 0,
        _pad: [0; 7],
        node_name: [0; 256],
        nodes_error: [0; 512],
        xdp_error: [0; 256],
    }
}

pub(in crate::inspect) fn count(
    hook: Hook,
    verdict: Verdict,
    packets: u64,
) -> (Hook, Verdict, Count) {
    let bytes = packets * 100;
    (hook, verdict, Count { packets, bytes })
}

pub(in crate::inspect) fn peer(
    name: &str,
    state: &'static str,
    refusal: Option<&'static str>,
) -> PeerReport {
    PeerReport {
        name: name.into(),
        state,
        refusal,
        pod_cidr: None,
        address: Some([10, 0, 0, 9].into()),
        mac: None,
        families: Vec::new(),
    }
}

pub(in crate::inspect) fn pod(veth: &str, state: &'static str, learned: bool) -> PodReport {
    PodReport {
        veth: veth.into(),
        ifindex: 7,
        state,
        ingress: "tc",
        mac: None,
        addresses: learned
            .then(|| [10, 244, 1, 2].into())
            .into_iter()
            .collect(),
        gateway_mac: None,
    }
}

/// A node of a small cluster where all is well.
pub(in crate::inspect) fn healthy() -> Status {
    let counts = vec![
        count(Hook::FromPod, Verdict::Fast, 9_000_000),
        count(Hook::FromWire, Verdict::Fast, 1_000_000),
        count(Hook::FromPod, Verdict::Unconfirmed, 7),
        count(Hook::FromPod, Verdict::TcpOpening, 70),
        count(Hook::FromWire, Verdict::NotPodTraffic, 123_456),
        count(Hook::ToWire, Verdict::Confirmed, 999_999_999),
    ];
    let settings = Settings {
        offload: 1,
        ..Settings::default()
    };
    Status {
        node: "node-1".into(),
        agent_running: true,
        uplink: Some("eth0".into()),
        uplinks: vec!["eth0".into()],
        kernel: "6.18.0".into(),
        attached_by: "tcx",
        pod_cidrs: vec!["10.244.1.0/24".into()],
        peers: vec![peer("node-2", "ready", None), peer("node-3", "ready", None)],
        pods: vec![
            pod("vethA", "attached", true),
            pod("vethB", "attached", false),
        ],
        ..report(
            &settings,
            &agent(NodesSource::File as u8, unix_now() - 3000),
            counts,
        )
    }
}

pub(in crate::inspect) fn with_warnings(mut status: Status) -> Status {
    status.warnings = warnings::warnings(&status, warnings::Settings::default());
    status
}

fn screen(status: &Status) -> String {
    let screen = show(status, Paint::PLAIN);
    for line in screen.lines() {
        assert!(line.chars().count() <= WIDTH, "{line:?}");
    }
    screen
}

fn line<'a>(screen: &'a str, label: &str) -> &'a str {
    let mut lines = screen.lines();
    lines.find(|line| line.starts_with(label)).unwrap()
}

#[test]
fn an_api_that_says_nothing_gets_stale_and_a_file_does_not() {
    let (file, kubernetes) = (NodesSource::File as u8, NodesSource::Kubernetes as u8);
    let stale = |source, heard| is_stale(&agent(source, heard), 10_000);
    assert!(stale(kubernetes, 9_699));
    assert!(!stale(kubernetes, 9_700));
    assert!(!stale(kubernetes, 0), "it has never been heard");
    assert!(!stale(kubernetes, 20_000), "the clock was put back");
    assert!(!stale(file, 1));
    assert!(!stale(77, 1));
}

#[test]
fn the_screen_tells_how_fresh_the_nodes_are() {
    let screen = |source: NodesSource, error: &str| {
        let mut agent = agent(source as u8, unix_now() - 3000);
        agent.nodes_error[..error.len()].copy_from_slice(error.as_bytes());
        screen(&with_warnings(report(
            &Settings::default(),
            &agent,
            Vec::new(),
        )))
    };
    assert_eq!(
        line(&screen(NodesSource::File, ""), "nodes"),
        "nodes    read 50 min ago"
    );
    let stale = screen(NodesSource::Kubernetes, "");
    assert_eq!(
        line(&stale, "nodes"),
        "nodes    STALE: Kubernetes API, heard 50 min ago"
    );
    assert!(
        stale.contains("has said nothing for five minutes"),
        "{stale}"
    );
    let failed = screen(NodesSource::Kubernetes, "no answer");
    assert_eq!(
        line(&failed, "nodes"),
        "nodes    ERROR: Kubernetes API, heard 50 min ago"
    );
    assert!(
        failed.contains("the last good ones stay: no answer"),
        "{failed}"
    );
}

#[test]
fn a_small_cluster_fits_the_screen() {
    let status = with_warnings(healthy());
    let mut status = status;
    let before = verdicts(vec![
        count(Hook::FromPod, Verdict::Fast, 8_999_000),
        count(Hook::FromWire, Verdict::Fast, 1_000_000),
        count(Hook::FromPod, Verdict::TcpOpening, 69),
    ]);
    rates::since(&mut status, &before, Duration::from_millis(500));
    let screen = screen(&status);
    assert!(screen.lines().count() <= 24, "{screen}");
    assert_eq!(
        screen,
        "\
node     node-1, kernel 6.18.0 (TCX)
agent    running for 50 min, version 1.20.3
uplink   eth0, offload confirmed, routes observe
pods in  10.244.1.0/24
nodes    read 50 min ago
packets  99.99 % fast (10,000,000 fast, 77 by the kernel)
now      99.20 % fast: 2,000/s fast (1.60 Mb/s), 16/s by the kernel, over 0.5 s
kernel   70  +2/s from_pod  A TCP packet that opens a connection, or has no ACK.
          7 +14/s from_pod  The kernel has not been seen to forward this
                            direction of this flow.
peers    2 ready: node-2 node-3
pods     2 attached (1 learned): vethA vethB
warnings none
"
    );
}

#[test]
fn troubles_are_named_counted_and_told_what_to_do_about() {
    let mut status = healthy();
    status.agent_running = false;
    status.peers = (0..9)
        .map(|number| {
            peer(
                &format!("node-{number}"),
                "refused",
                Some("the Node has no podCIDR"),
            )
        })
        .collect();
    status.peers.push(peer("node-r", "ready", None));
    status.pods.push(pod("vethC", "shaped", false));
    status.pods.push(pod("vethD", "attach_failed", false));
    let screen = screen(&with_warnings(status));
    for expected in [
        "agent    NOT RUNNING, the last was version 1.20.3\n",
        "peers    9 refused, 1 ready: node-r\n",
        "         node-4 10.0.0.9: refused: the Node has no podCIDR\n",
        "         and 4 more: underpass peers\n",
        "pods     1 attach failed, 1 shaped, 2 attached (1 learned): vethA vethB\n",
        "         vethC: shaped: something limits or redirects it",
        "WARNING  no agent runs: what it set up goes on, changes are not followed\n         -> systemctl",
        "WARNING  what these nodes claim is refused: node-0, node-1",
        "WARNING  no program could be attached to vethD\n         -> the agent's log",
    ] {
        assert!(
            screen.contains(expected),
            "{expected:?} is not in\n{screen}"
        );
    }
    assert!(!screen.contains("node-5 10"), "{screen}");
}

#[test]
fn long_texts_are_folded_and_many_names_are_counted() {
    let mut status = healthy();
    status.nodes_error = Some("x".repeat(500));
    status.peers = (0..5000)
        .map(|number| peer(&format!("a-node-with-a-name-{number}"), "ready", None))
        .collect();
    let screen = screen(&with_warnings(status));
    assert!(line(&screen, "peers").contains(" more"), "{screen}");
    assert_eq!(
        screen.matches('x').count() - screen.matches("next").count(),
        500,
        "{screen}"
    );
}

#[test]
fn each_trouble_has_its_warning() {
    fn of(change: impl FnOnce(&mut Status)) -> Vec<String> {
        let mut status = healthy();
        change(&mut status);
        let warnings = with_warnings(status).warnings;
        assert!(
            warnings.iter().all(|one| !one.fix.is_empty()),
            "{warnings:?}"
        );
        warnings.into_iter().map(|one| one.found).collect()
    }
    assert!(of(|_| {}).is_empty());
    let full = count(Hook::ToWire, Verdict::FlowTableFull, 3);
    let dropped = count(Hook::FromPod, Verdict::Dropped, 4);
    for (warnings, words) in [
        (of(|it| it.uplink = None), "no uplink"),
        (of(|it| it.offload = "off"), "not switched on"),
        (of(|it| it.pod_cidrs.clear()), "no podCIDR"),
        (of(|it| it.nodes_read_unix_s = 0), "not been read yet"),
        (
            of(|it| it.peers[0].state = "waiting_for_neighbour"),
            "no MAC is known of node-2",
        ),
        (
            of(|it| it.peers[0].state = "kernel_routes_elsewhere"),
            "no direct route",
        ),
        (of(|it| it.peers[0].state = "not_on_link"), "segment"),
        (of(|it| it.peers[0].state = "other_mtu"), "smaller MTU"),
        (
            of(|it| it.pods[0].state = "peer_unknown"),
            "end cannot be read of vethA",
        ),
        (
            of(|it| it.pods[0].state = "other_mtu"),
            "smaller MTU than vethA",
        ),
        (
            of(|it| it.pods[0].ingress = "tc_no_gro"),
            "by TC and not by XDP, for GRO is off at the pod's end: vethA",
        ),
        (
            of(|it| it.xdp_error = Some("the driver has none".into())),
            "no XDP on the uplink, TC does its work: the driver has none",
        ),
        (
            of(|it| it.verdicts.extend(verdicts(vec![full]))),
            "would not take 3 flows",
        ),
        (
            of(|it| it.verdicts.extend(verdicts(vec![dropped]))),
            "4 packets",
        ),
        (
            of(|it| it.neighbour_limits.push("too few".into())),
            "too few",
        ),
        (
            of(|it| {
                it.traffic.fast_packets = 0;
                it.traffic.kernel_packets = 1000;
            }),
            "nothing has gone fast",
        ),
    ] {
        assert_eq!(warnings.len(), 1, "{words}: {warnings:?}");
        assert!(warnings[0].contains(words), "{words}: {warnings:?}");
    }
    let settings = warnings::Settings {
        be_liberal: Some(0),
        loose: Some(0),
    };
    assert_eq!(warnings::warnings(&healthy(), settings).len(), 2);
}

#[test]
fn colours_change_nothing_of_the_text() {
    let mut status = healthy();
    status.agent_running = false;
    let status = with_warnings(status);
    let plain = screen(&status);
    let coloured = show(&status, Paint::COLOURED);
    assert!(!plain.contains('\x1b') && coloured.contains("\x1b[31mNOT RUNNING"));
    let mut stripped = coloured;
    for code in ["\x1b[0m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m"] {
        stripped = stripped.replace(code, "");
    }
    assert_eq!(stripped, plain);
}

#[test]
fn rates_are_in_json_only_where_there_were_two_readings() {
    let mut status = healthy();
    let json = |status: &Status| serde_json::to_value(status).unwrap();
    let one = json(&status);
    assert!(one.get("rates").is_none());
    for rate in ["packets_per_s", "bytes_per_s"] {
        assert!(one["verdicts"][0].get(rate).is_none());
    }
    assert_eq!(one["agent_version"], "1.20.3");
    // The maps were made anew meanwhile: nothing is negative.
    let before = verdicts(vec![count(Hook::FromPod, Verdict::Fast, u64::MAX / 1000)]);
    rates::since(&mut status, &before, Duration::from_secs(2));
    let two = json(&status);
    assert_eq!(two["rates"]["fast_packets_per_s"], 0.0);
    assert_eq!(two["rates"]["interval_s"], 2.0);
    assert!(two["verdicts"][0]["packets_per_s"].is_number());
    assert_eq!(two["verdicts"][0]["bytes_per_s"], 0.0);
}

#[test]
fn xdp_is_told_where_it_was_asked_for() {
    let mut status = healthy();
    assert!(!line(&screen(&status), "uplink").contains("ingress"));
    status.ingress = "xdp";
    assert!(line(&screen(&status), "uplink").ends_with(", ingress xdp"));
    status.ingress = "xdp_generic";
    assert!(line(&screen(&status), "uplink").ends_with(", ingress xdp generic"));
    status.xdp_error = Some("taken".into());
    let screen = screen(&with_warnings(status));
    assert!(
        line(&screen, "uplink").ends_with(", ingress tc (no XDP)"),
        "{screen}"
    );
    assert!(screen.contains("TC does its work: taken"), "{screen}");
}

#[test]
fn several_uplinks_are_named_and_transit_with_them() {
    let mut status = healthy();
    status.uplinks.push("eth1".into());
    status.transit = true;
    let shown = "uplinks  eth0 and eth1 (with transit), offload confirmed, routes observe";
    assert_eq!(line(&screen(&status), "uplink"), shown);
    let json = serde_json::to_value(&status).unwrap();
    assert_eq!(json["uplink"], "eth0");
    assert_eq!(json["uplinks"], serde_json::json!(["eth0", "eth1"]));
    assert_eq!(json["transit"], true);

    // XDP may be on one of them, and the main one may be away.
    (status.ingress, status.xdp_error) = ("xdp", Some("eth1: the driver has none".into()));
    let warned = screen(&with_warnings(status));
    let words: Vec<&str> = warned.split_whitespace().collect();
    let warned = words.join(" ");
    assert!(
        warned.contains("routes observe, ingress xdp (not on all)"),
        "{warned}"
    );
    let why = "no XDP on all uplinks, TC does its work: eth1: the driver has none";
    assert!(warned.contains(why), "{warned}");
    let mut status = healthy();
    (status.uplink, status.uplinks) = (None, vec!["eth1".into()]);
    assert!(line(&screen(&status), "uplink").starts_with("uplink   NONE FOUND and eth1, offload"));
}
