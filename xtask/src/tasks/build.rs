//! `cargo xtask build`: the BPF programs, and the binary that has them inside.

use std::process::ExitCode;

use anyhow::{Context, Result};

use super::executables;
use crate::{setup, workspace};

pub fn run(release: bool) -> Result<ExitCode> {
    setup::for_build()?;
    let mut build = workspace::cargo();
    build.args(["build", "--package", "underpass"]);
    if release {
        build.arg("--release");
    }
    let built = executables::build(&mut build)?;
    let binary = built
        .iter()
        .find(|it| it.target == "underpass")
        .context("cargo built no binary `underpass`")?;
    println!("{}", binary.path.display());
    Ok(ExitCode::SUCCESS)
}
