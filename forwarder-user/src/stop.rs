//! Being told to stop.

use std::future::Future;

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};

/// Ends when somebody tells this process to stop: SIGTERM or SIGINT, from this call on.
///
/// # Errors
/// Where signals cannot be waited for.
pub fn told() -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
