//! What the kernel says of a pinned TCX or XDP link: the device it is attached to and on which side, which
//! aya does not tell.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;

use aya_obj::generated::{bpf_attach_type, bpf_link_info, bpf_link_type};

use super::bpf;

/// Where a TCX link is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Interface index of the device.
    pub ifindex: u32,
    /// On its ingress; or else on its egress.
    pub is_ingress: bool,
}

/// Where a pinned link is attached. `None`: the device is gone, or the pin is not a TCX link: something else, or a
/// symbolic link to whatever.
///
/// # Errors
/// What the kernel answers to `BPF_OBJ_GET` or `BPF_OBJ_GET_INFO_BY_FD`.
pub fn tcx_place(pin: &Path) -> io::Result<Option<Place>> {
    let Some(info) = info(pin)? else {
        return Ok(None);
    };
    if info.type_ != bpf_link_type::BPF_LINK_TYPE_TCX as u32 {
        return Ok(None);
    }
    // SAFETY: the type says which member is set.
    let tcx = unsafe { info.__bindgen_anon_1.tcx };
    let is_ingress = tcx.attach_type == bpf_attach_type::BPF_TCX_INGRESS as u32;
    let ifindex = tcx.ifindex;
    Ok((ifindex != 0).then_some(Place {
        ifindex,
        is_ingress,
    }))
}

/// Interface index of the device where a pinned XDP link is attached. `None`: the device is gone, or the pin is
/// not an XDP link.
///
/// # Errors
/// As [`tcx_place`].
pub fn xdp_device(pin: &Path) -> io::Result<Option<u32>> {
    let Some(info) = info(pin)? else {
        return Ok(None);
    };
    if info.type_ != bpf_link_type::BPF_LINK_TYPE_XDP as u32 {
        return Ok(None);
    }
    // SAFETY: the type says which member is set.
    let ifindex = unsafe { info.__bindgen_anon_1.xdp.ifindex };
    Ok((ifindex != 0).then_some(ifindex))
}

/// The kernel's number of a pinned link. `None`: the pin is not a link.
///
/// # Errors
/// As [`tcx_place`].
pub fn id(pin: &Path) -> io::Result<Option<u32>> {
    Ok(info(pin)?.map(|info| info.id))
}

/// The kernel's number of the program of a pinned link. `None`: the pin is not a link.
///
/// # Errors
/// As [`tcx_place`].
pub fn program(pin: &Path) -> io::Result<Option<u32>> {
    Ok(info(pin)?.map(|info| info.prog_id))
}

fn info(pin: &Path) -> io::Result<Option<bpf_link_info>> {
    if !fs::symlink_metadata(pin)?.is_file() {
        return Ok(None);
    }
    let link = bpf::open_pin(pin)?;
    // Asked of a map or a program, the kernel would fill in what it has to say of these.
    if !is_link(&link)? {
        return Ok(None);
    }
    // SAFETY: it is a link.
    unsafe { bpf::info(link.as_fd()) }.map(Some)
}

/// Whether a descriptor is a link's (`bpf_link_show_fdinfo`, kernel/bpf/syscall.c).
fn is_link(descriptor: &OwnedFd) -> io::Result<bool> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", descriptor.as_raw_fd()))?;
    Ok(info.lines().any(|line| line.starts_with("link_id:")))
}
