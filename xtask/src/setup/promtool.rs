//! `promtool`, out of Debian's and Ubuntu's package `prometheus`. It is not installed but unpacked: the package
//! itself would start a server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context, Result};

use super::Outcome;
use super::apt::{self, Apt, Archive};
use crate::process::{find_program, is_executable};
use crate::workspace;

const NAME: &str = "promtool";
const PACKAGE: &str = "prometheus";

/// Where the tests look for it, before they look on the PATH.
fn home() -> PathBuf {
    workspace::tools_dir().join(NAME)
}

/// Brings it where it lacks. Nothing but a few tests misses it.
///
/// # Errors
/// None: a failure is a [`Outcome::Lacking`].
pub fn ensure() -> Result<Outcome> {
    if find_program(NAME).is_some() || is_executable(&home().join(NAME)) {
        return Ok(Outcome::Present(String::new()));
    }
    if let Err(error) = apt::check() {
        return Ok(Outcome::Lacking(format!(
            "{error:#}, so please install {NAME} (it comes with Prometheus): tests of alerts and metrics use it"
        )));
    }
    let scratch = home().join(format!("fetching-{}", process::id()));
    let result = fetch(&scratch);
    // The scratch folder matters to nobody; the result does.
    let _ = fs::remove_dir_all(&scratch);
    Ok(match result {
        Ok(version) => Outcome::Installed(format!("{NAME} of {PACKAGE} {version}")),
        Err(error) => Outcome::Lacking(format!("{error:#}; some tests will be skipped")),
    })
}

/// Downloads the newest package in reach and takes the program out of it; the version.
fn fetch(scratch: &Path) -> Result<String> {
    let archive = Archive::of_machine();
    let apt = Apt::new(&archive, scratch)?;
    let complaint = apt.update(&archive.name)?;
    let versions = apt.versions(PACKAGE)?;
    let version = versions.into_iter().next().with_context(|| {
        let complaint = complaint.map(|text| format!(" (apt: {text})"));
        format!(
            "no package {PACKAGE} in {}{}",
            archive.name,
            complaint.unwrap_or_default()
        )
    })?;
    let files = apt.download(&[format!("{PACKAGE}={version}")])?;
    let package = files.first().context("apt downloaded nothing")?;
    let unpacked = scratch.join("unpacked");
    apt::unpack(package, &unpacked)?;
    let program = unpacked.join("usr/bin").join(NAME);
    fs::rename(&program, home().join(NAME))
        .with_context(|| format!("taking {} out of {}", program.display(), package.display()))?;
    Ok(version)
}
