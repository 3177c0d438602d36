//! The HTTP side: `/healthz`, `/readyz`, `/metrics`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::{Router, routing::get};
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

use super::Health;
use super::collector::MapsCollector;
use crate::datapath::Pins;

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
