//! What operators live by: the log, the metrics, the alerts and the dashboard.

#[path = "../documented/anchors.rs"]
mod anchors;
mod logs;
mod metrics;
mod promtool;
mod rules;
mod tracing;

use std::time::Duration;

use underpass_bench::Lab;
use underpass_bench::lab::LabBuilder;

/// How long anything may take that ought to happen at once: CI machines are slow and busy.
const DEADLINE: Duration = Duration::from_secs(20);

/// Two nodes with a pod each, whose agents run the program under test.
fn lab() -> LabBuilder {
    Lab::builder()
        .underpass(env!("CARGO_BIN_EXE_underpass"))
        .nodes(2)
        .pods(1)
}

/// A file of the repository.
fn repository(path: &str) -> String {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let path = format!("{root}/{path}");
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}
