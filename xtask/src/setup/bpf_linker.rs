//! bpf-linker, of one version for everybody, in the workspace and not in the user's cargo.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::Outcome;
use crate::{process, workspace};

/// A newer one may want another LLVM than the pinned rustc brings.
const VERSION: &str = "0.10.3";

pub fn ensure() -> Result<Outcome> {
    let tools = workspace::tools_dir();
    if is_installed(&tools) {
        return Ok(Outcome::Present(VERSION.to_owned()));
    }
    eprintln!("  compiling bpf-linker {VERSION}, which takes a minute or two ...");
    let build_dir = tools.join("bpf-linker-build");
    let mut install = workspace::cargo();
    install
        .args([
            "install",
            "bpf-linker",
            "--locked",
            "--version",
            &format!("={VERSION}"),
            "--root",
        ])
        .arg(&tools);
    // A target dir of its own leaves the workspace's build as it is.
    install.env("CARGO_TARGET_DIR", &build_dir);
    // Build scripts look into `tools`; cargo advises people to put it on PATH, unless it is there.
    install.env("PATH", process::path_and([tools.join("bin")]));
    process::run(&mut install).context("installing bpf-linker (cargo's own words are above)")?;
    fs::remove_dir_all(&build_dir).with_context(|| format!("removing {}", build_dir.display()))?;
    Ok(Outcome::Installed(format!(
        "{VERSION} in {}",
        tools.display()
    )))
}

/// Whether the program is there in our version, by cargo's own record of what it installed.
fn is_installed(tools: &Path) -> bool {
    let record = fs::read_to_string(tools.join(".crates.toml")).unwrap_or_default();
    process::is_executable(&tools.join("bin/bpf-linker")) && records(&record, VERSION)
}

fn records(record: &str, version: &str) -> bool {
    let entry = format!("\"bpf-linker {version} ");
    record.lines().any(|line| line.starts_with(&entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_installed_anew() {
        let record = "[v1]\n\"bpf-linker 0.10.3 (registry+somewhere)\" = [\"bpf-linker\"]\n";
        assert!(records(record, "0.10.3"));
        assert!(!records(record, "0.10.30"));
        assert!(!records(record, "0.10"));
        assert!(!records("", "0.10.3"));
    }
}
