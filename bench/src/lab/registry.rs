//! The record of every lab on this machine: who made it and which namespaces are its own. Only what
//! stands here is ever taken down.
//!
//! ```text
//! /run/underpass-lab/.lock               held while labs are claimed or swept
//! /run/underpass-lab/<lab>/owner.json    who made it
//!                          netns/<name>  one empty file per namespace, made before the namespace
//!                          bpffs         empty: its directory for pins is its own
//!                          lab.json      its hosts, once it is up
//!                          nodes.yaml, *.log
//!                          kubernetes/   what its control plane keeps, if it has one
//! ```

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::host::NETNS_DIR;
use super::{bpffs, sweep};

/// Where the records are.
const STATE_DIR: &str = "/run/underpass-lab";
/// The note that a lab's directory in the BPF file system is its own.
const BPFFS_NOTE: &str = "bpffs";

/// Who made a lab.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Owner {
    /// Process id.
    pub pid: u32,
    /// When that process began, in clock ticks since boot: tells it from a later one of that id.
    pub start_time: u64,
    /// Stays up without its owner, until somebody takes it down.
    pub persistent: bool,
}

impl Owner {
    /// This process.
    fn this_process() -> Result<Self> {
        let pid = std::process::id();
        let start_time =
            start_time(pid).with_context(|| format!("cannot read /proc/{pid}/stat"))?;
        Ok(Self {
            pid,
            start_time,
            persistent: false,
        })
    }

    /// True where the lab must be left alone.
    pub fn holds(&self) -> bool {
        self.persistent || start_time(self.pid) == Some(self.start_time)
    }
}

/// When process `pid` began, in clock ticks since boot (proc(5), field 22 of `stat`).
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the command's name in parentheses and may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

/// A lab's record. Dropping it takes everything down that it names, unless the lab is persistent.
#[derive(Debug)]
pub(crate) struct Record {
    name: String,
    keep: bool,
}

impl Record {
    /// Takes the name for a lab of this process, after sweeping what dead processes left.
    pub fn claim(name: &str) -> Result<Self> {
        let _lock = lock()?;
        for swept in sweep::sweep_dead()? {
            eprintln!("lab {swept}: the process that made it is gone; taken down");
        }
        let dir = dir(name);
        match fs::create_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                bail!("there is a lab called {name} already (underpass-lab down --name {name})")
            }
            made => made.with_context(|| format!("cannot make {}", dir.display()))?,
        }
        let record = Self {
            name: name.to_owned(),
            keep: false,
        };
        write_json(&record.file("owner.json"), &Owner::this_process()?)?;
        let namespaces = record.file("netns");
        fs::create_dir(&namespaces)
            .with_context(|| format!("cannot make {}", namespaces.display()))?;
        record.add_bpffs()?;
        Ok(record)
    }

    /// The lab's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A file of this lab.
    pub fn file(&self, file: &str) -> PathBuf {
        dir(&self.name).join(file)
    }

    /// Makes the lab's directory for pins.
    fn add_bpffs(&self) -> Result<()> {
        bpffs::ensure_mounted()?;
        let pins = bpffs::dir(&self.name);
        // The note below gives leave to remove it.
        ensure!(!pins.exists(), "{} is somebody else's", pins.display());
        File::create_new(self.file(BPFFS_NOTE)).context("cannot note the directory for pins")?;
        fs::create_dir(&pins).with_context(|| format!("cannot make {}", pins.display()))
    }

    /// Notes a namespace as this lab's; before it is made.
    pub fn add_namespace(&self, namespace: &str) -> Result<()> {
        let path = Path::new(NETNS_DIR).join(namespace);
        ensure!(!path.exists(), "{} is somebody else's", path.display());
        let note = self.file("netns").join(namespace);
        File::create_new(&note).map(drop).with_context(|| {
            format!(
                "namespace {namespace}: cannot note it in {}",
                note.display()
            )
        })
    }

    /// Forgets a namespace that has been removed.
    pub fn forget_namespace(&self, namespace: &str) -> Result<()> {
        let note = self.file("netns").join(namespace);
        fs::remove_file(&note).with_context(|| format!("cannot remove {}", note.display()))
    }

    /// Lets the lab stay up when this process ends.
    pub fn make_persistent(mut self) -> Result<()> {
        let owner = Owner {
            persistent: true,
            ..Owner::this_process()?
        };
        write_json(&self.file("owner.json"), &owner)?;
        self.keep = true;
        Ok(())
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        if let Err(error) = sweep::take_down(&self.name) {
            eprintln!(
                "lab {}: not all of it could be taken down: {error:#}",
                self.name
            );
        }
    }
}

/// The directory of a lab's record.
pub(crate) fn dir(lab: &str) -> PathBuf {
    Path::new(STATE_DIR).join(lab)
}

/// Who made a lab; `None` where nothing tells, as it was killed at its very beginning.
pub(crate) fn owner(lab: &str) -> Option<Owner> {
    let text = fs::read_to_string(dir(lab).join("owner.json")).ok()?;
    serde_json::from_str(&text).ok()
}

/// True where the lab made its directory for pins.
pub(crate) fn owns_bpffs(lab: &str) -> bool {
    dir(lab).join(BPFFS_NOTE).exists()
}

/// The namespaces noted as a lab's.
pub(crate) fn namespaces(lab: &str) -> Result<Vec<String>> {
    names_in(&dir(lab).join("netns"))
}

/// All labs on record, in the order of their names.
pub(crate) fn labs() -> Result<Vec<String>> {
    let mut labs = names_in(Path::new(STATE_DIR))?;
    labs.retain(|name| !name.starts_with('.'));
    labs.sort();
    Ok(labs)
}

/// Holds off everybody else who would claim or sweep, until it is dropped.
pub(crate) fn lock() -> Result<Flock<File>> {
    fs::create_dir_all(STATE_DIR).with_context(|| format!("cannot make {STATE_DIR}"))?;
    let path = Path::new(STATE_DIR).join(".lock");
    let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .with_context(|| format!("cannot lock {}", path.display()))
}

/// Writes a file so that a reader sees all of it or nothing of it.
pub(crate) fn write_whole(path: &Path, text: &str) -> Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    fs::write(&draft, text)
        .and_then(|()| fs::rename(&draft, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// As [`write_whole`], from a value.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    write_whole(path, &text)
}

/// Names in a directory; none where it doesn't exist.
fn names_in(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("cannot read {}", dir.display()))?,
    };
    entries
        .map(|entry| {
            let entry = entry.with_context(|| format!("cannot read {}", dir.display()))?;
            Ok(entry.file_name().to_string_lossy().into_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_holds_its_labs() {
        assert!(Owner::this_process().unwrap().holds());
    }

    #[test]
    fn a_later_process_of_the_same_id_does_not() {
        let mut owner = Owner::this_process().unwrap();
        owner.start_time += 1;
        assert!(!owner.holds());
        owner.persistent = true;
        assert!(owner.holds());
    }
}
