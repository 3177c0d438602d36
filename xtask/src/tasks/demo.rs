//! `cargo xtask demo`: the fast path shown and measured, by the program `underpass-demo`.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

pub fn run(args: &[OsString]) -> Result<ExitCode> {
    super::bench::run(
        "underpass-demo",
        args,
        "make network namespaces and load BPF programs into the kernel",
    )
}
