//! What the scenarios share.

use std::time::Duration;

use underpass_bench::Lab;
use underpass_bench::lab::{AgentOptions, AgentProcess, LabBuilder};

/// How long anything may take that ought to happen at once: CI machines are slow and busy.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// The order of a lab whose agents run the program under test.
pub fn lab() -> LabBuilder {
    Lab::builder().underpass(env!("CARGO_BIN_EXE_underpass"))
}

/// Starts an agent on every node and waits until all are ready.
pub fn start_agents(lab: &Lab, options: &AgentOptions) -> Vec<AgentProcess> {
    lab.start_agents(options, DEADLINE).unwrap()
}
