//! Where everything is pinned: one directory on a BPF file system.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use underpass_common::verdict::Hook;

use super::lock_holder;
use crate::neighbour_limits::Marks;
use crate::packet_trace::Mark;

/// The directory where nothing else is asked for.
pub const DEFAULT_DIR: &str = "/sys/fs/bpf/underpass";

/// The pins of one node: maps directly in the directory, links and programs below it.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

/// Held while an agent runs; a second one on the same directory cannot have it, in whatever network namespace it is.
/// Those in the same network namespace meet at [`OnlyAgent`](super::OnlyAgent).
#[derive(Debug)]
pub struct AgentLock {
    _dir: Flock<File>,
}

impl Pins {
    /// The pins in `root`, whether they exist or not.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `<dir>/<map>`.
    pub fn map(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// `<dir>/links`.
    pub fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// `<dir>/links/<program>-<ifindex>`.
    pub fn link(&self, hook: Hook, ifindex: u32) -> PathBuf {
        self.links().join(format!("{}-{ifindex}", hook.name()))
    }

    /// `<dir>/programs`.
    pub fn programs(&self) -> PathBuf {
        self.root.join("programs")
    }

    /// `<dir>/programs/<program>`.
    pub fn program(&self, hook: Hook) -> PathBuf {
        self.programs().join(hook.name())
    }

    /// `<dir>/was_strict`, an empty directory: `nf_conntrack_tcp_be_liberal` was 0 before an agent set it
    /// to 1. No map tells this, because maps of another layout are given up and this must outlive them.
    pub fn was_strict(&self) -> PathBuf {
        self.root.join("was_strict")
    }

    /// `<dir>/neighbour_limits`: what the limits of the kernel's neighbour tables were before an agent
    /// raised them.
    pub fn neighbour_limits(&self) -> Marks {
        Marks::new(self.root.join("neighbour_limits"))
    }

    /// `<dir>/packet_trace`: which packets the programs trace.
    pub fn packet_trace(&self) -> Mark {
        Mark::new(self.root.join("packet_trace"))
    }

    /// `<dir>/qdiscs`: a directory for each clsact qdisc that we have made, called as its device's index.
    pub fn qdiscs(&self) -> PathBuf {
        self.root.join("qdiscs")
    }

    /// True where something of ours is pinned here.
    pub fn exist(&self) -> bool {
        self.map(underpass_common::map_names::SETTINGS).exists()
    }

    /// Makes the directories.
    ///
    /// # Errors
    /// Where the directory does not lie on a BPF file system, or cannot be made.
    pub fn create(&self) -> Result<()> {
        self.check_file_system()?;
        for dir in [self.root.clone(), self.links(), self.programs()] {
            std::fs::create_dir_all(&dir)
                .with_context(|| format!("cannot make the directory {}", dir.display()))?;
        }
        Ok(())
    }

    /// Tells whether the directory lies, or would lie, on a BPF file system.
    ///
    /// # Errors
    /// Says how to mount one.
    pub fn check_file_system(&self) -> Result<()> {
        let there = self
            .root
            .ancestors()
            .find(|path| path.exists())
            .unwrap_or(Path::new("/"));
        let kind = statfs(there).with_context(|| format!("cannot look at {}", there.display()))?;
        if kind.filesystem_type() != BPF_FS_MAGIC {
            bail!(
                "{} is not on a BPF file system, where maps and programs are kept: mount one with \
                 `mount -t bpf bpf /sys/fs/bpf`, or name another place with --bpffs",
                self.root.display()
            );
        }
        Ok(())
    }

    /// Takes the lock of the one agent.
    ///
    /// # Errors
    /// Where another agent holds it.
    pub fn lock(&self) -> Result<AgentLock> {
        let dir = File::open(&self.root)
            .with_context(|| format!("cannot open {}", self.root.display()))?;
        match Flock::lock(dir, FlockArg::LockExclusiveNonblock) {
            Ok(dir) => Ok(AgentLock { _dir: dir }),
            Err((dir, nix::errno::Errno::EWOULDBLOCK)) => {
                let process = lock_holder::of(&dir)
                    .map_or_else(String::new, |pid| format!(" (process {pid})"));
                bail!(
                    "another agent is at work on {}{process}: stop it first (one in another network namespace needs another \
                     directory: --bpffs)",
                    self.root.display()
                )
            }
            Err((_, error)) => {
                Err(error).with_context(|| format!("cannot lock {}", self.root.display()))
            }
        }
    }

    /// True while an agent runs.
    pub fn agent_runs(&self) -> bool {
        let Ok(dir) = File::open(&self.root) else {
            return false;
        };
        matches!(
            Flock::lock(dir, FlockArg::LockSharedNonblock),
            Err((_, nix::errno::Errno::EWOULDBLOCK))
        )
    }

    /// Removes every pin and the directory. What is attached by a pinned link is detached by this.
    ///
    /// # Errors
    /// Names the file that would not go.
    pub fn remove_all(&self) -> Result<()> {
        // The directory goes only when it is empty: somebody else's pin in it stays, and is told.
        for dir in [self.links(), self.programs()] {
            remove_files(&dir)?;
            remove_dir(&dir)?;
        }
        remove_dir(&self.qdiscs())?;
        for name in super::load::map_names()? {
            remove_file(&self.map(&name))?;
        }
        remove_dir(&self.was_strict())?;
        self.neighbour_limits().remove()?;
        self.packet_trace().remove()?;
        remove_dir(&self.root)
    }
}

/// Removes a file; none there is as good.
///
/// # Errors
/// Names the file.
pub fn remove_file(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn remove_files(dir: &Path) -> Result<()> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| format!("cannot read {}", dir.display()))?,
    };
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", dir.display()))?;
        remove_file(&entry.path())?;
    }
    Ok(())
}

/// Removes an empty directory; none there is as good.
///
/// # Errors
/// Names the directory.
pub fn remove_dir(dir: &Path) -> Result<()> {
    match std::fs::remove_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}
