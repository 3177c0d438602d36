//! The binary that needs no file but itself.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Arch;
use crate::setup::static_target;
use crate::tasks::executables;
use crate::terminal::yellow;
use crate::workspace;

/// Builds it: with musl, whose resolver is linked in whole; else, for this machine's kind alone, with glibc.
///
/// # Errors
/// Neither can be built, and why.
pub fn build(arch: Arch, quick: bool) -> Result<PathBuf> {
    let mut cargo = workspace::cargo();
    cargo.args(["build", "--package", "underpass", "--bin", "underpass"]);
    match static_target::lacking(arch)? {
        None => with_musl(&mut cargo, arch),
        Some(why) if arch == Arch::of_machine()? => {
            eprintln!(
                "{} {why}. Linking glibc statically instead, which resolves no names without its files: give the \
                 API server by address",
                yellow("no musl:")
            );
            with_glibc(&mut cargo, arch);
        }
        Some(why) => bail!("no image for {}: {why}", arch.name()),
    }
    if quick {
        cargo.args(["--config", "profile.dev.debug=false"]);
        cargo.args(["--config", "profile.dev.strip=true"]);
    } else {
        cargo.args(["--profile", "image"]);
    }
    let built = executables::build(&mut cargo)?;
    let binary = built.into_iter().find(|it| it.target == "underpass");
    Ok(binary.context("cargo built no binary `underpass`")?.path)
}

fn with_musl(cargo: &mut Command, arch: Arch) {
    let target = static_target::triple(arch);
    cargo.args(["--target", &target]);
    if let Some(cc) = static_target::cross_compiler(arch) {
        let variable = target.replace('-', "_");
        cargo.env(format!("CC_{variable}"), cc);
        let variable = variable.to_uppercase();
        cargo.env(format!("CARGO_TARGET_{variable}_LINKER"), cc);
    }
}

fn with_glibc(cargo: &mut Command, arch: Arch) {
    // The target is named so that its flags are not those of build scripts and macros.
    let target = format!("{}-unknown-linux-gnu", arch.of_rust());
    let variable = target.replace('-', "_").to_uppercase();
    cargo.args(["--target", &target]).env(
        format!("CARGO_TARGET_{variable}_RUSTFLAGS"),
        "-C target-feature=+crt-static",
    );
}
