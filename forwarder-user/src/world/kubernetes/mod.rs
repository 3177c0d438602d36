//! The cluster's nodes from the Kubernetes API.
//!
//! A task [follows](follow) the Nodes and keeps the last good state; an error says nothing about the
//! cluster. Status updates that change nothing of what is used (each kubelet sends one every few minutes)
//! end in the [store]: the agent's loop hears of changes only, and of many at once in one go.

mod access;
pub(crate) mod explain;
mod follow;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod shared;
mod store;
mod wire;

use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::cluster::Node;
pub use access::Access;
use follow::Follower;
pub use follow::Patience;
use shared::Shared;

/// How long changes are collected: a node that comes is written several times in a row.
const SETTLE: Duration = Duration::from_millis(10);
/// The longest that changes which never end are collected.
const LONGEST_SETTLE: Duration = Duration::from_millis(200);

/// The Nodes of a cluster, followed in a task of its own until this is dropped.
#[derive(Debug)]
pub struct KubernetesNodes {
    shared: Shared,
    follower: JoinHandle<()>,
    url: String,
    /// The revision that was last read.
    read: Option<u64>,
    stir: Option<Stir>,
}

/// Something changes, since when, and until when more of it is waited for.
#[derive(Clone, Copy, Debug)]
struct Stir {
    began: Instant,
    look_at: Instant,
}

/// What the API server has told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The nodes, where they are others than when last asked.
    pub nodes: Option<Vec<Node>>,
    /// Items that could not be read as a Node and are left out: one line each.
    pub warnings: Vec<String>,
    /// What is wrong with the source, in one line.
    pub error: Option<String>,
    /// When the source was last heard, in seconds since 1970; 0: never.
    pub heard_unix_s: u64,
}

impl KubernetesNodes {
    /// Begins to follow. That the server cannot be reached is no error here: it may come.
    ///
    /// # Errors
    /// Where it is not clear which server to ask, or by which right.
    pub async fn follow(access: Access, patience: Patience) -> Result<Self> {
        let client = access.client().await.map_err(|error| anyhow!(error))?;
        let url = client.1.clone();
        let shared = Shared::default();
        let follower = Follower::new(access, client, patience, shared.clone());
        Ok(Self {
            shared,
            follower: tokio::spawn(follower.run()),
            url,
            read: None,
            stir: None,
        })
    }

    /// The server's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns once something has changed since the last time it did. Cancel safe: a change is not lost
    /// when this is dropped half-way.
    pub async fn changed(&mut self) {
        loop {
            let look_at = self.stir.map(|stir| stir.look_at);
            tokio::select! {
                () = self.shared.news() => {
                    let now = Instant::now();
                    let began = self.stir.map_or(now, |stir| stir.began);
                    let look_at = (now + SETTLE).min(began + LONGEST_SETTLE);
                    self.stir = Some(Stir { began, look_at });
                }
                () = at(look_at) => {
                    self.stir = None;
                    return;
                }
            }
        }
    }

    /// What there is now.
    pub fn read(&mut self) -> Reading {
        let state = self.shared.state();
        let mut nodes = None;
        if self.read != Some(state.revision) {
            nodes = state.store.nodes();
            if nodes.is_some() {
                self.read = Some(state.revision);
            }
        }
        let named = |line| format!("Kubernetes API {}: {line}", self.url);
        Reading {
            nodes,
            warnings: state.store.warnings().into_iter().map(named).collect(),
            error: state.error.clone(),
            heard_unix_s: state.heard_unix_s,
        }
    }

    /// When the server was last heard, in seconds since 1970; 0: never.
    pub fn heard_unix_s(&self) -> u64 {
        self.shared.state().heard_unix_s
    }
}

impl Drop for KubernetesNodes {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

/// Waits for a moment; for none, for ever.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
