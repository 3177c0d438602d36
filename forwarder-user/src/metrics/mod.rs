//! `--listen`: liveness, readiness and Prometheus metrics over HTTP.

mod collector;
mod exposition;
mod serve;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;

pub use serve::serve;

/// Upper ends of the histogram's buckets, in seconds: a plan without changes takes about a millisecond, the
/// first one among thousands of nodes some seconds.
const DURATIONS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
];

/// What the loop tells the HTTP side.
#[derive(Debug)]
pub struct Health {
    /// Both sources have been read and everything has been applied at least once.
    ready: AtomicBool,
    /// The newest reconciliation failed.
    failing: AtomicBool,
    reconciled: AtomicU64,
    failed: AtomicU64,
    durations: Histogram,
    kernel_read_unix_s: AtomicU64,
    overruns: AtomicU64,
    neighbours_lost: AtomicU64,
    event_failures: Arc<AtomicU64>,
}

impl Default for Health {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl Health {
    /// `event_failures`: how often a Kubernetes Event could not be written, counted elsewhere.
    pub fn new(event_failures: Arc<AtomicU64>) -> Self {
        Self {
            ready: AtomicBool::default(),
            failing: AtomicBool::default(),
            reconciled: AtomicU64::default(),
            failed: AtomicU64::default(),
            durations: Histogram::new(DURATIONS),
            kernel_read_unix_s: AtomicU64::default(),
            overruns: AtomicU64::default(),
            neighbours_lost: AtomicU64::default(),
            event_failures,
        }
    }

    /// The loop has applied what it wanted.
    pub fn reconciled(&self) {
        self.reconciled.fetch_add(1, Ordering::Relaxed);
        self.failing.store(false, Ordering::Relaxed);
        self.ready.store(true, Ordering::Release);
    }

    /// The loop could not apply what it wanted, and will try again.
    pub fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.failing.store(true, Ordering::Relaxed);
    }

    /// How long planning and applying took, well or badly.
    pub fn took(&self, duration: Duration) {
        self.durations.observe(duration.as_secs_f64());
    }

    /// The kernel's network state was read whole at this moment, in seconds since 1970.
    pub fn kernel_read(&self, unix_s: u64) {
        self.kernel_read_unix_s.store(unix_s, Ordering::Relaxed);
    }

    /// The kernel had more to report than was taken in time.
    pub fn overrun(&self) {
        self.overruns.fetch_add(1, Ordering::Relaxed);
    }

    /// So many other nodes had a MAC before, and have none now.
    pub fn neighbours_lost(&self, count: usize) {
        self.neighbours_lost
            .fetch_add(count as u64, Ordering::Relaxed);
    }
}
