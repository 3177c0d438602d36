//! An XDP program of somebody else, which lets everything pass.

use std::os::fd::AsFd as _;
use std::path::Path;

use anyhow::Result;
use aya_obj::generated::{bpf_cmd, bpf_prog_type};
use underpass::datapath::bpf;

/// Its name.
const NAME: &[u8; 5] = b"guard";
/// `BPF_F_XDP_HAS_FRAGS` (linux/bpf.h): it takes frames in several buffers, so that the MTU may be any.
const HAS_FRAGS: u32 = 1 << 5;

/// Loads it, and pins it there.
pub fn pin(place: &Path) -> Result<()> {
    // r0 = XDP_PASS; exit
    const CODE: [u64; 2] = [0x0000_0002_0000_00b7, 0x95];
    let mut attr = bpf::nothing_said();
    // SAFETY: a union of plain numbers, of which this is the one that the command reads.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.prog_type = bpf_prog_type::BPF_PROG_TYPE_XDP as u32;
    load.prog_flags = HAS_FRAGS;
    load.insns = CODE.as_ptr() as u64;
    load.insn_cnt = CODE.len() as u32;
    load.license = c"MIT".as_ptr() as u64;
    load.prog_name[..NAME.len()].copy_from_slice(&NAME.map(|byte| byte as _));
    // SAFETY: code and licence outlive the call; it answers with a descriptor.
    let program = unsafe { bpf::descriptor(bpf_cmd::BPF_PROG_LOAD, &mut attr) }?;
    bpf::pin(program.as_fd(), place)?;
    Ok(())
}
