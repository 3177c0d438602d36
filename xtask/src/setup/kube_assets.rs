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

/// Where people who test controllers have them already; kubebuilder's own folder lacks kube-proxy and helm.
const KUBEBUILDER_ASSETS: &str = "KUBEBUILDER_ASSETS";

/// A program, and what it is built from.
#[derive(Clone, Copy, Debug)]
struct Program {
    name: &'static str,
    /// The Go package.
    package: &'static str,
    /// The folder of `bench/kube-assets` whose go.mod pins it.
    list: &'static str,
}

const PROGRAMS: [Program; 5] = [
    Program::new("etcd", "go.etcd.io/etcd/server/v3", ""),
    Program::new("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver", ""),
    Program::new("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy", ""),
    Program::new("kubectl", "k8s.io/kubernetes/cmd/kubectl", ""),
    Program::new("helm", "helm.sh/helm/v3/cmd/helm", "helm"),
];

impl Program {
    const fn new(name: &'static str, package: &'static str, list: &'static str) -> Self {
        Self {
            name,
            package,
            list,
        }
    }
}

/// The modules whose versions name a folder of the cache, each with the list that pins it.
const MODULES: [(&str, &str, &str); 3] = [
    ("kubernetes", "k8s.io/kubernetes", ""),
    ("etcd", "go.etcd.io/etcd/server/v3", ""),
    ("helm", "helm.sh/helm/v3", "helm"),
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
        .filter(|program| !given.as_ref().is_some_and(|dir| has(dir, program.name)))
        .collect();
    let mut dirs: Vec<_> = given.iter().cloned().collect();
    let mut lacking = None;
    if !missing.is_empty() {
        let names: Vec<_> = missing.iter().map(|program| program.name).collect();
        let names = names.join(", ");
        if let Some(dir) = &given {
            let dir = dir.display();
            eprintln!("  {KUBEBUILDER_ASSETS} ({dir}) has no {names}: ours are taken");
        }
        let key = cache_key()?;
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

/// A Go module that pins versions and checksums.
fn modules_dir(list: &str) -> PathBuf {
    workspace::root().join("bench/kube-assets").join(list)
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

/// The name of the folder for the versions that are pinned: `kubernetes-v1.36.3-etcd-v3.6.8-helm-v3.21.4`.
fn cache_key() -> Result<String> {
    let part = |(name, module, list): (&str, &str, &str)| {
        let manifest = modules_dir(list).join("go.mod");
        let text = fs::read_to_string(&manifest);
        let text = text.with_context(|| format!("reading {}", manifest.display()))?;
        let version = version_in(&text, module);
        let version =
            version.with_context(|| format!("{} does not require {module}", manifest.display()))?;
        Ok(format!("{name}-{version}"))
    };
    let parts: Result<Vec<_>> = MODULES.into_iter().map(part).collect();
    Ok(parts?.join("-"))
}

/// The version of a module that the text of a go.mod requires.
fn version_in<'a>(manifest: &'a str, module: &str) -> Option<&'a str> {
    let mut lines = manifest.lines().map(str::trim);
    let rest = lines.find_map(|line| {
        let line = line.strip_prefix("require ").unwrap_or(line);
        line.strip_prefix(module)?.strip_prefix(' ')
    })?;
    rest.split_whitespace().next()
}

/// Builds those of the programs that are not in `dir`, each moved there once it is whole.
fn build_in(dir: &Path, programs: &[Program]) -> Result<PathBuf> {
    if programs.iter().all(|program| has(dir, program.name)) {
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
    for program in programs.iter().filter(|program| !has(dir, program.name)) {
        build(&go, program, &draft)?;
        let place = dir.join(program.name);
        fs::rename(&draft, &place).with_context(|| format!("making {}", place.display()))?;
    }
    Ok(dir.to_owned())
}

fn build(go: &Path, program: &Program, to: &Path) -> Result<()> {
    let mut command = Command::new(go);
    command
        .current_dir(modules_dir(program.list))
        .args(["build", "-mod=readonly", "-trimpath", "-ldflags=-s -w"])
        .arg("-o")
        .arg(to)
        .arg(program.package);
    // For this machine, needing no library of it, and by no other list of modules.
    command.env("CGO_ENABLED", "0").env("GOWORK", "off");
    command.env_remove("GOOS").env_remove("GOARCH");
    let what = format!("building {} (first time only)", program.name);
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
    fn a_version_is_read_out_of_a_list_of_modules() {
        let manifest = "require (\n\tgo.etcd.io/etcd/server/v3 v3.6.8\n\tk8s.io/kubernetes v1.36.3 // indirect\n)\n";
        assert_eq!(version_in(manifest, "k8s.io/kubernetes"), Some("v1.36.3"));
        assert_eq!(version_in("require m v2\n", "m"), Some("v2"));
        assert_eq!(version_in("require m-x v1\n", "m"), None);
    }

    #[test]
    fn our_own_lists_name_a_cache() {
        let key = cache_key().unwrap();
        assert!(
            key.starts_with("kubernetes-v1.") && key.contains("-helm-v3."),
            "{key}"
        );
    }

    #[test]
    fn an_error_of_go_is_told_without_its_downloads() {
        let said = "go: downloading a v1\ngo: downloading b v2\nno such package\n";
        assert_eq!(last_lines(said), "no such package");
    }
}
