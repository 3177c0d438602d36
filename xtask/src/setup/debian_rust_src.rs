//! Debian's package `rust-src`, of exactly one version.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context, Result, bail};

use super::apt::{self, Apt, Archive};
use crate::workspace;

/// Debian's suites in which to look, those first that are small and keep several versions of Rust.
const SUITES: [&str; 4] = ["trixie-backports", "trixie", "forky", "sid"];

const PACKAGE: &str = "rust-src";

/// Where the sources of all versions lie.
fn home() -> PathBuf {
    workspace::tools_dir().join("rust-src")
}

/// Whether a link in a toolchain leads to sources that this module fetched, in this workspace or another.
pub fn is_ours(target: &Path) -> bool {
    target
        .parent()
        .is_some_and(|dir| dir.ends_with("target/tools/rust-src"))
}

/// Fetches the sources that belong to rustc `version`: the folder that holds `library`.
///
/// # Errors
/// Not a machine with apt, the version is in no suite in reach, or a download failed.
pub fn fetch(version: &str) -> Result<PathBuf> {
    let place = home().join(version);
    if place.join("library").exists() {
        return Ok(place);
    }
    apt::check()?;
    let scratch = home().join(format!("fetching-{}", process::id()));
    let result = fetch_into(&scratch, version, &place);
    // The scratch folder matters to nobody; the result does.
    let _ = fs::remove_dir_all(&scratch);
    result.map(|()| place)
}

fn fetch_into(scratch: &Path, version: &str, place: &Path) -> Result<()> {
    let package = download(scratch, version)?;
    let unpacked = scratch.join("unpacked");
    apt::unpack(&package, &unpacked)?;
    // The package holds the compiler and its tools too, six times as much as the library.
    let library = unpacked.join(format!("usr/src/rustc-{version}/library"));
    fs::create_dir_all(place).with_context(|| format!("making {}", place.display()))?;
    fs::rename(&library, place.join("library"))
        .with_context(|| format!("taking {} out of {}", library.display(), package.display()))
}

/// Downloads the package from the first archive that has the version.
fn download(scratch: &Path, version: &str) -> Result<PathBuf> {
    let mut tried = Vec::new();
    let mut complaint = String::new();
    let mut archives = vec![Archive::of_machine()];
    archives.extend(Archive::of_debian(&SUITES)?);
    for archive in archives {
        let apt = Apt::new(&archive, &scratch.join(tried.len().to_string()))?;
        complaint = apt.update(&archive.name)?.unwrap_or(complaint);
        if let Some(full) = choose_version(&apt.versions(PACKAGE)?, version) {
            let files = apt.download(&[format!("{PACKAGE}={full}")])?;
            return files.into_iter().next().context("apt downloaded nothing");
        }
        tried.push(archive.name);
    }
    if !complaint.is_empty() {
        complaint = format!(" (apt: {complaint})");
    }
    bail!(
        "no package rust-src {version} in {}{complaint}",
        tried.join(", ")
    )
}

/// Chooses the version `<rustc version>+dfsg...`: the same sources, less what is not free; another compiler's
/// library does not compile.
fn choose_version<'a>(versions: &'a [String], rustc: &str) -> Option<&'a String> {
    let prefix = format!("{rustc}+dfsg");
    versions.iter().find(|version| version.starts_with(&prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_version_is_chosen() {
        let versions =
            ["1.97.1+dfsg1-1", "1.95.0+dfsg1-2~bpo13+1", "1.9.0+dfsg1-1"].map(str::to_owned);
        let choose = |rustc| choose_version(&versions, rustc).map(String::as_str);
        assert_eq!(choose("1.95.0"), Some("1.95.0+dfsg1-2~bpo13+1"));
        assert_eq!(choose("1.97.1"), Some("1.97.1+dfsg1-1"));
        assert_eq!(choose("1.95.1"), None);
        assert_eq!(choose("1.97.1-nightly"), None);
        assert_eq!(choose_version(&[], "1.95.0"), None);
    }

    #[test]
    fn our_links_are_known() {
        assert!(is_ours(Path::new(
            "/somewhere/target/tools/rust-src/1.95.0"
        )));
        assert!(!is_ours(Path::new("../../../src/rustc-1.95.0")));
    }
}
