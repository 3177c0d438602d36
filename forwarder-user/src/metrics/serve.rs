//! The HTTP side: `/healthz`, `/readyz`, `/metrics`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::get};
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tokio::task::spawn_blocking;

use super::collector::MapsCollector;
use super::{Health, exposition};
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

async fn metrics(State(served): State<Arc<Served>>, headers: HeaderMap) -> Response {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    let openmetrics = exposition::wants_openmetrics(accept.unwrap_or_default());
    // Full maps take their time, and the loop is not to wait for a scraper.
    let written = spawn_blocking(move || {
        let mut body = String::new();
        text::encode(&mut body, &served.registry).map(|()| body)
    });
    match written.await {
        Ok(Ok(body)) if openmetrics => of_kind(StatusCode::OK, exposition::OPENMETRICS, body),
        Ok(Ok(body)) => {
            let body = exposition::as_prometheus(&body);
            of_kind(StatusCode::OK, exposition::PROMETHEUS, body)
        }
        Ok(Err(error)) => failed(&error),
        Err(error) => failed(&error),
    }
}

fn of_kind(status: StatusCode, kind: &'static str, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, kind)], body).into_response()
}

fn failed(error: &dyn std::fmt::Display) -> Response {
    let text = format!("metrics cannot be written: {error}\n");
    of_kind(
        StatusCode::INTERNAL_SERVER_ERROR,
        "text/plain; charset=utf-8",
        text,
    )
}
