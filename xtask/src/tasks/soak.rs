//! `cargo xtask soak`: agents that come, go and crash under traffic, by the program `underpass-soak`.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

use super::lab_program::{self, Profile};
use crate::setup;

pub fn run(args: &[OsString]) -> Result<ExitCode> {
    setup::for_lab()?;
    lab_program::run(
        "underpass-soak",
        Profile::Debug,
        args,
        "make network namespaces and load BPF programs into the kernel",
    )
}
