//! A directory per lab in the BPF file system, for the agents' pins.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

/// Where the BPF file system belongs.
const BPFFS: &str = "/sys/fs/bpf";

/// A lab's directory.
pub(crate) fn dir(lab: &str) -> PathBuf {
    Path::new(BPFFS).join(lab)
}

/// Mounts the BPF file system where it isn't, as on a machine just booted without systemd. Call it
/// with the registry's lock held, so that it is mounted once.
pub(crate) fn ensure_mounted() -> Result<()> {
    let there = statfs(BPFFS).with_context(|| {
        format!("no {BPFFS}: is sysfs mounted, and the kernel built with CONFIG_BPF_SYSCALL?")
    })?;
    if there.filesystem_type() == BPF_FS_MAGIC {
        return Ok(());
    }
    let kind = Some("bpf");
    mount(kind, BPFFS, kind, MsFlags::empty(), None::<&str>)
        .with_context(|| format!("cannot mount the BPF file system on {BPFFS}"))?;
    eprintln!("mounted the BPF file system on {BPFFS}");
    Ok(())
}
