//! What the server answers.

use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use futures::stream::{self, Stream, StreamExt as _};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::cluster::{Cluster, Piece, around_object};
use super::{Asked, Shared, Streaming, lock};

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

/// `GET /api/v1/nodes`.
pub(super) async fn nodes(
    State(shared): State<Shared>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Response {
    let delay = {
        let mut cluster = lock(&shared);
        cluster.asked.push(asked.clone());
        cluster.manners.delay
    };
    tokio::time::sleep(delay).await;
    let mut cluster = lock(&shared);
    if let Some(token) = &cluster.manners.token
        && headers.get("authorization").map(|value| value.as_bytes())
            != Some(format!("Bearer {token}").as_bytes())
    {
        return refusal(401, "Unauthorized", "Unauthorized");
    }
    match asked.contains_key("watch") {
        true => watch(&mut cluster, &shared, &asked),
        false => page(&cluster, &shared, &asked),
    }
}

fn page(cluster: &Cluster, shared: &Shared, asked: &Asked) -> Response {
    let number = |name: &str| asked.get(name).and_then(|text| text.parse::<usize>().ok());
    let limit = number("limit").unwrap_or(usize::MAX);
    let limit = limit.min(cluster.manners.page.unwrap_or(usize::MAX));
    let from = number("continue").unwrap_or(0);
    let nodes: Vec<Bytes> = cluster.nodes().skip(from).take(limit).cloned().collect();
    let is_last = from + nodes.len() >= cluster.nodes().len();
    let next = match is_last {
        true => String::new(),
        false => (from + nodes.len()).to_string(),
    };
    let metadata = json!({"resourceVersion": cluster.version().to_string(), "continue": next});
    let begin = format!(
        "{{\"kind\":\"NodeList\",\"apiVersion\":\"v1\",\"metadata\":{metadata},\"items\":["
    );
    let items = nodes.into_iter().enumerate().flat_map(|(index, node)| {
        let comma = Bytes::from_static(if index == 0 { b"" } else { b"," });
        [comma, node]
    });
    let body = stream::iter([Bytes::from(begin)])
        .chain(stream::iter(items))
        .chain(end_of_list(
            b"]}".to_vec().into(),
            is_last.then_some(shared),
        ));
    let body = body.map(|piece| -> Piece { Ok(piece) });
    (JSON, Body::from_stream(body)).into_response()
}

/// The last bytes of a list; that they were sent is noted where `shared` is given.
fn end_of_list(bytes: Bytes, shared: Option<&Shared>) -> impl Stream<Item = Bytes> + use<> {
    let shared = shared.map(Arc::clone);
    stream::once(async move {
        if let Some(shared) = shared {
            lock(&shared).said.listed = Some(Instant::now());
        }
        bytes
    })
}

fn watch(cluster: &mut Cluster, shared: &Shared, asked: &Asked) -> Response {
    let is_true = |name: &str| asked.get(name).is_some_and(|yes| yes == "true");
    let wants_initial = is_true("sendInitialEvents");
    if wants_initial && cluster.manners.streaming == Streaming::Refused {
        let why = "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless \
                   the WatchList feature gate is enabled";
        return refusal(422, "Invalid", why);
    }
    let Some(from) = asked.get("resourceVersion").and_then(|it| it.parse().ok()) else {
        return refusal(400, "BadRequest", "a watch needs a resourceVersion here");
    };
    let (send, pieces) = unbounded_channel();
    let mut initial = Vec::new();
    let mut bookmarks = None;
    if from == 0 {
        initial = cluster.nodes().cloned().collect();
        if wants_initial && cluster.manners.streaming == Streaming::Works {
            let ends = json!({"k8s.io/initial-events-end": "true"});
            let line = bookmark(cluster.version(), ends);
            bookmarks = Some(end_of_list(line.into(), Some(shared)));
        }
    } else if from < cluster.forgotten() {
        let why = format!("too old resource version: {from} ({})", cluster.forgotten());
        let _ = send.send(Ok(error_event(410, "Expired", &why).into()));
        return streamed(live(pieces));
    } else {
        for line in cluster.since(from) {
            let _ = send.send(Ok(line.clone()));
        }
    }
    if !cluster.manners.hurried {
        cluster.add_watch(send);
    }
    // A line is put together when the connection has room for it.
    let added = stream::iter(initial).map(|node| {
        let (begin, end) = around_object("ADDED");
        Bytes::from([begin.as_bytes(), &node, end.as_bytes()].concat())
    });
    let list = added.chain(stream::iter(bookmarks).flatten());
    streamed(list.map(|piece| -> Piece { Ok(piece) }).chain(live(pieces)))
}

fn live(pieces: UnboundedReceiver<Piece>) -> impl Stream<Item = Piece> {
    stream::unfold(pieces, async |mut pieces| {
        Some((pieces.recv().await?, pieces))
    })
}

fn streamed(body: impl Stream<Item = Piece> + Send + 'static) -> Response {
    (JSON, Body::from_stream(body)).into_response()
}

fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    })
}

fn refusal(code: u16, reason: &str, message: &str) -> Response {
    let http = StatusCode::from_u16(code).expect("a status code of ours");
    (http, JSON, status(code, reason, message).to_string()).into_response()
}

fn event(kind: &str, object: &Value) -> String {
    let (begin, end) = around_object(kind);
    format!("{begin}{object}{end}")
}

/// The event by which the server ends a watch.
pub fn error_event(code: u16, reason: &str, message: &str) -> String {
    event("ERROR", &status(code, reason, message))
}

/// An event that tells a version and nothing else.
pub(super) fn bookmark(version: u64, annotations: Value) -> String {
    let metadata = json!({
        "resourceVersion": version.to_string(), "creationTimestamp": null, "annotations": annotations,
    });
    event(
        "BOOKMARK",
        &json!({"kind": "Node", "apiVersion": "v1", "metadata": metadata}),
    )
}
