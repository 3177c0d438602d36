//! What the demo found, for programs.

use serde::Serialize;

use super::comparison::Comparison;

/// The form of `--json FILE`.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    /// Every step was run, and every check held.
    pub ok: bool,
    /// Seconds from beginning to end.
    pub seconds: f64,
    /// The steps, in their order. A step that others stand on and that failed is the last but
    /// `cleanup`.
    pub checks: Vec<Check>,
    /// What was measured; absent where it came to nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured: Option<Measured>,
}

/// One step.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    /// Its name, the same in every run.
    pub name: &'static str,
    /// It held.
    pub ok: bool,
    /// What was seen, or what went wrong.
    pub detail: String,
    /// Seconds that it took.
    pub seconds: f64,
}

/// The figures. Only those of one run may be compared with each other.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    /// CPUs of this machine.
    pub cpus: u32,
    /// The kernel's release.
    pub kernel: String,
    /// What the lab's wires are.
    pub wires: &'static str,
    /// How often each figure was taken, on each road in turn.
    pub rounds: usize,
    /// One entry for each figure.
    pub figures: Vec<Comparison>,
}
