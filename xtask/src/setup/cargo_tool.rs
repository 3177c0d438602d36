//! Programs that cargo installs, of one version for everybody, in the workspace and not in the user's cargo.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::Outcome;
use crate::{process, workspace};

/// Installs `name` in exactly this version, unless it is there.
///
/// # Errors
/// cargo could not compile it, or could not reach a registry.
pub fn ensure(name: &str, version: &str) -> Result<Outcome> {
    let tools = workspace::tools_dir();
    if is_installed(&tools, name, version) {
        return Ok(Outcome::Present(version.to_owned()));
    }
    eprintln!("  compiling {name} {version}, which takes a minute or two ...");
    let build_dir = tools.join(format!("{name}-build"));
    let mut install = workspace::cargo();
    install
        .args([
            "install",
            name,
            "--locked",
            "--version",
            &format!("={version}"),
            "--root",
        ])
        .arg(&tools);
    // A target dir of its own leaves the workspace's build as it is.
    install.env("CARGO_TARGET_DIR", &build_dir);
    // Build scripts look into `tools`; cargo advises people to put it on PATH, unless it is there.
    install.env("PATH", process::path_and([tools.join("bin")]));
    process::run(&mut install)
        .with_context(|| format!("installing {name} (cargo's own words are above)"))?;
    fs::remove_dir_all(&build_dir).with_context(|| format!("removing {}", build_dir.display()))?;
    Ok(Outcome::Installed(format!(
        "{version} in {}",
        tools.display()
    )))
}

/// Whether the program is there in our version, by cargo's own record of what it installed.
fn is_installed(tools: &Path, name: &str, version: &str) -> bool {
    let record = fs::read_to_string(tools.join(".crates.toml")).unwrap_or_default();
    process::is_executable(&tools.join("bin").join(name)) && records(&record, name, version)
}

fn records(record: &str, name: &str, version: &str) -> bool {
    let entry = format!("\"{name} {version} ");
    record.lines().any(|line| line.starts_with(&entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_installed_anew() {
        let record = "[v1]\n\"bpf-linker 0.10.3 (registry+somewhere)\" = [\"bpf-linker\"]\n";
        assert!(records(record, "bpf-linker", "0.10.3"));
        assert!(!records(record, "bpf-linker", "0.10.30"));
        assert!(!records(record, "bpf-linker", "0.10"));
        assert!(!records(record, "linker", "0.10.3"));
        assert!(!records("", "bpf-linker", "0.10.3"));
    }
}
