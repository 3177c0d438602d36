//! `cargo xtask lab`: nodes and pods as network namespaces, by the program `underpass-lab`.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

use super::bench::{self, Profile};

pub fn run(args: &[OsString]) -> Result<ExitCode> {
    bench::run(
        "underpass-lab",
        Profile::Debug,
        args,
        "make and enter network namespaces",
    )
}
