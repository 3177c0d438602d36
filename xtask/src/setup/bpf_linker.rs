//! bpf-linker, which links the BPF programs.

use anyhow::Result;

use super::{Outcome, cargo_tool};

/// A newer one may want another LLVM than the pinned rustc brings.
const VERSION: &str = "0.10.3";

pub fn ensure() -> Result<Outcome> {
    cargo_tool::ensure("bpf-linker", VERSION)
}
