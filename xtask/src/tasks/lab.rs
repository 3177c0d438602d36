//! `cargo xtask lab`: nodes and pods as network namespaces, by the program `underpass-lab`.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

pub fn run(args: &[OsString]) -> Result<ExitCode> {
    super::bench::run("underpass-lab", args, "make and enter network namespaces")
}
