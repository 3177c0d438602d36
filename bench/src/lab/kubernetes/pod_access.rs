//! What a kubelet gives to a pod so that it reaches the API server.

use std::ffi::{CStr, CString};
use std::fs;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::unistd::mkdir;

use crate::lab::{names, registry};

/// Where pods find it; the folders from the mounted one on.
const FOLDERS: [&CStr; 3] = [
    c"/var/run/secrets",
    c"/var/run/secrets/kubernetes.io",
    c"/var/run/secrets/kubernetes.io/serviceaccount",
];

/// The API server's Service, which it makes itself: the first address of all.
pub(super) fn api_service() -> SocketAddr {
    SocketAddr::new(names::service_address(names::API_FAMILY, 1), 443)
}

/// The address of the API server, its authority's certificate, and the token of a ServiceAccount.
#[derive(Clone, Debug)]
pub struct PodAccess {
    server: SocketAddr,
    dir: PathBuf,
}

impl PodAccess {
    /// Makes the folder.
    pub(super) fn new(
        server: SocketAddr,
        dir: PathBuf,
        authority: &str,
        namespace: &str,
        token: &str,
    ) -> Result<Self> {
        fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let access = Self { server, dir };
        registry::write_whole(&access.dir.join("ca.crt"), authority)?;
        registry::write_whole(&access.dir.join("namespace"), namespace)?;
        access.set_token(token)?;
        Ok(access)
    }

    /// By the address that pods are told: the API server's own Service. It leads there once kube-proxy runs on the
    /// node.
    #[must_use]
    pub fn by_service(mut self) -> Self {
        self.server = api_service();
        self
    }

    /// Puts another token in the place of the one that is there, as a kubelet does before it expires.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn set_token(&self, token: &str) -> Result<()> {
        registry::write_whole(&self.dir.join("token"), token)
    }

    /// Has `command` find all of it where a pod does, in a mount namespace of its own: side by side with others
    /// on the same machine. Its `/run` is empty otherwise.
    pub(in crate::lab) fn give_to(&self, command: &mut Command) -> Result<()> {
        command
            .env("KUBERNETES_SERVICE_HOST", self.server.ip().to_string())
            .env("KUBERNETES_SERVICE_PORT", self.server.port().to_string());
        let dir = CString::new(self.dir.as_os_str().as_bytes()).context("a folder with a NUL")?;
        // SAFETY: between fork and exec; system calls on strings that are there already, nothing allocated.
        unsafe {
            command.pre_exec(move || Ok(mount_for_pod(&dir)?));
        }
        Ok(())
    }
}

/// Mounts `dir` where pods expect it, unseen by any other process.
fn mount_for_pod(dir: &CStr) -> nix::Result<()> {
    const NONE: Option<&CStr> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(
        NONE,
        c"/",
        NONE,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        NONE,
    )?;
    // Picked up first: it lies under the very folder that is covered next.
    let picked = open_tree(dir)?;
    mount(
        Some(c"tmpfs"),
        c"/var/run",
        Some(c"tmpfs"),
        MsFlags::empty(),
        NONE,
    )?;
    for folder in FOLDERS {
        mkdir(folder, Mode::from_bits_truncate(0o755))?;
    }
    put_down(picked, FOLDERS[FOLDERS.len() - 1])
}

/// A copy of the mount at a path, attached nowhere yet (open_tree(2), Linux 5.2).
fn open_tree(path: &CStr) -> nix::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: a C string that outlives the call.
    let fd = Errno::result(unsafe {
        libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags)
    })?;
    let fd = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just given it to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches it (move_mount(2)).
fn put_down(tree: OwnedFd, place: &CStr) -> nix::Result<()> {
    // SAFETY: C strings that outlive the call, and an open descriptor.
    Errno::result(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            place.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    })
    .map(drop)
}
