//! The benchmark's own BPF programs, from the crate in `bench/ebpf`.

#[path = "../../ebpf/src/layout.rs"]
pub(super) mod layout;

use anyhow::{Context, Result};
use aya::maps::Map;
use aya::programs::SchedClassifier;
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};

use layout::{PreparedFrame, Routed, Turn};

// SAFETY: `repr(C)`, no padding that is not a field (asserted beside each type), and every bit pattern is a value.
unsafe impl aya::Pod for PreparedFrame {}
// SAFETY: likewise.
unsafe impl aya::Pod for Routed {}
// SAFETY: likewise.
unsafe impl aya::Pod for Turn {}

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

/// A map, to be kept beside the programs.
///
/// # Errors
/// There is none of this name.
pub(super) fn map(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name)
        .with_context(|| format!("the benchmark has no BPF map {name}"))
}
