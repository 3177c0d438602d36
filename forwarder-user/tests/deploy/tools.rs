//! The programs of Kubernetes that build manifests.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use underpass_bench::skip;

use crate::manifest::{deploy, objects};

/// The objects of an overlay, sorted; none without kubectl, which is told.
pub fn kustomize(test: &str, overlay: &str) -> Result<Option<Vec<Value>>> {
    build(test, "kubectl", &[Path::new("kustomize"), &deploy(overlay)])
}

/// The objects of the chart in the namespace kube-system, sorted; none without helm, which is told.
pub fn helm(test: &str, settings: &[&str]) -> Result<Option<Vec<Value>>> {
    let chart = deploy("helm/underpass");
    let words = ["template", "underpass", "--namespace", "kube-system"].map(Path::new);
    let settings = settings
        .iter()
        .flat_map(|one| ["--set", one].map(Path::new));
    let arguments: Vec<_> = words.into_iter().chain(settings).chain([&*chart]).collect();
    build(test, "helm", &arguments)
}

fn build(test: &str, name: &str, arguments: &[&Path]) -> Result<Option<Vec<Value>>> {
    let Some(program) = find(name) else {
        skip(test, &format!("this machine has no {name}"));
        return Ok(None);
    };
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("cannot start {name}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} {arguments:?}: {complaint}");
    let mut made = objects(&String::from_utf8(output.stdout)?)?;
    made.retain(|object| !object.is_null());
    made.sort_by_key(|object| object["kind"].as_str().map(str::to_owned));
    Ok(Some(made))
}

/// Among the programs of Kubernetes that `cargo xtask kube-assets` brought, else on the PATH.
fn find(name: &str) -> Option<PathBuf> {
    let folders = ["UNDERPASS_KUBE_ASSETS", "PATH"].into_iter();
    let folders = folders.filter_map(env::var_os);
    folders
        .flat_map(|list| env::split_paths(&list).collect::<Vec<_>>())
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}
