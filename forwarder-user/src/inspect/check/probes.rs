//! What the kernel can do: tried, and not only told by its version.

use std::fs;
use std::path::Path;

use aya::maps::MapType;
use aya::programs::ProgramType;
use aya::sys::{is_helper_supported, is_map_supported, is_program_supported};
use aya::util::KernelVersion;
use aya_obj::generated::bpf_func_id as Helper;
use underpass_common::verdict::Hook;

use super::facts::{Answer, Feature, Machine};
use crate::datapath::{Pins, query};

/// Interface index of `lo`, which every namespace has.
const LO: u32 = 1;

/// Looks at the kernel, and at what this process may do.
pub fn machine(pins: &Pins) -> Machine {
    let bpffs = pins.check_file_system();
    Machine {
        release: release(),
        version: version(),
        btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
        features: features(),
        tcx: tcx(),
        bpffs: told(bpffs).map(|()| pins.root().display().to_string()),
        missing_capabilities: told(crate::capabilities::missing()),
    }
}

fn told<T>(answer: anyhow::Result<T>) -> Answer<T> {
    answer.map_err(|error| format!("{error:#}"))
}

/// The release as `uname -r` shows it.
pub(in crate::inspect) fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "?".into(), |text| text.trim().to_owned())
}

/// Tells versions apart as far as it matters; aya's type keeps its numbers to itself.
fn version() -> Answer<[u16; 3]> {
    let current = KernelVersion::current().map_err(|error| error.to_string())?;
    let code = current.code();
    Ok([
        (code >> 16) as u16,
        (code >> 8 & 0xff) as u16,
        (code & 0xff) as u16,
    ])
}

/// What `forwarder-ebpf` uses that is not in every kernel with BPF.
fn features() -> Vec<Feature> {
    let maps = [
        ("LPM tries", MapType::LpmTrie),
        ("LRU hashes", MapType::LruHash),
        ("per-CPU arrays", MapType::PerCpuArray),
    ];
    let helpers = [
        ("bpf_check_mtu", Helper::BPF_FUNC_check_mtu),
        ("bpf_redirect_peer", Helper::BPF_FUNC_redirect_peer),
        ("bpf_fib_lookup", Helper::BPF_FUNC_fib_lookup),
    ];
    let feature = |name, there: Result<bool, String>| Feature { name, there };
    let programs = is_program_supported(ProgramType::SchedClassifier);
    let programs = programs.map_err(|error| error.to_string());
    let mut features = vec![feature("TC programs", programs)];
    for (name, kind) in maps {
        let there = is_map_supported(kind).map_err(|error| error.to_string());
        features.push(feature(name, there));
    }
    for (name, helper) in helpers {
        let there = is_helper_supported(ProgramType::SchedClassifier, helper);
        features.push(feature(name, there.map_err(|error| error.to_string())));
    }
    features
}

/// The kernel is asked for the programs at a hook of TCX: one without it does not know the hook.
fn tcx() -> Answer<bool> {
    match query::tcx(Hook::FromWire, LO) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}
