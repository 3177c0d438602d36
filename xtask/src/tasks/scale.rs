//! `cargo xtask scale`: the agent in a cluster of thousands of nodes, by the program `underpass-scale`.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

use super::lab_program::{self, Profile};
use crate::setup;

pub fn run(args: &[OsString]) -> Result<ExitCode> {
    setup::for_lab()?;
    lab_program::run(
        "underpass-scale",
        Profile::Release,
        args,
        "make network namespaces, load BPF programs into the kernel, and raise its neighbour tables' limits meanwhile",
    )
}
