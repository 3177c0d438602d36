//! What the follower and the agent's loop share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::store::{Partial, Store};
use crate::clock::unix_now;
use crate::world::cluster::Node;

/// Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Shared(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    news: Notify,
}

/// What the follower knows.
#[derive(Debug, Default)]
pub struct State {
    /// The nodes.
    pub store: Store,
    /// Counts the changes of `store`.
    pub revision: u64,
    /// What is wrong; `None` since the server has been heard.
    pub error: Option<String>,
    /// When the server was last heard, in seconds since 1970; 0: never.
    pub heard_unix_s: u64,
}

impl Shared {
    /// Waits until there are other nodes, or another error or none. What comes while nobody waits is told to
    /// the next one who does.
    pub async fn news(&self) {
        self.0.news.notified().await;
    }

    /// The state, for a moment.
    pub fn state(&self) -> MutexGuard<'_, State> {
        // Whoever panicked with it has left it whole: every change is a single step.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A complete list.
    pub fn replace(&self, list: Partial) {
        self.change(|store| store.replace(list));
    }

    /// A Node is new or has changed.
    pub fn apply(&self, node: Node) {
        self.change(|store| store.apply(node));
    }

    /// A Node is gone.
    pub fn delete(&self, node: &Node) {
        self.change(|store| store.delete(node));
    }

    /// The server has said something.
    pub fn heard(&self) {
        self.change(|_| false);
    }

    /// Something is wrong.
    pub fn failed(&self, error: String) {
        let error = Some(error);
        let mut state = self.state();
        if state.error != error {
            state.error = error;
            self.0.news.notify_one();
        }
    }

    fn change(&self, change: impl FnOnce(&mut Store) -> bool) {
        let mut state = self.state();
        let changed = change(&mut state.store);
        state.revision += u64::from(changed);
        state.heard_unix_s = unix_now();
        let recovered = state.error.take().is_some();
        if changed || recovered {
            self.0.news.notify_one();
        }
    }
}
