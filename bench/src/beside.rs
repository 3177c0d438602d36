//! Programs that cargo puts beside each other.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

/// The program of this name beside this one.
///
/// # Errors
/// When it isn't there; the message names the `task` that builds it.
pub fn program(name: &str, task: &str) -> Result<PathBuf> {
    let this = std::env::current_exe().context("cannot tell where this program lies")?;
    let path = this.with_file_name(name);
    ensure!(
        path.is_file(),
        "there is no {}: `{task}` builds it",
        path.display()
    );
    Ok(path)
}
