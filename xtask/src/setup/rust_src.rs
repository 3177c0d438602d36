//! The sources of Rust's library: `core` is compiled for the BPF target, which has none ready-made.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::{Outcome, components, debian_rust_src};
use crate::{process, workspace};

/// The file that shows that the sources are there.
const PROOF: &str = "library/core/src/lib.rs";

pub fn ensure() -> Result<Outcome> {
    let place = sysroot()?.join("lib/rustlib/src/rust");
    if place.join(PROOF).exists() && !is_stale(&place)? {
        return Ok(Outcome::Present(String::new()));
    }
    remove_old_link(&place)?;
    let rustup_says = match components::rustup_add(&["rust-src"]) {
        Ok(()) if place.join(PROOF).exists() => {
            return Ok(Outcome::Installed("by rustup".to_owned()));
        }
        Ok(()) => format!(
            "rustup says it is there, but there is no {}",
            place.join(PROOF).display()
        ),
        Err(error) => format!("{error:#}"),
    };
    eprintln!("  rust-src: {rustup_says}; trying Debian's package");
    let version = rustc_version()?;
    match debian_rust_src::fetch(&version).and_then(|source| link(&source, &place)) {
        Ok(()) => Ok(Outcome::Installed(format!(
            "Debian's package for {version}"
        ))),
        Err(error) => bail!(
            "the library sources of rustc {version} are not to be had. {rustup_says}. Debian: {error:#}. \
             Run `rustup component add rust-src` where its servers can be reached, or put the sources at {}",
            place.display()
        ),
    }
}

/// The folder of the toolchain in use.
pub fn sysroot() -> Result<PathBuf> {
    Ok(process::read(workspace::rustc().args(["--print", "sysroot"]))?.into())
}

/// The version of the compiler in use, such as `1.95.0`.
fn rustc_version() -> Result<String> {
    let line = process::read(workspace::rustc().arg("--version"))?;
    let version = line.split_whitespace().nth(1);
    Ok(version
        .with_context(|| format!("rustc names its version strangely: {line}"))?
        .to_owned())
}

/// Whether the sources are a link that we made for another compiler: a toolchain such as `stable` moves on.
fn is_stale(place: &Path) -> Result<bool> {
    match fs::read_link(place) {
        Ok(target) if debian_rust_src::is_ours(&target) => Ok(!target.ends_with(rustc_version()?)),
        _ => Ok(false),
    }
}

/// Takes away a link that leads nowhere (its workspace is gone) or to the sources of another compiler.
fn remove_old_link(place: &Path) -> Result<()> {
    if !fs::symlink_metadata(place).is_ok_and(|meta| meta.is_symlink()) {
        return Ok(());
    }
    match fs::remove_file(place) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let purpose = format!("remove the outdated link {}", place.display());
            process::run(process::as_root("rm", &[], &purpose)?.arg(place))
        }
        result => result.with_context(|| format!("removing the outdated link {}", place.display())),
    }
}

fn link(source: &Path, place: &Path) -> Result<()> {
    let dir = place
        .parent()
        .with_context(|| format!("{} has no parent", place.display()))?;
    match fs::create_dir_all(dir).and_then(|()| symlink(source, place)) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let purpose = format!("link Rust's library sources to {}", place.display());
            if !dir.is_dir() {
                process::run(process::as_root("mkdir", &[], &purpose)?.arg("-p").arg(dir))?;
            }
            let mut link = process::as_root("ln", &[], &purpose)?;
            process::run(link.arg("-s").args([source, place]))
        }
        result => {
            result.with_context(|| format!("linking {} to {}", place.display(), source.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_linked_and_a_dead_link_goes() {
        let dir = workspace::target_dir().join(format!("xtask-link-test-{}", std::process::id()));
        let (source, place) = (dir.join("source"), dir.join("src/rust"));
        fs::create_dir_all(&source).unwrap();
        link(&source, &place).unwrap();
        assert_eq!(fs::read_link(&place).unwrap(), source);
        fs::remove_dir(&source).unwrap();
        remove_old_link(&place).unwrap();
        assert!(fs::symlink_metadata(&place).is_err());
        fs::remove_dir_all(&dir).unwrap();
    }
}
