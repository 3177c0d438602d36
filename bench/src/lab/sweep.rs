//! Taking labs down: one's own, and those whose makers are gone.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use super::host::NETNS_DIR;
use super::{bpffs, registry};
use crate::wait::wait_until;

/// Takes down every lab whose maker is gone, and returns their names. Labs that are meant to stay,
/// and those of running processes, are left alone. Call it with the registry's lock held.
pub(crate) fn sweep_dead() -> Result<Vec<String>> {
    let mut swept = Vec::new();
    for lab in registry::labs()? {
        if !registry::owner(&lab).is_some_and(|owner| owner.holds()) {
            take_down(&lab).with_context(|| format!("left over: lab {lab}"))?;
            swept.push(lab);
        }
    }
    Ok(swept)
}

/// Takes down a persistent lab, or one whose maker is gone.
///
/// # Errors
/// When there is no such lab, or it belongs to a running process.
pub fn down(lab: &str) -> Result<()> {
    super::names::check_lab_name(lab)?;
    let _lock = registry::lock()?;
    if !registry::dir(lab).exists() {
        bail!("there is no lab called {lab}");
    }
    match registry::owner(lab) {
        Some(owner) if owner.holds() && !owner.persistent => {
            bail!(
                "lab {lab} belongs to process {}, which still runs",
                owner.pid
            )
        }
        _ => take_down(lab),
    }
}

/// Takes down all persistent labs and those whose makers are gone, and returns their names.
///
/// # Errors
/// When something of one can't be removed.
pub fn down_all() -> Result<Vec<String>> {
    let _lock = registry::lock()?;
    let mut gone = sweep_dead()?;
    for lab in registry::labs()? {
        if registry::owner(&lab).is_some_and(|owner| owner.persistent) {
            take_down(&lab)?;
            gone.push(lab);
        }
    }
    Ok(gone)
}

/// Removes all that is on record as this lab's: processes, namespaces, pins, files; in this order,
/// so that nobody is left who would make new ones. The record goes last.
pub(crate) fn take_down(lab: &str) -> Result<()> {
    let namespaces = registry::namespaces(lab)?;
    kill_inside(&namespaces)?;
    for namespace in &namespaces {
        remove_namespace(namespace)?;
    }
    if registry::owns_bpffs(lab) {
        let pins = bpffs::dir(lab);
        ignore_missing(fs::remove_dir_all(&pins))
            .with_context(|| format!("cannot remove {}", pins.display()))?;
    }
    let dir = registry::dir(lab);
    ignore_missing(fs::remove_dir_all(&dir))
        .with_context(|| format!("cannot remove {}", dir.display()))
}

/// Kills the processes that live in one of these namespaces, and waits until they are gone.
pub(crate) fn kill_inside(namespaces: &[String]) -> Result<()> {
    let inodes: BTreeSet<_> = namespaces
        .iter()
        .filter_map(|name| identity(&Path::new(NETNS_DIR).join(name)))
        .collect();
    for pid in inhabitants(&inodes)? {
        // It may have ended by itself meanwhile.
        match signal::kill(Pid::from_raw(pid), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => bail!("cannot kill process {pid}: {error}"),
        }
    }
    wait_until(
        Duration::from_secs(5),
        "the lab's processes are gone",
        || inhabitants(&inodes).is_ok_and(|left| left.is_empty()),
    )
}

/// Processes in one of these network namespaces, this one excepted.
fn inhabitants(inodes: &BTreeSet<(u64, u64)>) -> Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot read /proc")? {
        let entry = entry.context("cannot read /proc")?;
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let inside = identity(&entry.path().join("ns/net")).is_some_and(|id| inodes.contains(&id));
        if inside && pid != nix::unistd::getpid().as_raw() {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Device and inode tell one namespace from another (namespaces(7)).
fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// What `ip netns del` does; fine where it is gone already.
pub(crate) fn remove_namespace(name: &str) -> Result<()> {
    let path = Path::new(NETNS_DIR).join(name);
    match umount2(&path, MntFlags::MNT_DETACH) {
        // EINVAL: a plain file; its maker was killed before it mounted the namespace on it.
        Ok(()) | Err(Errno::ENOENT | Errno::EINVAL) => {}
        Err(error) => bail!("cannot unmount {}: {error}", path.display()),
    }
    ignore_missing(fs::remove_file(&path))
        .with_context(|| format!("cannot remove {}", path.display()))
}

/// What is gone already needs no removing.
pub(crate) fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
