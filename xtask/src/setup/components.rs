//! rustfmt and clippy: a minimal rustup profile lacks them, and `cargo xtask test` runs both.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use super::Outcome;
use super::rust_src::sysroot;
use crate::{process, workspace};

/// Each component, and the program that shows that it is there.
const COMPONENTS: [(&str, &str); 2] = [("rustfmt", "cargo-fmt"), ("clippy", "cargo-clippy")];

pub fn ensure() -> Result<Outcome> {
    let sysroot = sysroot()?;
    let missing = missing(&sysroot);
    if missing.is_empty() {
        return Ok(Outcome::Present(String::new()));
    }
    rustup_add(&missing)?;
    match self::missing(&sysroot).as_slice() {
        [] => Ok(Outcome::Installed(missing.join(", "))),
        left => bail!(
            "rustup is done, but {} lacks {}",
            sysroot.display(),
            left.join(", ")
        ),
    }
}

fn missing(sysroot: &Path) -> Vec<&'static str> {
    let is_there = |program: &str| {
        process::is_executable(&sysroot.join("bin").join(program)) || packaged(program)
    };
    COMPONENTS
        .iter()
        .filter(|(_, program)| !is_there(program))
        .map(|(component, _)| *component)
        .collect()
}

/// Whether another package than the toolchain brought the program. Where rustup is, what PATH holds
/// is only rustup's stand-in, which is there with and without the component.
fn packaged(program: &str) -> bool {
    rustup().is_none() && process::find_program(program).is_some()
}

pub fn rustup() -> Option<PathBuf> {
    process::find_program("rustup")
}

/// Adds components to the toolchain in use.
///
/// # Errors
/// As [`call_rustup`].
pub fn rustup_add(components: &[&str]) -> Result<()> {
    call_rustup(&[&["component", "add"], components].concat())
}

/// Has rustup change the toolchain in use: `target add TARGET`.
///
/// # Errors
/// No rustup, or it failed: with its own words, shortened.
pub fn call_rustup(arguments: &[&str]) -> Result<()> {
    let what = format!("rustup {}", arguments.join(" "));
    let Some(rustup) = rustup() else {
        bail!("this machine has no rustup for `{what}`");
    };
    let mut command = Command::new(rustup);
    // Its own traces would bury the one line that matters.
    command
        .args(arguments)
        .env("RUST_BACKTRACE", "0")
        .current_dir(workspace::root());
    let output = process::capture_slow(&what, &mut command)?;
    if !output.status.success() {
        bail!(
            "rustup: {}",
            shorten(&String::from_utf8_lossy(&output.stderr))
        );
    }
    Ok(())
}

/// What failed, and the root cause, from rustup's `error:` line, which is a chain of causes.
fn shorten(stderr: &str) -> String {
    let error = stderr.lines().find_map(|line| line.strip_prefix("error: "));
    let error = error.unwrap_or(stderr).trim();
    match (error.split_once(": "), error.rsplit_once(": ")) {
        (Some((what, _)), Some((_, cause))) => format!("{what}: {cause}"),
        _ => error.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rustup_errors_fit_on_a_line() {
        let stderr = "info: downloading component rust-src\n\
                      error: component download failed for rust-src: could not download file \
                      from 'http://a.example/b': Connection refused (os error 111)\n";
        let short = "component download failed for rust-src: Connection refused (os error 111)";
        assert_eq!(shorten(stderr), short);
        assert_eq!(shorten("error: no such toolchain\n"), "no such toolchain");
        assert_eq!(shorten("killed\n"), "killed");
    }
}
