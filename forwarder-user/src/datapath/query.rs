//! What is attached by TCX or XDP to a device, whoever did it: the kernel's own answer, which aya gives
//! only with a device's name, and of XDP not at all.

use std::io;
use std::os::fd::AsFd as _;

use aya_obj::generated::{bpf_attach_type, bpf_cmd, bpf_prog_info};
use underpass_common::verdict::Hook;

use super::{bpf, express};
use crate::xdp::AttachedXdp;

/// More programs than these are not told of; the kernel takes no more than 64 at a hook
/// (`BPF_MPROG_MAX` of include/linux/bpf_mprog.h).
const MOST: usize = 64;

/// A program at a hook, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The kernel's number of the program.
    pub program: u32,
    /// The kernel's number of the link; 0: attached without one.
    pub link: u32,
}

/// The programs at the TCX hook of a device where ours of `hook` goes.
///
/// # Errors
/// What the kernel answers to `BPF_PROG_QUERY`: `EINVAL` where it has no TCX, `EPERM` without
/// `CAP_NET_ADMIN`, `ENODEV` where there is no such device.
pub fn tcx(hook: Hook, ifindex: u32) -> io::Result<Vec<Attached>> {
    let (mut programs, mut links) = ([0_u32; MOST], [0_u32; MOST]);
    let mut attr = bpf::nothing_said();
    attr.query.__bindgen_anon_1.target_ifindex = ifindex;
    attr.query.attach_type = match hook.is_entrance() {
        true => bpf_attach_type::BPF_TCX_INGRESS as u32,
        false => bpf_attach_type::BPF_TCX_EGRESS as u32,
    };
    attr.query.__bindgen_anon_2.count = MOST as u32;
    attr.query.prog_ids = programs.as_mut_ptr() as u64;
    attr.query.link_ids = links.as_mut_ptr() as u64;
    // SAFETY: the members that this command reads; both arrays have room for so many, and live until it
    // is done.
    unsafe { bpf::call(bpf_cmd::BPF_PROG_QUERY, &mut attr) }?;
    // SAFETY: the command has set it.
    let count = unsafe { attr.query.__bindgen_anon_2.count } as usize;
    let both = programs.into_iter().zip(links).take(count);
    let attached = both.map(|(program, link)| Attached { program, link });
    Ok(attached.collect())
}

/// The XDP programs of a device, one at most in each mode; none where it is gone.
///
/// # Errors
/// Where the kernel does not answer.
pub fn xdp(ifindex: u32) -> anyhow::Result<Vec<AttachedXdp>> {
    express::ask(ifindex)
}

/// The name of a program. `None`: it has none, is gone, or may not be looked at, which takes
/// `CAP_SYS_ADMIN`.
pub fn program_name(id: u32) -> Option<String> {
    let mut attr = bpf::nothing_said();
    attr.__bindgen_anon_6.__bindgen_anon_1.prog_id = id;
    // SAFETY: the member that this command reads; it answers with a descriptor.
    let program = unsafe { bpf::descriptor(bpf_cmd::BPF_PROG_GET_FD_BY_ID, &mut attr) }.ok()?;
    // SAFETY: it is a program.
    let info: bpf_prog_info = unsafe { bpf::info(program.as_fd()) }.ok()?;
    let name: Vec<u8> = info.name.iter().map(|&byte| byte as u8).collect();
    let end = name
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(name.len());
    let name = String::from_utf8_lossy(&name[..end]).into_owned();
    (!name.is_empty()).then_some(name)
}
