//! `cargo xtask lab`: nodes and pods as network namespaces, by the program `underpass-lab`.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

use super::lab_program::{self, Profile};
use crate::setup;

pub fn run(args: &[OsString]) -> Result<ExitCode> {
    setup::for_lab()?;
    lab_program::run(
        "underpass-lab",
        Profile::Debug,
        args,
        "make and enter network namespaces",
    )
}
