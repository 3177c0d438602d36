//! Kubelets that write their Nodes' status though nothing has changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::cluster::Peer;
use super::node::node;
use crate::api_server::{ApiServer, Said};

/// Heartbeats under way. Dropping it ends them.
pub(super) struct Heartbeats {
    stop: Arc<AtomicBool>,
    beats: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
    server: Arc<ApiServer>,
    began: Instant,
    before: Said,
}

/// What went over the watch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Traffic {
    pub events_per_s: f64,
    pub bytes_per_s: f64,
}

impl Heartbeats {
    /// Each of the peers `first..peers` writes its status once per `every`.
    pub(super) fn start(
        server: &Arc<ApiServer>,
        (first, peers): (usize, usize),
        every: Duration,
    ) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let beats = Arc::<AtomicU64>::default();
        let began = Instant::now();
        let pause = every / u32::try_from(peers - first).unwrap_or(u32::MAX).max(1);
        let thread = {
            let (stop, beats, server) = (Arc::clone(&stop), Arc::clone(&beats), Arc::clone(server));
            thread::spawn(move || {
                for (beat, number) in (0_u64..).zip((first..peers).cycle()) {
                    let due = began + pause.mul_f64(beat as f64);
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let peer = Peer(number);
                    server.set(node(
                        &peer.name(),
                        &peer.addresses(),
                        &peer.pod_cidrs(),
                        beat + 1,
                    ));
                    beats.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        Self {
            stop,
            beats,
            thread: Some(thread),
            server: Arc::clone(server),
            began,
            before: server.said(),
        }
    }

    /// How many there were so far.
    pub(super) fn count(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    /// What went over the watch since they began.
    pub(super) fn traffic(&self) -> Traffic {
        let (now, seconds) = (self.server.said(), self.began.elapsed().as_secs_f64());
        Traffic {
            events_per_s: (now.events - self.before.events) as f64 / seconds,
            bytes_per_s: (now.event_bytes - self.before.event_bytes) as f64 / seconds,
        }
    }
}

impl Drop for Heartbeats {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Where it panicked that has been said.
            let _ = thread.join();
        }
    }
}
