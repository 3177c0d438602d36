//! What the maps hold, for people and for programs.
//!
//! Everything here reads the pinned maps and works without an agent. The JSON forms are stable:
//! fields are added, never renamed or taken away.

pub mod check;
pub mod flows;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub mod peers;
pub mod pods;
pub mod print;
pub mod status;
