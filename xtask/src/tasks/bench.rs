//! `cargo xtask bench`: Underpass beside other ways to connect the same pods, by the program `underpass-compare`.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

use super::lab_program::{self, Profile};
use crate::setup;

pub fn run(args: &[OsString]) -> Result<ExitCode> {
    setup::for_bench()?;
    lab_program::run(
        "underpass-compare",
        Profile::Release,
        args,
        "make network namespaces and load BPF programs into the kernel",
    )
}
