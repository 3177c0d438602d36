//! What builds a binary that needs no library: Rust's library for musl, and a C compiler for it (the one for TLS has
//! parts in C).

use anyhow::Result;

use super::rust_src::sysroot;
use super::{Outcome, components, programs};
use crate::process::find_program;
use crate::tasks::image::Arch;

/// The compiler's name of the target.
pub fn triple(arch: Arch) -> String {
    format!("{}-unknown-linux-musl", arch.of_rust())
}

/// The C compiler and linker for a kind of machine that this one is not.
pub fn cross_compiler(arch: Arch) -> Option<&'static str> {
    match arch {
        _ if Arch::of_machine().is_ok_and(|machine| machine == arch) => None,
        Arch::Amd64 => Some(programs::CC_AMD64),
        Arch::Arm64 => Some(programs::CC_ARM64),
    }
}

/// Why it cannot be built; `None`: it can.
///
/// # Errors
/// There is no compiler.
pub fn lacking(arch: Arch) -> Result<Option<String>> {
    let target = triple(arch);
    if !has_library(&target)? {
        return Ok(Some(format!("Rust has no library for {target} here")));
    }
    let cc = cross_compiler(arch).unwrap_or(programs::CC_MUSL);
    Ok(match find_program(cc) {
        Some(_) => None,
        None => Some(format!("there is no C compiler {cc}")),
    })
}

/// Brings Rust's library for it.
///
/// # Errors
/// There is no compiler.
pub(super) fn ensure(arch: Arch) -> Result<Outcome> {
    let target = triple(arch);
    if has_library(&target)? {
        return Ok(Outcome::Present(String::new()));
    }
    Ok(match components::call_rustup(&["target", "add", &target]) {
        Ok(()) => Outcome::Installed(format!("{target}, by rustup")),
        Err(error) => Outcome::Lacking(format!("{error:#}")),
    })
}

/// Brings the C compiler for it.
///
/// # Errors
/// Nobody could be asked.
pub(super) fn ensure_compiler(arch: Arch) -> Result<Outcome> {
    programs::ensure_compiler(cross_compiler(arch).unwrap_or(programs::CC_MUSL))
}

fn has_library(target: &str) -> Result<bool> {
    Ok(sysroot()?
        .join("lib/rustlib")
        .join(target)
        .join("lib")
        .is_dir())
}
