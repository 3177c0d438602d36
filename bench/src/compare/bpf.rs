//! The benchmark's own BPF programs, from the crate in `bench/ebpf`.

#[path = "../../ebpf/src/layout.rs"]
pub(super) mod layout;

use anyhow::{Context, Result};
use aya::maps::Map;
use aya::programs::{SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};

use layout::{FRAME, Flooding, PreparedFrame, Routed, StraightWay, Sunk, Turn};

// SAFETY: `repr(C)`, no padding that is not a field (asserted beside each type), and every bit pattern is a value.
unsafe impl aya::Pod for PreparedFrame {}
// SAFETY: likewise.
unsafe impl aya::Pod for Routed {}
// SAFETY: likewise.
unsafe impl aya::Pod for StraightWay {}
// SAFETY: likewise.
unsafe impl aya::Pod for Turn {}
// SAFETY: likewise.
unsafe impl aya::Pod for Flooding {}
// SAFETY: likewise.
unsafe impl aya::Pod for Sunk {}

/// The BPF object, as the build script made it.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/underpass-bench.o"));

/// Makes the maps, with room for so many prepared frames. All goes when what is returned is dropped.
///
/// # Errors
/// The kernel does not take them.
pub(super) fn load(frames: u32) -> Result<Ebpf> {
    let mut loader = EbpfLoader::new();
    loader.map_max_entries("frames", frames);
    loader
        .load(OBJECT)
        .context("the kernel does not take the BPF maps of the benchmark")
}

/// Brings a program into the kernel.
///
/// # Errors
/// The verifier refuses it.
pub(super) fn load_program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier> {
    let program = ebpf
        .program_mut(name)
        .with_context(|| format!("the benchmark has no BPF program {name}"))?;
    let program: &mut SchedClassifier = program.try_into()?;
    program
        .load()
        .with_context(|| format!("the kernel does not take the BPF program {name}"))?;
    Ok(program)
}

/// As [`load_program`], of XDP.
///
/// # Errors
/// The verifier refuses it.
pub(super) fn load_xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = ebpf
        .program_mut(name)
        .with_context(|| format!("the benchmark has no BPF program {name}"))?;
    let program: &mut Xdp = program.try_into()?;
    program
        .load()
        .with_context(|| format!("the kernel does not take the BPF program {name}"))?;
    Ok(program)
}

/// The front of a frame, in the parts in which it is written into packets; `tc_index` 0.
pub(super) fn prepared(frame: &[u8; FRAME]) -> PreparedFrame {
    let mut prepared = PreparedFrame::default();
    let (macs, rest) = frame.split_at(8);
    let (src_mac_rest, rest) = rest.split_at(4);
    let (ether_type, headers) = rest.split_at(2);
    prepared.macs.copy_from_slice(macs);
    prepared.src_mac_rest.copy_from_slice(src_mac_rest);
    prepared.ether_type.copy_from_slice(ether_type);
    prepared.headers.as_flattened_mut().copy_from_slice(headers);
    prepared
}

/// A map, to be kept beside the programs.
///
/// # Errors
/// There is none of this name.
pub(super) fn map(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name)
        .with_context(|| format!("the benchmark has no BPF map {name}"))
}
