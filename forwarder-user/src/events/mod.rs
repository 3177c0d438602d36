//! Kubernetes Events about Nodes whose pods' traffic is left to the kernel, so that
//! `kubectl describe node` tells why.
//!
//! Every agent of a cluster finds the same of a hostile Node, and thousands of agents must not tell
//! it to the API server at once. So all agents together ask at most [`ASKED_PER_SECOND`] times a
//! second: each waits the longer between two Events the more nodes there are. And an Event's name is
//! made of what it says, so that all but the first of those who tell the same are answered by 409.

mod notices;
mod post;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

pub use notices::{Kind, Notice, notices};

use crate::random;
use crate::world::kubernetes::Access;
use post::{Outcome, Poster};

/// How often all agents of a cluster together may ask to write an Event.
const ASKED_PER_SECOND: f64 = 20.0;

/// How long is waited for what.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between two Events of one agent, at least.
    pub shortest_pause: Duration,
    /// Between two Events about the same Node for the same reason, where what they say differs: a
    /// Node that changes all the time is not worth more.
    pub same_matter: Duration,
    /// What still stands is told again after this: the API server forgets Events after an hour.
    pub repeat: Duration,
    /// After an Event could not be written.
    pub retry: Duration,
    /// For the server's answer.
    pub answer: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            shortest_pause: Duration::from_millis(500),
            same_matter: Duration::from_secs(60),
            repeat: Duration::from_secs(65 * 60),
            retry: Duration::from_secs(60),
            answer: Duration::from_secs(30),
        }
    }
}

/// What stands at the moment, and how many nodes there are.
#[derive(Clone, Debug, Default)]
struct Standing {
    notices: BTreeSet<Notice>,
    nodes: usize,
}

/// Writes Events in a task of its own until this is dropped.
#[derive(Debug)]
pub struct Announcer {
    standing: watch::Sender<Standing>,
    failures: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Announcer {
    /// An announcer for the agent on the node `own_name`.
    pub fn start(access: Access, own_name: &str, pace: Pace) -> Self {
        let (standing, news) = watch::channel(Standing::default());
        let failures = Arc::new(AtomicU64::new(0));
        let teller = Teller {
            poster: Poster::new(access, own_name),
            pace,
            news,
            told: BTreeMap::new(),
            warned: false,
            failures: Arc::clone(&failures),
        };
        Self {
            standing,
            failures,
            task: tokio::spawn(teller.run()),
        }
    }

    /// How often an Event could not be written; it counts on.
    pub fn failures(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.failures)
    }

    /// Takes what stands now in the place of what stood before; `nodes`: how many nodes there are.
    pub fn tell(&self, notices: BTreeSet<Notice>, nodes: usize) {
        self.standing.send_if_modified(|standing| {
            standing.nodes = nodes;
            let is_new = standing.notices != notices;
            standing.notices = notices;
            is_new
        });
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The task.
struct Teller {
    poster: Poster,
    pace: Pace,
    news: watch::Receiver<Standing>,
    /// What has been told, and when.
    told: BTreeMap<Notice, Instant>,
    warned: bool,
    failures: Arc<AtomicU64>,
}

impl Teller {
    /// Ends with the [`Announcer`].
    async fn run(mut self) {
        loop {
            sleep(self.pause()).await;
            if let Some(notice) = self.choose() {
                self.post(notice).await;
                continue;
            }
            // Also without news: what was told may become due again.
            if let Ok(Err(_)) = timeout(self.pace.same_matter, self.news.changed()).await {
                return;
            }
        }
    }

    /// Spread, so that no two agents go on in step.
    fn pause(&self) -> Duration {
        let share = share(self.news.borrow().nodes);
        share
            .max(self.pace.shortest_pause)
            .mul_f64(0.5 + random::fraction())
    }

    /// One of those that are due, at random: the agents of a cluster share them out like that.
    fn choose(&mut self) -> Option<Notice> {
        let now = Instant::now();
        let repeat = self.pace.repeat;
        self.told.retain(|_, when| now - *when < repeat);
        let same_matter = |notice: &Notice, other: &Notice, when: Instant| {
            notice.node == other.node
                && notice.reason == other.reason
                && now - when < self.pace.same_matter
        };
        let is_due = |notice: &&Notice| {
            let mut told = self.told.iter();
            !self.told.contains_key(*notice)
                && !told.any(|(other, when)| same_matter(notice, other, *when))
        };
        let standing = self.news.borrow_and_update();
        let due: Vec<&Notice> = standing.notices.iter().filter(is_due).collect();
        let chosen = (random::fraction() * due.len() as f64) as usize;
        due.get(chosen).map(|notice| (*notice).clone())
    }

    async fn post(&mut self, notice: Notice) {
        let outcome = timeout(self.pace.answer, self.poster.post(&notice)).await;
        let failed = match outcome {
            Ok(Outcome::Written | Outcome::KnownAlready) => {
                debug!(node = notice.node, reason = notice.reason, "Event told");
                self.told.insert(notice, Instant::now());
                self.warned = false;
                return;
            }
            Ok(Outcome::Failed(why)) => why,
            Err(_) => {
                self.poster.forget_connection();
                format!("no answer in {:?}", self.pace.answer)
            }
        };
        self.failures.fetch_add(1, Ordering::Relaxed);
        if !self.warned {
            warn!(
                "no Event can be written about node {}: {failed}; `underpass status` tells the same",
                notice.node
            );
            self.warned = true;
        }
        sleep(self.pace.retry).await;
    }
}

/// How long one of so many agents waits between two Events, on average.
fn share(nodes: usize) -> Duration {
    Duration::from_secs_f64(nodes as f64 / ASKED_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_agents_together_ask_no_more_than_a_few_times_a_second() {
        assert_eq!(share(0), Duration::ZERO);
        for nodes in [1, 10, 5_000] {
            let asked = nodes as f64 / share(nodes).as_secs_f64();
            assert!(asked <= ASKED_PER_SECOND + 1e-9, "{nodes} nodes: {asked}/s");
        }
    }
}
