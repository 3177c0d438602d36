//! A program on a host as a container runtime runs it: with a root file system of its own, read-only, with what is
//! mounted into it, and with a few capabilities. Not with a runtime's seccomp and AppArmor profiles, nor in a cgroup
//! or a PID namespace of its own.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result};
use caps::Capability;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chdir, pivot_root};

use super::{Host, process};

/// Folders that a program needs which is not linked statically, where they are.
const LIBRARIES: [&str; 3] = ["/lib", "/lib64", "/usr/lib"];

/// A container to be: run it as often as you like.
#[derive(Clone, Debug)]
pub struct Container {
    root: PathBuf,
    mounts: Vec<Mount>,
    capabilities: u64,
    environment: Vec<(OsString, OsString)>,
}

/// A file or folder of the machine, and where it is to be seen.
#[derive(Clone, Debug)]
struct Mount {
    source: PathBuf,
    /// Below the folder that becomes the root.
    target: PathBuf,
    read_only: bool,
    /// With what is mounted below the source.
    recursive: bool,
}

impl Container {
    /// With this folder as its root, `/proc` and `/sys` as a runtime mounts them, and no capability. Mount points are
    /// made in the folder; the program sees it read-only.
    ///
    /// # Errors
    /// When a mount point can't be made.
    pub fn new(root: impl Into<PathBuf>) -> Result<Self> {
        let bare = Self {
            root: root.into(),
            mounts: Vec::new(),
            capabilities: 0,
            environment: Vec::new(),
        };
        bare.mount("/proc", "/proc")?
            .mount_read_only("/proc/sys", "/proc/sys")?
            .mount_read_only("/sys", "/sys")
    }

    /// With the machine's `source`, a file or a folder, at `target`; what is mounted below it stays out.
    ///
    /// # Errors
    /// When there is no such source, or no place for it.
    pub fn mount(self, source: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<Self> {
        self.add_mount(source.as_ref(), target.as_ref(), false, false)
    }

    /// As [`mount`](Self::mount), with what is mounted below the source at this time: so a pod has it by
    /// `mountPropagation: HostToContainer`.
    ///
    /// # Errors
    /// As [`mount`](Self::mount).
    pub fn mount_recursive(
        self,
        source: impl AsRef<Path>,
        target: impl AsRef<Path>,
    ) -> Result<Self> {
        self.add_mount(source.as_ref(), target.as_ref(), false, true)
    }

    /// As [`mount`](Self::mount), read-only.
    ///
    /// # Errors
    /// As [`mount`](Self::mount).
    pub fn mount_read_only(
        self,
        source: impl AsRef<Path>,
        target: impl AsRef<Path>,
    ) -> Result<Self> {
        self.add_mount(source.as_ref(), target.as_ref(), true, false)
    }

    /// With the machine's libraries, for a program that isn't linked statically.
    ///
    /// # Errors
    /// As [`mount`](Self::mount).
    pub fn with_libraries(self) -> Result<Self> {
        let there = LIBRARIES.into_iter().filter(|dir| Path::new(dir).exists());
        there
            .into_iter()
            .try_fold(self, |container, dir| container.mount_read_only(dir, dir))
    }

    /// With these capabilities, and no others, whoever runs it.
    #[must_use]
    pub fn capabilities(mut self, capabilities: &[Capability]) -> Self {
        self.capabilities = mask(capabilities);
        self
    }

    /// With an environment variable. None is handed on from this process.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Runs a command of its file system to its end, however it ends.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn output(&self, host: &Host, command: &[&str]) -> Result<Output> {
        let prepared = self.command(host, command)?;
        process::run(prepared, "")
            .with_context(|| format!("{}: cannot run {}", host.name(), command.join(" ")))
    }

    /// A command of its file system, to be started by whichever means.
    pub(super) fn command(&self, host: &Host, words: &[&str]) -> Result<Command> {
        let (program, arguments) = words.split_first().context("no command given")?;
        let mut command = Command::new(program);
        let environment = self.environment.iter().map(|(name, value)| (name, value));
        command.args(arguments).env_clear().envs(environment);
        // Its network namespace first: later nothing can be entered any more.
        host.confine(&mut command)?;
        let (root, mounts, capabilities) =
            (self.root.clone(), self.mounts.clone(), self.capabilities);
        // SAFETY: between fork and exec; system calls only, on paths that are shorter than nix's buffer on the stack.
        unsafe {
            command.pre_exec(move || {
                move_in(&root, &mounts)?;
                keep_only(capabilities)
            });
        }
        Ok(command)
    }

    fn add_mount(
        mut self,
        source: &Path,
        target: &Path,
        read_only: bool,
        recursive: bool,
    ) -> Result<Self> {
        let target = self.root.join(target.strip_prefix("/").unwrap_or(target));
        // A mount point below an earlier mount is that one's affair.
        let is_covered = self
            .mounts
            .iter()
            .any(|mount| target.starts_with(&mount.target));
        if !is_covered {
            make_mount_point(source, &target)
                .with_context(|| format!("cannot mount on {}", target.display()))?;
        }
        self.mounts.push(Mount {
            source: source.to_owned(),
            target,
            read_only,
            recursive,
        });
        Ok(self)
    }
}

/// The bits of capabilities, as `/proc/PID/status` shows them.
pub fn mask(capabilities: &[Capability]) -> u64 {
    let bits = capabilities.iter().map(Capability::bitmask);
    bits.fold(0, |mask, bit| mask | bit)
}

fn make_mount_point(source: &Path, target: &Path) -> Result<()> {
    if fs::metadata(source)?.is_dir() {
        return Ok(fs::create_dir_all(target)?);
    }
    fs::create_dir_all(target.parent().unwrap_or(target))?;
    Ok(File::create(target).map(drop)?)
}

/// Makes `root` this process's root, in a mount namespace of its own.
fn move_in(root: &Path, mounts: &[Mount]) -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    remount(Path::new("/"), MsFlags::MS_REC | MsFlags::MS_PRIVATE)?;
    bind(root, root, MsFlags::empty())?;
    for mount in mounts {
        let below = match mount.recursive {
            true => MsFlags::MS_REC,
            false => MsFlags::empty(),
        };
        bind(&mount.source, &mount.target, below)?;
        if mount.read_only {
            make_read_only(&mount.target)?;
        }
    }
    make_read_only(root)?;
    chdir(root)?;
    // The old root lies on top of the new one then, and goes.
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")
}

fn bind(source: &Path, target: &Path, more: MsFlags) -> nix::Result<()> {
    let none = None::<&str>;
    mount(Some(source), target, none, MsFlags::MS_BIND | more, none)
}

fn make_read_only(target: &Path) -> nix::Result<()> {
    remount(
        target,
        MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY,
    )
}

fn remount(target: &Path, flags: MsFlags) -> nix::Result<()> {
    let none = None::<&str>;
    mount(none, target, none, flags, none)
}

/// Gives up all capabilities but these, for good: what root is given anew by exec is bounded by this.
fn keep_only(capabilities: u64) -> io::Result<()> {
    nix::sys::prctl::set_no_new_privs()?;
    for number in 0..u64::BITS {
        if capabilities & (1 << number) != 0 {
            continue;
        }
        // SAFETY: plain numbers.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) };
        if result != 0 {
            let error = io::Error::last_os_error();
            // Past the last capability that this kernel knows.
            return match error.raw_os_error() {
                Some(libc::EINVAL) => Ok(()),
                _ => Err(error),
            };
        }
    }
    Ok(())
}
