//! The metrics, read from the maps at scrape time.

mod of_loop;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Result;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use underpass_common::agent::{Agent, NodesSource};
use underpass_common::endpoint::Endpoint;
use underpass_common::peer::{Peer, PeerName, PeerState, Refusal};
use underpass_common::pod::{Pod, PodState};
use underpass_common::verdict::{Count, Hook, Verdict};

use super::Health;
use crate::datapath::maps::{Fill, fills};
use crate::datapath::{Maps, Pins};
use crate::plan::peer_name;
use of_loop::encode_loop;

/// Nodes that are told by name.
const MOST_NAMED: usize = 20;

/// Reads the maps at scrape time.
#[derive(Debug)]
pub(super) struct MapsCollector {
    pub(super) pins: Pins,
    pub(super) health: Arc<Health>,
}

impl Collector for MapsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        encode_loop(&mut encoder, &self.health)?;
        let reading = Reading::take(&self.pins);
        let readable = (
            "underpass_maps_readable",
            "0 while the maps cannot be read, and all that is read from them is missing here",
        );
        gauge(
            &mut encoder,
            readable.0,
            readable.1,
            i64::from(reading.is_ok()),
        )?;
        match reading {
            Ok(reading) => reading.encode(&mut encoder),
            Err(error) => {
                tracing::debug!("metrics of the maps are missing: {error:#}");
                Ok(())
            }
        }
    }
}

/// What the maps hold at one moment.
#[derive(Debug)]
struct Reading {
    verdicts: Vec<(Hook, Verdict, Count)>,
    peers: Vec<(PeerName, Peer)>,
    pods: BTreeMap<u32, Pod>,
    endpoints: BTreeMap<IpAddr, Endpoint>,
    agent: Agent,
    fills: Vec<Fill>,
}

impl Reading {
    fn take(pins: &Pins) -> Result<Self> {
        let maps = Maps::open(pins)?;
        Ok(Self {
            verdicts: maps.verdicts()?,
            peers: maps.peers()?,
            pods: maps.pods()?,
            endpoints: maps.endpoints()?,
            agent: maps.agent()?,
            fills: fills(pins)?,
        })
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        encode_verdicts(encoder, &self.verdicts)?;
        encode_peers(encoder, &self.peers)?;
        encode_peers_by_family(encoder, &self.peers)?;
        encode_refusals(encoder, &self.peers)?;
        encode_peers_of_the_kernel(encoder, &self.peers)?;
        encode_pods(encoder, &self.pods)?;
        gauge(
            encoder,
            "underpass_endpoints",
            "Pod addresses of this node that have been learned",
            self.endpoints.len() as i64,
        )?;
        encode_agent(encoder, &self.agent)?;
        encode_fills(encoder, &self.fills)
    }
}

fn encode_verdicts(
    encoder: &mut DescriptorEncoder<'_>,
    verdicts: &[(Hook, Verdict, Count)],
) -> Result<(), fmt::Error> {
    encode_counts(
        encoder,
        "underpass_packets",
        "Packets by the hook that saw them and the verdict on them",
        verdicts,
        |count| count.packets,
    )?;
    encode_counts(
        encoder,
        "underpass_bytes",
        "Bytes of those packets, Ethernet headers included",
        verdicts,
        |count| count.bytes,
    )
}

fn encode_counts(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    verdicts: &[(Hook, Verdict, Count)],
    value: fn(&Count) -> u64,
) -> Result<(), fmt::Error> {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (hook, verdict, count) in verdicts {
        let labels = [("hook", hook.name()), ("verdict", verdict.name())];
        ConstCounter::new(value(count)).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

fn encode_peers(
    encoder: &mut DescriptorEncoder<'_>,
    peers: &[(PeerName, Peer)],
) -> Result<(), fmt::Error> {
    let by_state = PeerState::ALL.map(|state| {
        let states = peers.iter().map(|(_, peer)| peer.state);
        ([("state", state.name())], count_of(state as u8, states))
    });
    gauges(encoder, "underpass_peers", "Other nodes by state", by_state)
}

fn encode_peers_by_family(
    encoder: &mut DescriptorEncoder<'_>,
    peers: &[(PeerName, Peer)],
) -> Result<(), fmt::Error> {
    let v4: Vec<u8> = peers.iter().map(|(_, peer)| peer.v4.state).collect();
    let v6: Vec<u8> = peers.iter().map(|(_, peer)| peer.v6.state).collect();
    let by_family = [("ipv4", v4), ("ipv6", v6)]
        .into_iter()
        .flat_map(|(family, states)| {
            PeerState::ALL.map(|state| {
                let labels = [("family", family), ("state", state.name())];
                (labels, count_of(state as u8, states.iter().copied()))
            })
        });
    gauges(
        encoder,
        "underpass_peers_by_family",
        "Other nodes by address family and state in that family",
        by_family,
    )
}

fn encode_refusals(
    encoder: &mut DescriptorEncoder<'_>,
    peers: &[(PeerName, Peer)],
) -> Result<(), fmt::Error> {
    let reasons = Refusal::ALL.into_iter();
    let by_reason = reasons
        .filter(|reason| *reason != Refusal::None)
        .map(|reason| {
            let refusals = peers.iter().map(|(_, peer)| peer.refusal);
            (
                [("reason", reason.name())],
                count_of(reason as u8, refusals),
            )
        });
    gauges(
        encoder,
        "underpass_peers_refused",
        "Other nodes whose claim is refused, by reason",
        by_reason,
    )
}

/// By name, so that an alert can tell which; only so many of them, as a cluster may have thousands.
fn encode_peers_of_the_kernel(
    encoder: &mut DescriptorEncoder<'_>,
    peers: &[(PeerName, Peer)],
) -> Result<(), fmt::Error> {
    let state_of = |peer: &Peer| {
        PeerState::ALL
            .into_iter()
            .find(|one| *one as u8 == peer.state)
    };
    // Who waits for a neighbour's MAC soon has it.
    let is_lasting = |state: &PeerState| *state > PeerState::WaitingForNeighbour;
    let mut named: Vec<_> = peers
        .iter()
        .filter_map(|(name, peer)| {
            let state = state_of(peer).filter(is_lasting)?;
            let reason = Refusal::from_number(peer.refusal).unwrap_or(Refusal::None);
            Some((peer_name(name)?, state, reason))
        })
        .collect();
    named.sort_unstable_by_key(|(name, ..)| *name);
    let values = named
        .into_iter()
        .take(MOST_NAMED)
        .map(|(name, state, reason)| {
            let labels = [
                ("peer", name),
                ("state", state.name()),
                ("reason", reason.name()),
            ];
            (labels, 1)
        });
    gauges(
        encoder,
        "underpass_peer_left_to_kernel",
        "Always 1: an other node whose pods' traffic is left to the kernel, and why; the first 20 by name",
        values,
    )
}

fn encode_pods(
    encoder: &mut DescriptorEncoder<'_>,
    pods: &BTreeMap<u32, Pod>,
) -> Result<(), fmt::Error> {
    let by_state = PodState::ALL.map(|state| {
        let states = pods.values().map(|pod| pod.state);
        ([("state", state.name())], count_of(state as u8, states))
    });
    gauges(
        encoder,
        "underpass_pods",
        "Pods' veths of this node by state",
        by_state,
    )
}

fn encode_agent(encoder: &mut DescriptorEncoder<'_>, agent: &Agent) -> Result<(), fmt::Error> {
    gauge(
        encoder,
        "underpass_agent_start_timestamp_seconds",
        "When this agent started, in seconds since 1970",
        agent.started_unix_s as i64,
    )?;
    gauge(
        encoder,
        "underpass_nodes_read_timestamp_seconds",
        "When the nodes were last read without an error, in seconds since 1970",
        agent.nodes_read_unix_s as i64,
    )?;
    let source = NodesSource::ALL
        .into_iter()
        .find(|source| *source as u8 == agent.nodes_source);
    gauges(
        encoder,
        "underpass_nodes_source_info",
        "Always 1: where the nodes come from; a file says nothing between its changes",
        source.map(|source| ([("source", source.name())], 1)),
    )?;
    gauge(
        encoder,
        "underpass_nodes_source_failing",
        "1 while the nodes cannot be read",
        i64::from(agent.nodes_error[0] != 0),
    )
}

fn encode_fills(encoder: &mut DescriptorEncoder<'_>, fills: &[Fill]) -> Result<(), fmt::Error> {
    let entries = fills.iter().map(|fill| ([("map", fill.map)], fill.entries));
    gauges(
        encoder,
        "underpass_map_entries",
        "Entries of the BPF maps; a full flows map drops the oldest, the others refuse more",
        entries.map(|(labels, entries)| (labels, i64::from(entries))),
    )?;
    let capacities = fills
        .iter()
        .map(|fill| ([("map", fill.map)], fill.capacity));
    gauges(
        encoder,
        "underpass_map_capacity_entries",
        "Entries that the BPF maps have room for",
        capacities.map(|(labels, capacity)| (labels, i64::from(capacity))),
    )
}

fn count_of(state: u8, states: impl Iterator<Item = u8>) -> i64 {
    states.filter(|one| *one == state).count() as i64
}

/// One gauge without labels.
fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: i64,
) -> Result<(), fmt::Error> {
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(value).encode(metric)
}

/// Gauges of one name, each with its labels.
fn gauges<'a, const LABELS: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = ([(&'static str, &'a str); LABELS], i64)>,
) -> Result<(), fmt::Error> {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in values {
        ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}
