//! A small API server that serves Nodes as the real one does, and can be told to misbehave.
//!
//! It lives on a thread and a port of its own, so that it can be stopped with all its connections and
//! started again at the same place. A Node is written as JSON once, when it changes; whoever lists or
//! watches gets those bytes, so that thousands of Nodes of the size that they really have cost little.
//!
//! It is for tests and benchmarks: what cannot be panics.

mod answers;
mod cluster;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::routing::get;
use serde_json::Value;
use tokio::runtime::Builder;
use tokio::sync::oneshot;

pub use answers::error_event;
use cluster::Cluster;

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
    /// When it is asked to stream a list.
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

/// The query of a request, as it came in.
pub type Asked = HashMap<String, String>;

/// What the server has said so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// When the last byte of the newest complete list was handed to the connection.
    pub listed: Option<Instant>,
    /// Bytes of events told to watches, without those of streamed lists.
    pub event_bytes: u64,
    /// Those events.
    pub events: u64,
}

/// What the server's thread and its owner share.
type Shared = Arc<Mutex<Cluster>>;

fn lock(shared: &Shared) -> MutexGuard<'_, Cluster> {
    shared.lock().expect("nobody panicked with the cluster")
}

/// The server. Dropping it stops it.
#[derive(Debug)]
pub struct ApiServer {
    cluster: Shared,
    address: SocketAddr,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl ApiServer {
    /// Starts one with these Nodes, on a free port of this machine.
    ///
    /// # Panics
    /// Where there is no free port.
    pub fn start(nodes: impl IntoIterator<Item = Value>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
        Self::on(listener, nodes)
    }

    /// Starts one with these Nodes on a listening socket, which may be another network namespace's.
    ///
    /// # Panics
    /// Where the socket is of no use.
    pub fn on(listener: TcpListener, nodes: impl IntoIterator<Item = Value>) -> Self {
        let mut server = Self {
            cluster: Shared::default(),
            address: listener.local_addr().expect("it is bound"),
            running: None,
        };
        for node in nodes {
            server.set(node);
        }
        server.serve(listener);
        server
    }

    fn serve(&mut self, listener: TcpListener) {
        let ready = listener.set_nonblocking(true);
        ready.expect("a socket can be made non-blocking");
        let router = Router::new()
            .route("/api/v1/nodes", get(answers::nodes))
            .with_state(Arc::clone(&self.cluster));
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build();
            runtime.expect("there is a runtime").block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener);
                let listener = listener.expect("the socket listens");
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
    ///
    /// # Panics
    /// Where its thread did.
    pub fn stop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            let _ = stop.send(());
            thread.join().expect("the server did not panic");
        }
        self.cluster().end_watches();
    }

    /// Starts it again where it was.
    ///
    /// # Panics
    /// Where somebody else has taken its port.
    pub fn resume(&mut self) {
        self.serve(TcpListener::bind(self.address).expect("the port is still free"));
    }

    /// Where it is reached.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn cluster(&self) -> MutexGuard<'_, Cluster> {
        lock(&self.cluster)
    }

    /// Changes how it behaves from the next request on.
    pub fn behave(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.cluster().manners);
    }

    /// The queries of all requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.cluster().asked.clone()
    }

    /// What it has said so far.
    pub fn said(&self) -> Said {
        self.cluster().said
    }

    /// The newest version.
    pub fn version(&self) -> String {
        self.cluster().version().to_string()
    }

    /// Adds or changes a Node, and tells the watches.
    pub fn set(&self, node: Value) {
        let mut cluster = self.cluster();
        let line = cluster.change(node);
        cluster.tell(line);
    }

    /// Takes a Node out, and tells the watches.
    ///
    /// # Panics
    /// Where there is no such Node.
    pub fn delete(&self, name: &str) {
        let mut cluster = self.cluster();
        let line = cluster.remove(name).expect("there is such a Node");
        cluster.tell(line);
    }

    /// Adds or changes a Node; the watches are told half of it, and are cut off.
    pub fn set_and_cut(&self, node: Value) {
        let mut cluster = self.cluster();
        let line = cluster.change(node);
        cluster.tell(line.slice(..line.len() / 2));
        cluster.cut();
    }

    /// Adds or changes a Node without a word to the watches that are there.
    pub fn set_silently(&self, node: Value) {
        self.cluster().change(node);
    }

    /// Sends the watches anything.
    pub fn send(&self, line: impl Into<String>) {
        self.cluster().tell(Bytes::from(line.into()));
    }

    /// Sends the watches a bookmark.
    pub fn bookmark(&self, annotations: Value) {
        let mut cluster = self.cluster();
        let line = answers::bookmark(cluster.version(), annotations);
        cluster.tell(line.into());
    }

    /// Cuts the watches off.
    pub fn cut(&self) {
        self.cluster().cut();
    }

    /// Ends the watches as the server does after `timeoutSeconds`.
    pub fn end_watches(&self) {
        self.cluster().end_watches();
    }

    /// Forgets what happened so far: whoever wants to go on from there must list again.
    pub fn compact(&self) {
        self.cluster().compact();
    }

    /// How many watches are open.
    pub fn watches(&self) -> usize {
        self.cluster().watches()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.stop();
    }
}
