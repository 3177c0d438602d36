//! What the server knows: the Nodes, what became of them, and who watches.

use std::collections::{BTreeMap, VecDeque};

use axum::body::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedSender;

use super::{Asked, Manners, Said};

/// How much of the past is kept for watches that go on where another ended, in bytes.
const HISTORY: usize = 64 << 20;

/// A piece of a watch's body; an error cuts the connection.
pub(super) type Piece = Result<Bytes, std::io::Error>;

/// An event that has been.
#[derive(Debug)]
struct Past {
    version: u64,
    line: Bytes,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    pub(super) manners: Manners,
    pub(super) asked: Vec<Asked>,
    pub(super) said: Said,
    /// By name, as JSON.
    nodes: BTreeMap<String, Bytes>,
    version: u64,
    /// Oldest first.
    history: VecDeque<Past>,
    history_bytes: usize,
    /// Versions up to this one are forgotten.
    forgotten: u64,
    watches: Vec<UnboundedSender<Piece>>,
}

impl Cluster {
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Versions up to this one are no place to go on from.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// All Nodes by name, each as JSON.
    pub(super) fn nodes(&self) -> impl ExactSizeIterator<Item = &Bytes> {
        self.nodes.values()
    }

    /// The events after a version.
    pub(super) fn since(&self, version: u64) -> impl Iterator<Item = &Bytes> {
        let begin = self.history.partition_point(|past| past.version <= version);
        self.history.range(begin..).map(|past| &past.line)
    }

    /// Adds or changes a Node; the event that tells of it.
    pub(super) fn change(&mut self, mut node: Value) -> Bytes {
        let name = node["metadata"]["name"].as_str().unwrap_or("").to_owned();
        let kind = match self.nodes.contains_key(&name) {
            true => "MODIFIED",
            false => "ADDED",
        };
        let (line, object) = self.note(kind, &mut node);
        self.nodes.insert(name, object);
        line
    }

    /// Takes a Node out; the event that tells of it. `None`: there is no such Node.
    pub(super) fn remove(&mut self, name: &str) -> Option<Bytes> {
        let mut node = serde_json::from_slice(&self.nodes.remove(name)?).ok()?;
        Some(self.note("DELETED", &mut node).0)
    }

    /// The event, and the part of it that is the Node.
    fn note(&mut self, kind: &str, node: &mut Value) -> (Bytes, Bytes) {
        self.version += 1;
        node["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let (begin, end) = around_object(kind);
        let line = Bytes::from(format!("{begin}{node}{end}"));
        let object = line.slice(begin.len()..line.len() - end.len());
        self.history_bytes += line.len();
        self.history.push_back(Past {
            version: self.version,
            line: line.clone(),
        });
        while self.history_bytes > HISTORY
            && let Some(past) = self.history.pop_front()
        {
            self.history_bytes -= past.line.len();
            self.forgotten = past.version;
        }
        (line, object)
    }

    /// Tells the watches.
    pub(super) fn tell(&mut self, line: Bytes) {
        self.watches
            .retain(|watch| watch.send(Ok(line.clone())).is_ok());
        let watches = self.watches.len() as u64;
        self.said.events += watches;
        self.said.event_bytes += watches * line.len() as u64;
    }

    /// A watch that is told what happens from now on.
    pub(super) fn add_watch(&mut self, watch: UnboundedSender<Piece>) {
        self.watches.push(watch);
    }

    /// How many watches are open.
    pub(super) fn watches(&mut self) -> usize {
        self.watches.retain(|watch| !watch.is_closed());
        self.watches.len()
    }

    pub(super) fn end_watches(&mut self) {
        self.watches.clear();
    }

    pub(super) fn cut(&mut self) {
        for watch in self.watches.drain(..) {
            let _ = watch.send(Err(std::io::Error::other("cut")));
        }
    }

    /// Forgets the past, as after many changes of others.
    pub(super) fn compact(&mut self) {
        self.version += 1000;
        self.forgotten = self.version;
        self.history.clear();
        self.history_bytes = 0;
    }
}

/// What stands before and behind the object in an event of a watch.
pub(super) fn around_object(kind: &str) -> (String, &'static str) {
    (format!("{{\"type\":\"{kind}\",\"object\":"), "}\n")
}
