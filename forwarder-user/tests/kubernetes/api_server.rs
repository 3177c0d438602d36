//! A small API server that serves Nodes as the real one does, and can be told to misbehave.
//!
//! It lives on a thread and a port of its own, so that it can be stopped with all its connections and
//! started again at the same place.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use futures::stream;
use serde_json::{Value, json};
use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

/// What the server does when it is asked to stream a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Streaming {
    /// As Kubernetes 1.34 does.
    #[default]
    Works,
    /// 422, as where the feature gate WatchList is off.
    Refused,
    /// As a server that does not know the parameter: all Nodes, and never a bookmark.
    Unknown,
}

/// How the server behaves.
#[derive(Clone, Debug, Default)]
pub struct Manners {
    pub streaming: Streaming,
    /// Answers 401 to any other token.
    pub token: Option<String>,
    /// Waits before each answer.
    pub delay: Duration,
    /// Fewer Nodes to a page than asked for.
    pub page: Option<usize>,
    /// Ends each watch at once.
    pub hurried: bool,
}

/// A request, as it came in.
pub type Asked = HashMap<String, String>;

/// A piece of a watch's body; an error cuts the connection.
type Piece = Result<Bytes, std::io::Error>;

#[derive(Debug, Default)]
struct Cluster {
    manners: Manners,
    nodes: BTreeMap<String, Value>,
    version: u64,
    /// Events by version, for watches that go on where another ended.
    history: Vec<(u64, String)>,
    /// Versions up to this one are forgotten.
    forgotten: u64,
    watches: Vec<UnboundedSender<Piece>>,
    asked: Vec<Asked>,
}

type Shared = Arc<Mutex<Cluster>>;

/// The server. Dropping it stops it.
pub struct ApiServer {
    cluster: Shared,
    address: SocketAddr,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl ApiServer {
    /// Starts one with these Nodes.
    pub fn start(nodes: impl IntoIterator<Item = Value>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut server = Self {
            cluster: Shared::default(),
            address: listener.local_addr().unwrap(),
            running: None,
        };
        for node in nodes {
            server.set(node);
        }
        server.serve(listener);
        server
    }

    fn serve(&mut self, listener: TcpListener) {
        listener.set_nonblocking(true).unwrap();
        let router = Router::new()
            .route("/api/v1/nodes", get(nodes))
            .with_state(Arc::clone(&self.cluster));
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    _ = axum::serve(listener, router) => {}
                    _ = stopped => {}
                }
            });
            // With the runtime go the tasks that serve the connections, and the connections.
        });
        self.running = Some((stop, thread));
    }

    /// Stops it, with every connection.
    pub fn stop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            let _ = stop.send(());
            thread.join().unwrap();
        }
        self.cluster().watches.clear();
    }

    /// Starts it again where it was.
    pub fn resume(&mut self) {
        self.serve(TcpListener::bind(self.address).unwrap());
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap()
    }

    /// Changes how it behaves from the next request on.
    pub fn behave(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.cluster().manners);
    }

    /// The queries of all requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.cluster().asked.clone()
    }

    /// The newest version.
    pub fn version(&self) -> String {
        self.cluster().version.to_string()
    }

    /// Adds or changes a Node, and tells the watches.
    pub fn set(&self, node: Value) {
        let mut cluster = self.cluster();
        let line = cluster.change(node);
        cluster.tell(line);
    }

    /// Takes a Node out, and tells the watches.
    pub fn delete(&self, name: &str) {
        let mut cluster = self.cluster();
        let mut node = cluster.nodes.remove(name).unwrap();
        let line = cluster.note("DELETED", &mut node);
        cluster.tell(line);
    }

    /// Adds or changes a Node; the watches are told half of it, and are cut off.
    pub fn set_and_cut(&self, node: Value) {
        let mut cluster = self.cluster();
        let line = cluster.change(node);
        cluster.tell(line[..line.len() / 2].to_owned());
        cluster.cut();
    }

    /// Adds or changes a Node without a word to the watches that are there.
    pub fn set_silently(&self, node: Value) {
        self.cluster().change(node);
    }

    /// Sends the watches anything.
    pub fn send(&self, line: impl Into<String>) {
        self.cluster().tell(line.into());
    }

    /// Sends the watches a bookmark.
    pub fn bookmark(&self, annotations: Value) {
        let mut cluster = self.cluster();
        let line = bookmark(cluster.version, annotations);
        cluster.tell(line);
    }

    /// Cuts the watches off.
    pub fn cut(&self) {
        self.cluster().cut();
    }

    /// Ends the watches as the server does after `timeoutSeconds`.
    pub fn end_watches(&self) {
        self.cluster().watches.clear();
    }

    /// Forgets what happened so far: whoever wants to go on from there must list again.
    pub fn compact(&self) {
        let mut cluster = self.cluster();
        // As after many changes of others.
        cluster.version += 1000;
        cluster.forgotten = cluster.version;
        cluster.history.clear();
    }

    /// How many watches are open.
    pub fn watches(&self) -> usize {
        let mut cluster = self.cluster();
        cluster.watches.retain(|watch| !watch.is_closed());
        cluster.watches.len()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Cluster {
    fn change(&mut self, mut node: Value) -> String {
        let name = node["metadata"]["name"].as_str().unwrap_or("").to_owned();
        let kind = match self.nodes.contains_key(&name) {
            true => "MODIFIED",
            false => "ADDED",
        };
        let line = self.note(kind, &mut node);
        self.nodes.insert(name, node);
        line
    }

    fn note(&mut self, kind: &str, node: &mut Value) -> String {
        self.version += 1;
        node["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let line = event(kind, node);
        self.history.push((self.version, line.clone()));
        line
    }

    fn tell(&mut self, line: String) {
        let piece = Bytes::from(line);
        self.watches
            .retain(|watch| watch.send(Ok(piece.clone())).is_ok());
    }

    fn cut(&mut self) {
        for watch in self.watches.drain(..) {
            let _ = watch.send(Err(std::io::Error::other("cut")));
        }
    }

    fn page(&self, asked: &Asked) -> Response {
        let limit: usize = asked
            .get("limit")
            .map_or(usize::MAX, |n| n.parse().unwrap());
        let limit = limit.min(self.manners.page.unwrap_or(usize::MAX));
        let from: usize = asked.get("continue").map_or(0, |n| n.parse().unwrap());
        let nodes: Vec<&Value> = self.nodes.values().skip(from).take(limit).collect();
        let next = match from + nodes.len() < self.nodes.len() {
            true => (from + nodes.len()).to_string(),
            false => String::new(),
        };
        let metadata = json!({"resourceVersion": self.version.to_string(), "continue": next});
        answer(
            StatusCode::OK,
            json!({"kind": "NodeList", "apiVersion": "v1", "metadata": metadata, "items": nodes}),
        )
    }

    fn watch(&mut self, asked: &Asked) -> Response {
        let wants_initial = asked
            .get("sendInitialEvents")
            .is_some_and(|yes| yes == "true");
        if wants_initial && self.manners.streaming == Streaming::Refused {
            let why = "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless \
                       the WatchList feature gate is enabled";
            return refusal(422, "Invalid", why);
        }
        let (send, pieces) = unbounded_channel();
        let from: u64 = asked["resourceVersion"].parse().unwrap();
        if from == 0 {
            for node in self.nodes.values() {
                let _ = send.send(Ok(event("ADDED", node).into()));
            }
            if wants_initial && self.manners.streaming == Streaming::Works {
                let ends = json!({"k8s.io/initial-events-end": "true"});
                let _ = send.send(Ok(bookmark(self.version, ends).into()));
            }
        } else if from < self.forgotten {
            let why = format!("too old resource version: {from} ({})", self.forgotten);
            let _ = send.send(Ok(error_event(410, "Expired", &why).into()));
            return streamed(pieces);
        }
        for (version, line) in &self.history {
            if from != 0 && *version > from {
                let _ = send.send(Ok(line.clone().into()));
            }
        }
        if !self.manners.hurried {
            self.watches.push(send);
        }
        streamed(pieces)
    }
}

async fn nodes(
    State(cluster): State<Shared>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Response {
    let delay = {
        let mut cluster = cluster.lock().unwrap();
        cluster.asked.push(asked.clone());
        cluster.manners.delay
    };
    tokio::time::sleep(delay).await;
    let mut cluster = cluster.lock().unwrap();
    if let Some(token) = &cluster.manners.token
        && headers.get("authorization").map(|value| value.as_bytes())
            != Some(format!("Bearer {token}").as_bytes())
    {
        return refusal(401, "Unauthorized", "Unauthorized");
    }
    match asked.contains_key("watch") {
        true => cluster.watch(&asked),
        false => cluster.page(&asked),
    }
}

fn streamed(pieces: UnboundedReceiver<Piece>) -> Response {
    let body = stream::unfold(pieces, async |mut pieces| {
        Some((pieces.recv().await?, pieces))
    });
    Body::from_stream(body).into_response()
}

fn answer(code: StatusCode, body: Value) -> Response {
    let kind = [("content-type", "application/json")];
    (code, kind, body.to_string()).into_response()
}

fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    })
}

fn refusal(code: u16, reason: &str, message: &str) -> Response {
    let http = StatusCode::from_u16(code).unwrap();
    answer(http, status(code, reason, message))
}

fn event(kind: &str, node: &Value) -> String {
    format!("{}\n", json!({"type": kind, "object": node}))
}

/// The event by which the server ends a watch.
pub fn error_event(code: u16, reason: &str, message: &str) -> String {
    event("ERROR", &status(code, reason, message))
}

fn bookmark(version: u64, annotations: Value) -> String {
    let metadata = json!({
        "resourceVersion": version.to_string(), "creationTimestamp": null, "annotations": annotations,
    });
    event(
        "BOOKMARK",
        &json!({"kind": "Node", "apiVersion": "v1", "metadata": metadata}),
    )
}
