//! `cargo xtask demo`: the fast path shown and measured, by the program `underpass-demo`.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

use super::lab_program::{self, Profile};
use crate::setup;

pub fn run(args: &[OsString]) -> Result<ExitCode> {
    setup::for_lab()?;
    lab_program::run(
        "underpass-demo",
        Profile::Debug,
        args,
        "make network namespaces and load BPF programs into the kernel",
    )
}
