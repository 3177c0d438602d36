//! What the maps hold, for people and for programs.
//!
//! Everything here reads the pinned maps and works without an agent. The JSON forms are stable:
//! fields are added, never renamed or taken away.

pub mod check;
pub mod flows;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub mod paint;
pub mod peers;
pub mod pods;
pub mod print;
mod room;
pub mod status;
pub mod top;
pub mod trace;

use anyhow::{Result, bail};
use underpass_common::settings::LAYOUT_VERSION;

use crate::datapath::{Maps, Pins};

/// Opens the maps to read them.
///
/// # Errors
/// Where no agent has run, or one whose layout this version would misread.
pub fn open(pins: &Pins) -> Result<Maps> {
    if !pins.exist() {
        bail!(
            "no agent has run here: there is nothing under {} (another directory: --bpffs)",
            pins.root().display()
        );
    }
    let maps = Maps::open(pins)?;
    let found = maps.settings()?.layout_version;
    // 0: an agent has just begun, and has not written its settings yet.
    if found != LAYOUT_VERSION && found != 0 {
        bail!(
            "the maps under {} have layout {found}, this underpass reads {LAYOUT_VERSION}: use the one that the agent runs",
            pins.root().display()
        );
    }
    Ok(maps)
}
