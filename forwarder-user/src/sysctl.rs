//! Kernel settings under `/proc/sys`, of the network namespace that we run in.
//!
//! In a container `/proc/sys` is read-only. The node's own `/proc/sys/net`, mounted at another place, is not, and
//! shows the namespace of whoever looks all the same (`net/sysctl_net.c`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};
use nix::sys::statfs::{PROC_SUPER_MAGIC, statfs};

/// The directory where nothing else is asked for.
pub const DEFAULT_DIR: &str = "/proc/sys";

/// Conntrack takes TCP packets outside the window for VALID: without it a connection that was fast
/// and comes back to the kernel is INVALID there, which kube-proxy's rules drop.
pub const TCP_BE_LIBERAL: &str = "net.netfilter.nf_conntrack_tcp_be_liberal";
/// Conntrack picks up connections in mid-stream.
pub const TCP_LOOSE: &str = "net.netfilter.nf_conntrack_tcp_loose";
/// The kernel forwards IPv4 packets.
pub const IPV4_FORWARD: &str = "net.ipv4.ip_forward";
/// The kernel forwards IPv6 packets: what is set for all interfaces.
pub const IPV6_FORWARD: &str = "net.ipv6.conf.all.forwarding";

/// The directory that was asked for.
static DIR: OnceLock<PathBuf> = OnceLock::new();

/// Has all settings read and written in `dir`, whose `net` is that of a `/proc/sys`. To be called once, before any is
/// read: it holds for the whole process.
///
/// # Errors
/// Where there is none, which would look like a kernel without any of the settings.
pub fn look_in(dir: &Path) -> Result<()> {
    let net = dir.join("net");
    let kind = statfs(&net).with_context(|| format!("cannot look at {}", net.display()))?;
    ensure!(
        kind.filesystem_type() == PROC_SUPER_MAGIC,
        "{} is not the kernel's: --proc-sys is to name /proc/sys, or where that is mounted",
        net.display()
    );
    let kept = DIR.get_or_init(|| dir.to_owned());
    ensure!(
        kept == dir,
        "settings are read in {} already",
        kept.display()
    );
    Ok(())
}

/// Reads a number. `None`: this kernel, or this namespace, has no such setting.
///
/// # Errors
/// Where it cannot be read or is no number.
pub fn read(key: &str) -> Result<Option<u64>> {
    read_file(&path(key), key)
}

fn read_file(file: &Path, key: &str) -> Result<Option<u64>> {
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.with_context(|| format!("cannot read the sysctl {key}"))?,
    };
    let number = text
        .trim()
        .parse()
        .with_context(|| format!("the sysctl {key} is {:?}, not a number", text.trim()))?;
    Ok(Some(number))
}

/// An interface's MTU for IPv6. `None`: there is no IPv6 on it, or no such interface.
pub fn mtu_v6(interface: &str) -> Option<u32> {
    // Not by a key: a name may have dots.
    let file = dir().join("net/ipv6/conf").join(interface).join("mtu");
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// An interface's own reverse path filter: 0 none, 1 strict, 2 loose. `None`: there is no such interface.
///
/// # Errors
/// As [`read`].
pub fn rp_filter(interface: &str) -> Result<Option<u64>> {
    // Not by a key: a name may have dots.
    let file = dir()
        .join("net/ipv4/conf")
        .join(interface)
        .join("rp_filter");
    read_file(&file, &format!("net.ipv4.conf.{interface}.rp_filter"))
}

/// Writes a number.
///
/// # Errors
/// Where it cannot be written: in a container `/proc/sys` is read-only, and the error says what to do about it.
pub fn write(key: &str, value: u64) -> Result<()> {
    let written = fs::write(path(key), value.to_string());
    let is_read_only =
        matches!(&written, Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem);
    written.with_context(|| {
        let advice = if is_read_only {
            ": mount the node's /proc/sys/net elsewhere, and name that place with --proc-sys"
        } else {
            ""
        };
        format!("cannot set the sysctl {key} to {value}{advice}")
    })
}

fn dir() -> &'static Path {
    DIR.get().map_or(Path::new(DEFAULT_DIR), PathBuf::as_path)
}

fn path(key: &str) -> PathBuf {
    dir().join(key.replace('.', "/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_kernels_settings_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        let error = look_in(dir.path()).unwrap_err();
        assert!(error.to_string().contains("cannot look at"), "{error:#}");
        fs::create_dir(dir.path().join("net")).unwrap();
        let error = look_in(dir.path()).unwrap_err();
        assert!(error.to_string().contains("--proc-sys"), "{error:#}");
        look_in(Path::new(DEFAULT_DIR)).unwrap();
    }
}
