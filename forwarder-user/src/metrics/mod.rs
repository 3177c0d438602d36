//! `--listen`: liveness, readiness and Prometheus metrics over HTTP.

mod collector;
mod serve;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub use serve::serve;

/// What the loop tells the HTTP side.
#[derive(Debug, Default)]
pub struct Health {
    /// Both sources have been read and everything has been applied at least once.
    ready: AtomicBool,
    /// The newest reconciliation failed.
    failing: AtomicBool,
    reconciled: AtomicU64,
    failed: AtomicU64,
}

impl Health {
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
}
