//! The demo: the fast path shown, measured against plain routes, and put to the test, on a cluster of
//! three nodes.
//!
//! Two like clusters are raised. Both are measured over plain routes, which tells the noise; then one
//! of them gets an agent on each node, and they are measured in turns. Timings are told and never
//! decide whether the demo succeeds; packets, bytes and counts do.

mod agents;
mod bypass;
mod clusters;
mod comparison;
mod maps;
mod pings;
mod race;
mod report;

mod service;
mod stage;
mod story;
mod table;

pub use story::{Ending, Options, run};
