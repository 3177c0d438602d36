//! The manifests, shown to an API server.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use underpass_bench::Lab;
use underpass_bench::lab::kubernetes::{Assets, ControlPlane};

use crate::cluster::deploy;

/// Asks the API server what it would make of objects; nothing is written, and unknown fields are refused.
const APPLY: [&str; 4] = [
    "apply",
    "--server-side",
    "--dry-run=server",
    "--validate=strict",
];

#[test]
fn every_manifest_is_accepted() -> Result<()> {
    let test = "every_manifest_is_accepted";
    let Some(assets) = Assets::or_skip(test, &ControlPlane::PROGRAMS) else {
        return Ok(());
    };
    let lab = Lab::builder().nodes(1).pods(0).build()?;
    let cluster = ControlPlane::start(&lab, &assets)?;
    let folders = kustomizations(&deploy())?;
    ensure!(
        !folders.is_empty(),
        "no manifests in {}",
        deploy().display()
    );
    for folder in folders {
        let path = folder.to_str().context("a folder's name is no UTF-8")?;
        let said = cluster.kubectl(&[&APPLY[..], &["-k", path]].concat())?;
        let accepted = said
            .lines()
            .all(|line| line.ends_with("serverside-applied (server dry run)"));
        ensure!(accepted && !said.is_empty(), "{path}: {said}");
    }
    // It does look.
    let typo = r#"{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "x", "lables": {}}}"#;
    let refused = cluster.kubectl_with_input(&[&APPLY[..], &["-f", "-"]].concat(), typo);
    let error = refused
        .err()
        .context("a field that doesn't exist is accepted")?;
    ensure!(format!("{error:#}").contains("lables"), "{error:#}");
    Ok(())
}

/// The folders with a `kustomization.yaml`, here and below.
fn kustomizations(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if folder.join("kustomization.yaml").exists() {
        found.push(folder.to_owned());
    }
    let entries = fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(kustomizations(&path)?);
        }
    }
    Ok(found)
}
