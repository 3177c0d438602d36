//! The system call bpf(2), for the commands that aya does not give.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use aya_obj::generated::{bpf_attr, bpf_cmd};

/// What a command is told, with nothing in it yet.
pub fn nothing_said() -> bpf_attr {
    // SAFETY: a union of structures of integers, for which zeros are values.
    unsafe { std::mem::zeroed() }
}

/// Does a command; returns what the kernel answers.
///
/// # Errors
/// The kernel's.
///
/// # Safety
/// `attr` is filled for `command`, and every pointer in it outlives the call.
pub unsafe fn call(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i32> {
    // SAFETY: as the caller promises.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_int,
            std::ptr::from_mut(attr),
            size_of::<bpf_attr>(),
        )
    };
    match result {
        -1 => Err(io::Error::last_os_error()),
        answer => Ok(answer as i32),
    }
}

/// Does a command that answers with a new descriptor.
///
/// # Errors
/// The kernel's.
///
/// # Safety
/// As for [`call`], and the command is one of those.
pub unsafe fn descriptor(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: as the caller promises; the kernel has just given the descriptor to us.
    unsafe { call(command, attr).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

/// Pins a map, a program or a link.
///
/// # Errors
/// What the kernel answers to `BPF_OBJ_PIN`: `EEXIST` where something is there already.
pub fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = nothing_said();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    attr.__bindgen_anon_4.bpf_fd = object.as_raw_fd() as u32;
    // SAFETY: the members that this command reads; the path lives until it is done.
    unsafe { call(bpf_cmd::BPF_OBJ_PIN, &mut attr) }.map(drop)
}

/// What the kernel tells of a map, a program or a link.
///
/// # Errors
/// What the kernel answers to `BPF_OBJ_GET_INFO_BY_FD`.
///
/// # Safety
/// `T` is the kernel's structure for what `object` is: `bpf_map_info`, `bpf_prog_info`, `bpf_link_info`.
pub unsafe fn info<T>(object: BorrowedFd<'_>) -> io::Result<T> {
    // SAFETY: structures of integers, for which zeros are values.
    let mut info: T = unsafe { std::mem::zeroed() };
    let mut attr = nothing_said();
    attr.info.bpf_fd = object.as_raw_fd() as u32;
    attr.info.info_len = size_of::<T>() as u32;
    attr.info.info = std::ptr::from_mut(&mut info) as u64;
    // SAFETY: the members that this command reads; `info` lives until it is done.
    unsafe { call(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr) }?;
    Ok(info)
}

/// Opens whatever is pinned there.
///
/// # Errors
/// What the kernel answers to `BPF_OBJ_GET`.
pub fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = nothing_said();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    // SAFETY: the member that this command reads; the path lives until it is done.
    unsafe { descriptor(bpf_cmd::BPF_OBJ_GET, &mut attr) }
}
