//! Frames of states that are made up, on a terminal that is made up.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use underpass_common::flow::{Direction, Flow, FlowKey, PROTOCOL_UDP, confirmed};
use underpass_common::settings::Settings;
use underpass_common::verdict::{Hook, Verdict};

use super::super::peers::{PeerFamilyReport, PeerReport};
use super::super::status::tests::{agent, count, healthy, peer, pod, with_warnings};
use super::super::status::{self, Status};
use super::flows::Tally;
use super::reading::Reading;
use super::terminal::{View, draw, ends};
use crate::datapath::maps::Fill;
use crate::datapath::only_agent::Told;

const EPOCH: u32 = 3;

fn settings() -> Settings {
    Settings {
        epoch: EPOCH,
        ..Settings::default()
    }
}

fn direction(is_confirmed: bool, epoch: u32) -> Direction {
    Direction {
        confirmed: match is_confirmed {
            true => confirmed::FROM_START,
            false => confirmed::NO,
        },
        epoch,
        ..Direction::default()
    }
}

/// Between these two, confirmed in so many directions.
fn flow(pod: &str, remote: &str, ways: usize) -> (FlowKey<IpAddr>, Flow) {
    let key = FlowKey {
        pod: pod.parse().unwrap(),
        remote: remote.parse().unwrap(),
        pod_port: [1, 2],
        remote_port: [3, 4],
        protocol: PROTOCOL_UDP,
        icmp_type: 0,
        _pad: [0; 2],
    };
    let flow = Flow {
        egress: direction(ways > 0, EPOCH),
        ingress: direction(ways > 1, EPOCH),
        ..Flow::default()
    };
    (key, flow)
}

fn node(name: &str, pod_cidrs: &[&str]) -> PeerReport {
    let family = |cidr: &&str| PeerFamilyReport {
        family: "ipv4",
        state: "ready",
        refusal: None,
        pod_cidr: Some((*cidr).to_owned()),
        address: None,
        mac: None,
        uplink: None,
    };
    PeerReport {
        families: pod_cidrs.iter().map(family).collect(),
        ..peer(name, "ready", None)
    }
}

fn flows() -> Vec<(FlowKey<IpAddr>, Flow)> {
    let mut old = flow("10.244.1.2", "10.244.3.9", 2);
    old.1.ingress.epoch -= 1;
    vec![
        flow("10.244.1.2", "10.244.3.7", 2),
        flow("10.244.1.2", "10.244.3.8", 1),
        old,
        flow("10.244.1.2", "10.244.2.7", 0),
        flow("fd00:1::9", "fd00:2::7", 2),
        flow("10.244.1.2", "10.9.9.9", 1),
    ]
}

fn fills() -> Vec<Fill> {
    let fill = |map, entries, capacity| Fill {
        map,
        entries,
        capacity,
    };
    vec![
        fill("routes_v4", 2, 16_384),
        fill("routes_v6", 0, 16_384),
        fill("flows_v4", 62_000, 65_536),
        fill("pods", 3, 1024),
    ]
}

fn reading(at: Instant, counts: &[(Hook, Verdict, u64)]) -> Reading {
    let counts = counts.iter();
    let counts = counts.map(|&(hook, verdict, packets)| count(hook, verdict, packets));
    let told = status::report(&settings(), &agent(0, 0), counts.collect());
    let status = Status {
        peers: vec![
            node("node-2", &["10.244.2.0/24", "fd00:2::/64"]),
            node("node-3", &["10.244.3.0/24"]),
            peer("node-4", "waiting_for_neighbour", None),
        ],
        pods: vec![
            pod("vethB", "attached", false),
            pod("vethA", "attached", true),
            pod("vethC", "shaped", false),
        ],
        traffic: told.traffic,
        verdicts: told.verdicts,
        ..healthy()
    };
    Reading::new(at, with_warnings(status), &flows(), &settings(), fills())
}

/// A second in which much went by, and some of it by the kernel.
fn second() -> Reading {
    let then = Instant::now();
    let before = reading(
        then,
        &[
            (Hook::FromPod, Verdict::Fast, 8_999_000),
            (Hook::FromPod, Verdict::TcpOpening, 70),
            (Hook::FromPod, Verdict::Unconfirmed, 5),
            (Hook::ToWire, Verdict::Confirmed, 70),
        ],
    );
    let mut now = reading(
        then + Duration::from_secs(1),
        &[
            (Hook::FromPod, Verdict::Fast, 9_000_000),
            (Hook::FromPod, Verdict::TcpOpening, 71),
            (Hook::FromPod, Verdict::Unconfirmed, 8),
            (Hook::FromPod, Verdict::NotIp, 999),
            (Hook::FromWire, Verdict::NotPodTraffic, 999),
            (Hook::ToWire, Verdict::Confirmed, 71),
            (Hook::ToWire, Verdict::Unwitnessed, 3),
        ],
    );
    now.since(&before);
    now.agent = Some(Told {
        reconciliations: 57,
        reconciliation_p99_us: 1_260,
    });
    now
}

fn shown(view: &View, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, view)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y| {
        let cells = (0..width).map(|x| buffer[(x, y)].symbol());
        cells.collect::<String>().trim_end().to_owned()
    };
    (0..height).map(line).collect()
}

fn view(reading: Reading) -> View {
    View {
        reading,
        trouble: None,
    }
}

#[test]
fn a_small_cluster_fits_a_small_terminal() {
    let lines = shown(&view(second()), 80, 24);
    assert_eq!(
        lines.join("\n"),
        "\
node     node-1, uplink eth0, offload confirmed
agent    running for 50 min, version 1.20.3, p99 of reconciling 1.3 ms
now      99.60 % fast [|||||||||||||||||||||||||||||||||||||||||||||||||||||||.]
fast     1,000/s       800.00 kb/s   of 9,000,000 packets so far
kernel   4/s           3.20 kb/s     of 79 packets so far
warnings no MAC is known of node-4

AT            PACKETS         BITS       SO FAR  BY THE KERNEL: VERDICT
from_pod          3/s    2.40 kb/s            8  unconfirmed: The kernel has no…
                  1/s   800.00 b/s           71  tcp_opening: A TCP packet that…
to_wire           3/s    2.40 kb/s            3  unwitnessed: At an exit: no ta…
                  1/s   800.00 b/s           71  confirmed: At an exit: the ker…

PEER              FLOWS CONFIRMED  BOTH  POD               FLOWS CONFIRMED  BOTH
node-3                3         3     1  vethA                 5         4     1
node-2                2         1     1  vethB                 0         0     0
node-4: waiting…      0         0     0  vethC: shaped         0         0     0
(others)              1         1     0  (others)              1         1     1

MAP                FULL  ENTRIES
flows_v4        94.60 %  62,000 of 65,536
pods             0.29 %  3 of 1,024
routes_v4        0.01 %  2 of 16,384
q, Esc or Ctrl-C ends"
    );
}

#[test]
fn flows_are_told_of_peers_and_pods() {
    let now = second();
    let tally = |name: &str, flows, confirmed, both| Tally {
        name: name.into(),
        flows,
        confirmed,
        both,
    };
    assert_eq!(
        now.peers,
        [
            tally("node-3", 3, 3, 1),
            tally("node-2", 2, 1, 1),
            tally("node-4: waiting for neighbour", 0, 0, 0),
            tally("(others)", 1, 1, 0),
        ]
    );
    assert_eq!(
        now.pods,
        [
            tally("vethA", 5, 4, 1),
            tally("vethB", 0, 0, 0),
            tally("vethC: shaped", 0, 0, 0),
            tally("(others)", 1, 1, 1),
        ]
    );
}

#[test]
fn reasons_are_ranked_by_what_goes_by_now() {
    let now = second();
    let ranked = |hook| {
        let reasons = now.reasons(hook);
        let told = reasons
            .iter()
            .map(|count| (count.verdict, count.packets_per_s));
        told.collect::<Vec<_>>()
    };
    assert_eq!(
        ranked(Hook::FromPod),
        [("unconfirmed", Some(3.0)), ("tcp_opening", Some(1.0))]
    );
    assert_eq!(ranked(Hook::FromWire), []);
    assert_eq!(
        ranked(Hook::ToWire),
        [("unwitnessed", Some(3.0)), ("confirmed", Some(1.0))]
    );
    // Without a second reading by all that there was.
    let once = reading(Instant::now(), &[(Hook::FromPod, Verdict::TcpOpening, 7)]);
    assert_eq!(once.reasons(Hook::FromPod)[0].packets_per_s, None);
}

#[test]
fn maps_are_told_by_how_full_they_are() {
    let maps: Vec<_> = second().filled().iter().map(|fill| fill.map).collect();
    assert_eq!(maps, ["flows_v4", "pods", "routes_v4"]);
}

#[test]
fn a_terminal_of_any_size_is_filled_without_a_panic() {
    let view = view(second());
    for width in (0..30).chain([75, 76, 79, 80, 81, 200]) {
        for height in (0..30).chain([60]) {
            shown(&view, width, height);
        }
    }
    let tiny = shown(&view, 20, 5);
    assert_eq!(
        tiny,
        [
            "node     node-1, up…",
            "agent    running fo…",
            "now      99.60 % fa…",
            "fast     1,000/s   …",
            "kernel   4/s       …",
        ]
    );
}

#[test]
fn what_does_not_fit_is_counted_with_where_it_is() {
    let mut now = second();
    now.peers = (0..5000)
        .map(|number| Tally {
            name: format!("node-with-a-long-name-{number}"),
            ..Tally::default()
        })
        .collect();
    let text = shown(&view(now), 80, 24).join("\n");
    assert!(text.contains("more: underpass peers"), "{text}");
    assert!(text.contains("node-with-a-lon… "), "{text}");
    assert!(text.contains("vethC: shaped"), "{text}");
    assert!(text.contains("flows_v4"), "{text}");
    assert!(text.ends_with("q, Esc or Ctrl-C ends"), "{text}");
}

#[test]
fn a_narrow_terminal_has_peers_above_pods() {
    let lines = shown(&view(second()), 60, 40);
    let place = |begins: &str| lines.iter().position(|line| line.starts_with(begins));
    assert!(place("PEER").unwrap() < place("POD").unwrap(), "{lines:?}");
}

#[test]
fn what_was_read_stays_where_nothing_can_be_read_any_more() {
    let mut view = view(second());
    view.renew(Err(anyhow!("no agent has run here")));
    let lines = shown(&view, 80, 24);
    assert_eq!(lines[0], "TROUBLE  no agent has run here");
    assert!(lines[1].contains("node-1"), "{lines:?}");
    view.renew(Ok(second()));
    assert!(shown(&view, 80, 24)[0].starts_with("node "));
}

#[test]
fn one_reading_tells_no_rates() {
    let view = view(reading(
        Instant::now(),
        &[(Hook::FromPod, Verdict::Fast, 1234)],
    ));
    let lines = shown(&view, 80, 24);
    assert_eq!(lines[2], "now      to be read once more");
    assert_eq!(lines[3], "fast     1,234 packets so far");
}

#[test]
fn keys_that_end_it() {
    let key = |code, modifiers| ends(KeyEvent::new(code, modifiers));
    let none = KeyModifiers::NONE;
    assert!(key(KeyCode::Char('q'), none));
    assert!(key(KeyCode::Esc, none));
    assert!(key(KeyCode::Char('c'), KeyModifiers::CONTROL));
    assert!(!key(KeyCode::Char('c'), none));
    assert!(!key(KeyCode::Enter, none));
}
