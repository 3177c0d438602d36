//! `--listen`: liveness, readiness and Prometheus metrics over HTTP.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::{Router, routing::get};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use underpass_common::agent::Agent;
use underpass_common::peer::PeerState;
use underpass_common::pod::PodState;

use crate::datapath::{Maps, Pins};

/// What the loop tells the HTTP side.
#[derive(Debug, Default)]
pub struct Health {
    /// Both sources have been read and everything has been applied at least once.
    ready: AtomicBool,
    /// The newest reconciliation failed.
    failing: AtomicBool,
    reconciled: AtomicU64,
    failed: AtomicU64,
}

impl Health {
    /// The loop has applied what it wanted.
    pub fn reconciled(&self) {
        self.reconciled.fetch_add(1, Ordering::Relaxed);
        self.failing.store(false, Ordering::Relaxed);
        self.ready.store(true, Ordering::Release);
    }

    /// The loop could not apply what it wanted, and will try again.
    pub fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.failing.store(true, Ordering::Relaxed);
    }
}

struct Served {
    health: Arc<Health>,
    registry: Registry,
}

/// Listens, and serves in a task of its own.
///
/// # Errors
/// Where the address cannot be listened on.
pub async fn serve(address: SocketAddr, pins: Pins, health: Arc<Health>) -> Result<()> {
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} (--listen)"))?;
    let mut registry = Registry::default();
    registry.register_collector(Box::new(MapsCollector {
        pins,
        health: Arc::clone(&health),
    }));
    let served = Arc::new(Served { health, registry });
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(served);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the HTTP server has ended");
        }
    });
    Ok(())
}

async fn readyz(State(served): State<Arc<Served>>) -> impl IntoResponse {
    match served.health.ready.load(Ordering::Acquire) {
        true => (StatusCode::OK, "ready\n"),
        false => (
            StatusCode::SERVICE_UNAVAILABLE,
            "not ready: nodes and kernel have not been read and applied yet\n",
        ),
    }
}

async fn metrics(State(served): State<Arc<Served>>) -> impl IntoResponse {
    let mut body = String::new();
    match text::encode(&mut body, &served.registry) {
        Ok(()) => (
            StatusCode::OK,
            [(
                header::CONTENT_TYPE,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            )],
            body,
        ),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
            format!("metrics cannot be written: {error}\n"),
        ),
    }
}

/// Reads the maps at scrape time.
#[derive(Debug)]
struct MapsCollector {
    pins: Pins,
    health: Arc<Health>,
}

impl Collector for MapsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.encode_loop(&mut encoder)?;
        let read = Maps::open(&self.pins).and_then(|maps| {
            Ok((
                maps.verdicts()?,
                maps.peers()?,
                maps.pods()?,
                maps.endpoints()?,
                maps.agent()?,
            ))
        });
        let (verdicts, peers, pods, endpoints, agent) = match read {
            Ok(read) => read,
            Err(error) => {
                tracing::warn!("metrics of the maps are missing: {error:#}");
                return Ok(());
            }
        };
        let mut packets = encoder.encode_descriptor(
            "underpass_packets",
            "Packets by the hook that saw them and the verdict on them",
            None,
            MetricType::Counter,
        )?;
        for (hook, verdict, count) in &verdicts {
            let labels = [("hook", hook.name()), ("verdict", verdict.name())];
            ConstCounter::new(count.packets).encode(packets.encode_family(&labels)?)?;
        }
        let mut bytes = encoder.encode_descriptor(
            "underpass_bytes",
            "Bytes of those packets, Ethernet headers included",
            None,
            MetricType::Counter,
        )?;
        for (hook, verdict, count) in &verdicts {
            let labels = [("hook", hook.name()), ("verdict", verdict.name())];
            ConstCounter::new(count.bytes).encode(bytes.encode_family(&labels)?)?;
        }
        let mut by_state = encoder.encode_descriptor(
            "underpass_peers",
            "Other nodes by state",
            None,
            MetricType::Gauge,
        )?;
        for state in PeerState::ALL {
            let count = peers
                .iter()
                .filter(|(_, peer)| peer.state == state as u8)
                .count();
            ConstGauge::new(count as i64)
                .encode(by_state.encode_family(&[("state", state.name())])?)?;
        }
        let mut by_family = encoder.encode_descriptor(
            "underpass_peers_by_family",
            "Other nodes by address family and state in that family",
            None,
            MetricType::Gauge,
        )?;
        for (family, states) in [
            (
                "ipv4",
                peers.iter().map(|(_, peer)| peer.v4.state).collect(),
            ),
            (
                "ipv6",
                peers
                    .iter()
                    .map(|(_, peer)| peer.v6.state)
                    .collect::<Vec<_>>(),
            ),
        ] {
            for state in PeerState::ALL {
                let count = states.iter().filter(|one| **one == state as u8).count();
                let labels = [("family", family), ("state", state.name())];
                ConstGauge::new(count as i64).encode(by_family.encode_family(&labels)?)?;
            }
        }
        let mut by_state = encoder.encode_descriptor(
            "underpass_pods",
            "Pods' veths of this node by state",
            None,
            MetricType::Gauge,
        )?;
        for state in PodState::ALL {
            let count = pods.values().filter(|pod| pod.state == state as u8).count();
            ConstGauge::new(count as i64)
                .encode(by_state.encode_family(&[("state", state.name())])?)?;
        }
        gauge(
            &mut encoder,
            "underpass_endpoints",
            "Pod addresses of this node that have been learned",
            endpoints.len() as i64,
        )?;
        encode_agent(&mut encoder, &agent)
    }
}

impl MapsCollector {
    fn encode_loop(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let info = [("version", env!("CARGO_PKG_VERSION"))];
        let mut build = encoder.encode_descriptor(
            "underpass_build_info",
            "Always 1",
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(1i64).encode(build.encode_family(&info)?)?;
        for (name, help, value) in [
            (
                "underpass_reconciliations",
                "Times that the loop applied what it wanted",
                &self.health.reconciled,
            ),
            (
                "underpass_reconciliation_failures",
                "Times that the loop could not",
                &self.health.failed,
            ),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(value.load(Ordering::Relaxed)).encode(metric)?;
        }
        gauge(
            encoder,
            "underpass_reconciliation_failing",
            "1 while the newest reconciliation has failed",
            i64::from(self.health.failing.load(Ordering::Relaxed)),
        )
    }
}

fn encode_agent(encoder: &mut DescriptorEncoder<'_>, agent: &Agent) -> Result<(), fmt::Error> {
    gauge(
        encoder,
        "underpass_nodes_read_timestamp_seconds",
        "When the nodes were last read without an error, in seconds since 1970",
        agent.nodes_read_unix_s as i64,
    )?;
    gauge(
        encoder,
        "underpass_nodes_source_failing",
        "1 while the nodes cannot be read",
        i64::from(agent.nodes_error[0] != 0),
    )
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: i64,
) -> Result<(), fmt::Error> {
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(value).encode(metric)
}
