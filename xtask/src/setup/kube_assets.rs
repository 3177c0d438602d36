//! The programs of Kubernetes that tests run, as they are: those of the folder that `KUBEBUILDER_ASSETS` names, and
//! what is missing there built from its Go modules, of one version for everybody, into the user's cache.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::process::{capture_slow, find_program, is_executable, name_of};
use crate::workspace;

/// Where people who test controllers have them already; kubebuilder's own folder lacks kube-proxy.
const KUBEBUILDER_ASSETS: &str = "KUBEBUILDER_ASSETS";

/// The programs, and the Go packages that they are built from.
const PROGRAMS: [(&str, &str); 4] = [
    ("etcd", "go.etcd.io/etcd/server/v3"),
    ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    ("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
    ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
];

/// The modules whose versions name a folder of the cache.
const MODULES: [(&str, &str); 2] = [
    ("kubernetes", "k8s.io/kubernetes"),
    ("etcd", "go.etcd.io/etcd/server/v3"),
];

/// What there is of the programs.
#[derive(Debug)]
pub struct KubeAssets {
    /// The folders that hold them, the first one that has a program first: a list as in PATH.
    pub path: OsString,
    /// What is missing, and why.
    pub lacking: Option<String>,
}

/// Finds the programs, and builds those that are nowhere. What cannot be brought is told in `lacking`.
///
/// # Errors
/// The list of versions is not as it should be.
pub fn ensure_there() -> Result<KubeAssets> {
    let given = env::var_os(KUBEBUILDER_ASSETS).map(PathBuf::from);
    let missing: Vec<_> = PROGRAMS
        .into_iter()
        .filter(|(name, _)| !given.as_ref().is_some_and(|dir| has(dir, name)))
        .collect();
    let mut dirs: Vec<_> = given.iter().cloned().collect();
    let mut lacking = None;
    if !missing.is_empty() {
        let names: Vec<_> = missing.iter().map(|(name, _)| *name).collect();
        let names = names.join(", ");
        if let Some(dir) = &given {
            let dir = dir.display();
            eprintln!("  {KUBEBUILDER_ASSETS} ({dir}) has no {names}: ours are taken");
        }
        let manifest = fs::read_to_string(modules_dir().join("go.mod"));
        let key = cache_key(&manifest.context("reading bench/kube-assets/go.mod")?)?;
        let built = cache_dir().and_then(|cache| build_in(&cache.join(key), &missing));
        match built {
            Ok(dir) => dirs.push(dir),
            Err(error) => lacking = Some(format!("no {names}: {error:#}")),
        }
    }
    let path = env::join_paths(dirs).context("a folder of programs has a colon in its name")?;
    Ok(KubeAssets { path, lacking })
}

fn has(dir: &Path, name: &str) -> bool {
    is_executable(&dir.join(name))
}

/// The Go module that pins versions and checksums.
fn modules_dir() -> PathBuf {
    workspace::root().join("bench/kube-assets")
}

/// The folder of the user's cache that is ours.
fn cache_dir() -> Result<PathBuf> {
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    // XDG Base Directory Specification: a relative path is to be ignored.
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.filter(|dir| dir.is_absolute()).or_else(home);
    let cache = cache.context("neither XDG_CACHE_HOME nor HOME is set")?;
    Ok(cache.join("underpass/kube-assets"))
}

/// The name of the folder for the versions in a go.mod: `kubernetes-v1.36.3-etcd-v3.6.8`.
fn cache_key(manifest: &str) -> Result<String> {
    let version = |module: &str| {
        let mut lines = manifest.lines().map(|line| line.trim());
        let line = lines.find_map(|line| line.strip_prefix(module)?.strip_prefix(' '));
        let version = line.and_then(|rest| rest.split_whitespace().next());
        version.with_context(|| format!("bench/kube-assets/go.mod does not require {module}"))
    };
    let parts: Result<Vec<_>> = MODULES
        .iter()
        .map(|(name, module)| Ok(format!("{name}-{}", version(module)?)))
        .collect();
    Ok(parts?.join("-"))
}

/// Builds those of the programs that are not in `dir`, each moved there once it is whole.
fn build_in(dir: &Path, programs: &[(&str, &str)]) -> Result<PathBuf> {
    if programs.iter().all(|(name, _)| has(dir, name)) {
        return Ok(dir.to_owned());
    }
    let Some(go) = find_program("go") else {
        bail!(
            "{KUBEBUILDER_ASSETS} names no folder with them, and this machine has no Go to build them with"
        );
    };
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    // Whoever else wants to build waits here, and then finds it done.
    let lock = File::create(dir.join(".lock")).context("opening the cache's lock")?;
    lock.lock().context("locking the cache")?;
    // With the lock held, what is there is left over from a build that was cut off.
    let draft = dir.join(".building");
    for (name, package) in programs.iter().filter(|(name, _)| !has(dir, name)) {
        build(&go, package, &draft, name)?;
        let place = dir.join(name);
        fs::rename(&draft, &place).with_context(|| format!("making {}", place.display()))?;
    }
    Ok(dir.to_owned())
}

fn build(go: &Path, package: &str, to: &Path, name: &str) -> Result<()> {
    let mut command = Command::new(go);
    command
        .current_dir(modules_dir())
        .args(["build", "-mod=readonly", "-trimpath", "-ldflags=-s -w"])
        .arg("-o")
        .arg(to)
        .arg(package);
    // For this machine, needing no library of it, and by no other list of modules.
    command.env("CGO_ENABLED", "0").env("GOWORK", "off");
    command.env_remove("GOOS").env_remove("GOARCH");
    let what = format!("building {name} (first time only)");
    let output = capture_slow(&what, &mut command)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{} failed: {}",
        name_of(&command),
        last_lines(&said)
    );
    Ok(())
}

/// The end of what Go said, in one line: before it stands what it downloaded.
fn last_lines(said: &str) -> String {
    let lines: Vec<_> = said
        .lines()
        .filter(|line| !line.starts_with("go: downloading "))
        .collect();
    lines[lines.len().saturating_sub(5)..].join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_named_by_what_is_required() {
        let manifest = "require (\n\tgo.etcd.io/etcd/server/v3 v3.6.8\n\tk8s.io/kubernetes v1.36.3 // indirect\n)\n";
        let key = cache_key(manifest).unwrap();
        assert_eq!(key, "kubernetes-v1.36.3-etcd-v3.6.8");
        assert!(cache_key("module m\n\nrequire k8s.io/kubernetes-x v1\n").is_err());
    }

    #[test]
    fn our_own_list_of_modules_names_a_cache() {
        let manifest = fs::read_to_string(modules_dir().join("go.mod")).unwrap();
        assert!(cache_key(&manifest).unwrap().starts_with("kubernetes-v1."));
    }

    #[test]
    fn an_error_of_go_is_told_without_its_downloads() {
        let said = "go: downloading a v1\ngo: downloading b v2\nno such package\n";
        assert_eq!(last_lines(said), "no such package");
    }
}
