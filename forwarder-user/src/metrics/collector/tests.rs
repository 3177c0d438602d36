//! What is served, read as whoever scrapes it does: dashboards and alerts live by these names.

use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use underpass_common::peer::PeerFamily;

use super::*;
use crate::plan::peer_key;

/// A reading without maps.
#[derive(Debug)]
struct Told {
    health: Health,
    reading: Reading,
}

impl Collector for Told {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        encode_loop(&mut encoder, &self.health)?;
        self.reading.encode(&mut encoder)
    }
}

fn reading() -> Reading {
    let peer = |state: PeerState, v4: PeerState| Peer {
        v4: PeerFamily {
            state: v4 as u8,
            ..PeerFamily::default()
        },
        state: state as u8,
        ..Peer::default()
    };
    let name = |text: &str| peer_key(text).unwrap();
    let refused = Peer {
        refusal: Refusal::OverlapsPeer as u8,
        ..peer(PeerState::Refused, PeerState::NotOnLink)
    };
    let pod = Pod {
        state: PodState::Attached as u8,
        ..Pod::default()
    };
    let endpoint = Endpoint {
        ifindex: 20,
        pod_mac: [2, 0, 0, 0, 0, 1],
        gateway_mac: [2, 0, 0, 0, 0, 2],
    };
    Reading {
        verdicts: vec![
            (
                Hook::FromPod,
                Verdict::Fast,
                Count {
                    packets: 7,
                    bytes: 700,
                },
            ),
            (
                Hook::ToWire,
                Verdict::Confirmed,
                Count {
                    packets: 2,
                    bytes: 120,
                },
            ),
        ],
        peers: vec![
            (name("node-a"), peer(PeerState::Ready, PeerState::Ready)),
            (name("node-b"), refused),
        ],
        pods: BTreeMap::from([(20, pod), (21, pod)]),
        endpoints: BTreeMap::from([(IpAddr::from([10, 244, 1, 2]), endpoint)]),
        agent: Agent {
            started_unix_s: 1_000,
            nodes_read_unix_s: 1_234,
            routing_digest: 0,
            pid: 1,
            uplink_ifindex: 10,
            manages_routes: 0,
            nodes_source: 1,
            version: [0; 3],
            ingress: 0,
            _pad: [0; 7],
            node_name: [b'n'; 256],
            nodes_error: [0; 512],
            xdp_error: [0; 256],
        },
        fills: vec![Fill {
            map: "routes_v4",
            entries: 3,
            capacity: 65_536,
        }],
    }
}

fn served(health: Health, reading: Reading) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Told { health, reading }));
    let mut body = String::new();
    text::encode(&mut body, &registry).expect("metrics are text");
    body
}

/// Name and type of every metric.
const METRICS: [(&str, &str); 23] = [
    ("underpass_build_info", "gauge"),
    ("underpass_reconciliations", "counter"),
    ("underpass_reconciliation_failures", "counter"),
    ("underpass_netlink_overruns", "counter"),
    ("underpass_neighbours_lost", "counter"),
    ("underpass_node_event_failures", "counter"),
    ("underpass_reconciliation_failing", "gauge"),
    ("underpass_reconciliation_duration_seconds", "histogram"),
    ("underpass_kernel_read_timestamp_seconds", "gauge"),
    ("underpass_packets", "counter"),
    ("underpass_bytes", "counter"),
    ("underpass_peers", "gauge"),
    ("underpass_peers_by_family", "gauge"),
    ("underpass_peers_refused", "gauge"),
    ("underpass_peer_left_to_kernel", "gauge"),
    ("underpass_pods", "gauge"),
    ("underpass_endpoints", "gauge"),
    ("underpass_agent_start_timestamp_seconds", "gauge"),
    ("underpass_nodes_read_timestamp_seconds", "gauge"),
    ("underpass_nodes_source_info", "gauge"),
    ("underpass_nodes_source_failing", "gauge"),
    ("underpass_map_entries", "gauge"),
    ("underpass_map_capacity_entries", "gauge"),
];

#[test]
fn every_metric_has_its_name_its_type_and_a_help() {
    let body = served(Health::default(), reading());
    let told = |keyword: &str| -> Vec<(&str, &str)> {
        body.lines()
            .filter_map(|line| line.strip_prefix(keyword)?.split_once(' '))
            .collect()
    };
    assert_eq!(told("# TYPE "), METRICS);
    let helps = told("# HELP ");
    let names: Vec<_> = helps.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, METRICS.map(|(name, _)| name));
    assert!(helps.iter().all(|(_, help)| help.len() > 5), "{helps:?}");
    assert!(body.ends_with("# EOF\n"), "{body}");
}

#[test]
fn values_have_their_labels() {
    let health = Health::default();
    health.reconciled();
    health.reconciled();
    health.failed();
    health.took(Duration::from_millis(3));
    health.kernel_read(1_300);
    health.overrun();
    health.neighbours_lost(2);
    let body = served(health, reading());
    for line in [
        "underpass_reconciliations_total 2",
        "underpass_reconciliation_failures_total 1",
        "underpass_reconciliation_failing 1",
        r#"underpass_packets_total{hook="from_pod",verdict="fast"} 7"#,
        r#"underpass_bytes_total{hook="from_pod",verdict="fast"} 700"#,
        r#"underpass_packets_total{hook="to_wire",verdict="confirmed"} 2"#,
        r#"underpass_peers{state="ready"} 1"#,
        r#"underpass_peers{state="refused"} 1"#,
        r#"underpass_peers{state="not_on_link"} 0"#,
        r#"underpass_peers_by_family{family="ipv4",state="not_on_link"} 1"#,
        r#"underpass_peers_by_family{family="ipv4",state="refused"} 0"#,
        r#"underpass_peers_by_family{family="ipv6",state="ready"} 0"#,
        r#"underpass_peers_refused{reason="overlaps_peer"} 1"#,
        r#"underpass_peers_refused{reason="duplicate"} 0"#,
        r#"underpass_peer_left_to_kernel{peer="node-b",state="refused",reason="overlaps_peer"} 1"#,
        r#"underpass_pods{state="attached"} 2"#,
        "underpass_endpoints 1",
        "underpass_nodes_read_timestamp_seconds 1234",
        "underpass_nodes_source_failing 0",
        r#"underpass_nodes_source_info{source="file"} 1"#,
        "underpass_agent_start_timestamp_seconds 1000",
        "underpass_kernel_read_timestamp_seconds 1300",
        "underpass_netlink_overruns_total 1",
        "underpass_neighbours_lost_total 2",
        "underpass_node_event_failures_total 0",
        r#"underpass_reconciliation_duration_seconds_bucket{le="0.0025"} 0"#,
        r#"underpass_reconciliation_duration_seconds_bucket{le="0.005"} 1"#,
        r#"underpass_map_entries{map="routes_v4"} 3"#,
        r#"underpass_map_capacity_entries{map="routes_v4"} 65536"#,
    ] {
        assert!(body.lines().any(|one| one == line), "no {line} in\n{body}");
    }
}

#[test]
fn a_source_that_cannot_be_read_is_told() {
    let mut reading = reading();
    reading.agent.nodes_error[0] = b'x';
    let body = served(Health::default(), reading);
    assert!(
        body.contains("\nunderpass_nodes_source_failing 1\n"),
        "{body}"
    );
}

#[test]
fn a_hostile_cluster_does_not_swell_the_metrics() {
    let mut reading = reading();
    let off_segment = Peer {
        state: PeerState::NotOnLink as u8,
        ..Peer::default()
    };
    let names = (0..5_000).map(|number| peer_key(&format!("far-{number:04}")).unwrap());
    reading.peers = names.map(|name| (name, off_segment)).collect();
    let body = served(Health::default(), reading);
    let named = body
        .lines()
        .filter(|line| line.starts_with("underpass_peer_left_to_kernel{"));
    let named: Vec<_> = named.collect();
    assert_eq!(named.len(), MOST_NAMED);
    assert!(
        named[0].contains(r#"{peer="far-0000",state="not_on_link",reason="none"}"#),
        "{named:?}"
    );
}
