//! The handbooks in `docs/`: each command that they tell to type is run on a node of the lab, with agents at work and
//! traffic going by, and prints what the picture below it promises.

#[path = "../documented/anchors.rs"]
mod anchors;
mod blocks;
mod bpftool;
mod links;
mod operating;
#[path = "../documented/shell.rs"]
mod shell;
mod traffic;

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use underpass_bench::wait_for;

use crate::blocks::{Block, promises};
use crate::shell::Shell;
use crate::traffic::Traffic;

/// How long anything may take that ought to happen at once: CI machines are slow and busy.
const DEADLINE: Duration = Duration::from_secs(20);

/// The repository.
fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A file of it.
fn repository(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Runs a block, until it prints what the document promises; where that is nothing, once.
fn try_block(block: &Block<'_>, shell: &Shell<'_>, traffic: &mut Traffic) -> Result<()> {
    let promised = promises(block.shown.unwrap_or_default());
    let what = format!("`{}` prints what the document shows", block.script.trim());
    // What ends with anything else than 0 is not tried again.
    wait_for(DEADLINE, &what, || {
        traffic.exchange()?;
        let printed = match shell.run(block.script) {
            Ok(printed) => printed,
            Err(error) => return Ok(Err(error)),
        };
        // For whoever renews the pictures: `--nocapture`.
        println!("$ {}\n{printed}", block.script.trim());
        let missing: Vec<_> = promised
            .iter()
            .filter(|word| !printed.contains(**word))
            .collect();
        ensure!(missing.is_empty(), "no {missing:?} in\n{printed}");
        Ok(Ok(()))
    })?
}
