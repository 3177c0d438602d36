//! What the kernel says of a pinned TCX link: the device it is attached to, which aya does not tell.

use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use aya_obj::generated::{bpf_cmd, bpf_link_info, bpf_link_type};

use super::bpf;

/// Interface index of the device that a pinned link is attached to. `None`: the device is gone, or
/// the pin is not a TCX link.
///
/// # Errors
/// What the kernel answers to `BPF_OBJ_GET` or `BPF_OBJ_GET_INFO_BY_FD`.
pub fn tcx_ifindex(pin: &Path) -> io::Result<Option<u32>> {
    let info = info(pin)?;
    if info.type_ != bpf_link_type::BPF_LINK_TYPE_TCX as u32 {
        return Ok(None);
    }
    // SAFETY: the type says which member is set.
    let ifindex = unsafe { info.__bindgen_anon_1.tcx.ifindex };
    Ok((ifindex != 0).then_some(ifindex))
}

/// The kernel's number of a pinned link.
///
/// # Errors
/// As [`tcx_ifindex`].
pub fn id(pin: &Path) -> io::Result<u32> {
    Ok(info(pin)?.id)
}

fn info(pin: &Path) -> io::Result<bpf_link_info> {
    let link = bpf::open_pin(pin)?;
    // SAFETY: a structure of integers, for which zeros are values.
    let mut info: bpf_link_info = unsafe { std::mem::zeroed() };
    let mut attr = bpf::nothing_said();
    attr.info.bpf_fd = link.as_raw_fd() as u32;
    attr.info.info_len = size_of::<bpf_link_info>() as u32;
    attr.info.info = std::ptr::from_mut(&mut info) as u64;
    // SAFETY: the members that this command reads; `info` lives until it is done.
    unsafe { bpf::call(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr) }?;
    Ok(info)
}
