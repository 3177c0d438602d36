//! Loads the embedded BPF object over the maps that are pinned already, where they are ours and of
//! this layout.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use aya::maps::{Array, Map, MapData, MapInfo, MapType};
use aya::programs::SchedClassifier;
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use aya_obj::generated::BPF_F_RDONLY_PROG;
use underpass_common::map_names;
use underpass_common::packet_trace::Filter;
use underpass_common::settings::{LAYOUT_VERSION, Settings};
use underpass_common::verdict::Hook;

use super::{Maps, Pins, express, pins};

/// The BPF object, as the build script made it.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/underpass.o"));

/// The maps whose size can be asked for.
const FLOWS: [&str; 2] = [map_names::FLOWS_V4, map_names::FLOWS_V6];

/// The ring buffer through which traced packets are told: aya-log's.
pub const TRACE_LINES: &str = "AYA_LOGS";
/// The maps of tracing, which are not pinned: they come and go with the programs that trace.
const TRACING: [&str; 2] = [TRACE_LINES, map_names::TRACED];
/// The programs' global that says what is traced.
const PACKET_TRACE: &str = "PACKET_TRACE";

/// Entries of each family's flow table, where nothing else is asked for.
pub const MAX_FLOWS: u32 = 65_536;

/// What can be asked for at load time.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// Entries of the flow table of each family. The kernel evicts the least recently used flow of a full one, and
    /// an evicted flow goes by the kernel until it is confirmed again.
    pub max_flows: u32,
    /// Load the XDP program, too.
    pub xdp: bool,
    /// Which packets the programs tell of.
    pub packet_trace: Filter,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            max_flows: MAX_FLOWS,
            xdp: false,
            packet_trace: Filter::OFF,
        }
    }
}

/// Programs and maps in the kernel.
pub struct Loaded {
    /// Keeps the programs.
    pub ebpf: Ebpf,
    /// The maps, pinned.
    pub maps: Maps,
    /// Why the XDP program that was asked for is not there.
    pub xdp_refused: Option<String>,
    /// Why maps that were pinned before could not be kept; `None`: there were none, or they were.
    pub started_afresh: Option<String>,
}

/// The names of all maps of the object that are pinned.
///
/// # Errors
/// Where the embedded object cannot be read: a defect of the build.
pub fn map_names() -> Result<Vec<String>> {
    Ok(object()?
        .maps
        .keys()
        .filter(|name| is_pinned(name))
        .cloned()
        .collect())
}

/// False for the maps that belong to one loading of the programs: their global data, and those of tracing.
fn is_pinned(name: &str) -> bool {
    !name.starts_with('.') && !TRACING.contains(&name)
}

fn object() -> Result<aya_obj::Object> {
    aya_obj::Object::parse(OBJECT)
        .map_err(|error| anyhow!("the embedded BPF object is broken: {error}"))
}

/// Loads programs and maps, and pins both. Pinned maps of this layout are kept with what is in them;
/// others are unpinned, and live on until the links that use them are updated.
///
/// # Errors
/// Where the pin directory cannot be used, or the kernel refuses a map or a program.
pub fn load(pins: &Pins, options: LoadOptions) -> Result<Loaded> {
    pins.create()?;
    let object = object()?;
    let started_afresh = misfit(pins, &object, options);
    if started_afresh.is_some() {
        for name in map_names()? {
            pins::remove_file(&pins.map(&name))?;
        }
    }
    let mut loader = EbpfLoader::new();
    for name in object.maps.keys().filter(|name| is_pinned(name)) {
        loader.map_pin_path(name, pins.map(name));
    }
    for flows in FLOWS {
        loader.map_max_entries(flows, options.max_flows);
    }
    loader.override_global(PACKET_TRACE, &options.packet_trace, true);
    if options.packet_trace == Filter::OFF {
        // Bytes, of which the loader makes a page: there is no smaller one.
        loader.map_max_entries(TRACE_LINES, 1);
    }
    let mut ebpf = loader
        .load(OBJECT)
        .context("the kernel does not take the BPF maps")?;
    for hook in Hook::TC {
        let program = program(&mut ebpf, hook)?;
        program
            .load()
            .with_context(|| format!("the kernel does not take the program {}", hook.name()))?;
        let path = pins.program(hook);
        pins::remove_file(&path)?;
        program
            .pin(&path)
            .with_context(|| format!("cannot pin the program at {}", path.display()))?;
    }
    let xdp_refused = match options.xdp {
        true => load_xdp(&mut ebpf, pins).err(),
        false => {
            pins::remove_file(&pins.program(Hook::FromWireXdp))?;
            None
        }
    };
    let maps = Maps::open(pins)?;
    Ok(Loaded {
        ebpf,
        maps,
        xdp_refused: xdp_refused.map(|error| format!("{error:#}")),
        started_afresh,
    })
}

/// Kernels that can do without it do: XDP with frames in several buffers is younger than all the rest.
fn load_xdp(ebpf: &mut Ebpf, pins: &Pins) -> Result<()> {
    let path = pins.program(Hook::FromWireXdp);
    pins::remove_file(&path)?;
    let program = express::program(ebpf)?;
    program
        .load()
        .context("the kernel does not take the XDP program (Linux 5.18 brought what it needs)")?;
    program
        .pin(&path)
        .with_context(|| format!("cannot pin the program at {}", path.display()))
}

/// The program of a TC hook.
///
/// # Errors
/// Where the object has none of that name: a defect of the build.
pub fn program(ebpf: &mut Ebpf, hook: Hook) -> Result<&mut SchedClassifier> {
    ebpf.program_mut(hook.name())
        .with_context(|| format!("the BPF object has no program {}", hook.name()))?
        .try_into()
        .with_context(|| format!("{} is not a TC program", hook.name()))
}

/// Why the pinned maps cannot be used by this object. The loader checks nothing of it, and a map of
/// another shape would be misread, or written past its end.
fn misfit(pins: &Pins, object: &aya_obj::Object, options: LoadOptions) -> Option<String> {
    let mut are_there = false;
    for (name, wanted) in object.maps.iter().filter(|(name, _)| is_pinned(name)) {
        let path = pins.map(name);
        match std::fs::symlink_metadata(&path) {
            Err(_) => continue,
            // Whatever it leads to is somebody else's, or nothing.
            Ok(found) if found.is_symlink() => {
                return Some(format!("{} is a symbolic link", path.display()));
            }
            Ok(_) => are_there = true,
        }
        let max_entries = match name.as_str() {
            name if FLOWS.contains(&name) => options.max_flows,
            _ => wanted.max_entries(),
        };
        let expected = [
            wanted.map_type(),
            wanted.key_size(),
            wanted.value_size(),
            max_entries,
            wanted.map_flags(),
        ];
        match shape(&path) {
            Ok(found) if found == expected => {}
            Ok(found) => {
                return Some(format!(
                    "{} has type, key, value, entries, flags {found:?}, not {expected:?}",
                    path.display()
                ));
            }
            Err(error) => return Some(format!("{error:#}")),
        }
    }
    let settings = pins.map(map_names::SETTINGS);
    if !settings.exists() {
        // Maps whose layout nobody tells.
        return are_there.then(|| format!("there are maps, but no {}", settings.display()));
    }
    match layout_version(&settings) {
        // 0: made by an agent that did not live to write it.
        Ok(LAYOUT_VERSION | 0) => None,
        Ok(other) => Some(format!(
            "its layout version is {other}, ours is {LAYOUT_VERSION}"
        )),
        Err(error) => Some(format!("{error:#}")),
    }
}

/// Type, key size, value size, entries and flags of a pinned map.
fn shape(path: &Path) -> Result<[u32; 5]> {
    let info =
        MapInfo::from_pin(path).with_context(|| format!("{} is not a map", path.display()))?;
    let map_type = info
        .map_type()
        .with_context(|| format!("{} is a map of an unknown type", path.display()))?;
    // The kernel adds this to every devmap by itself, and refuses it where it is asked for (dev_map_alloc_check() in
    // kernel/bpf/devmap.c).
    let added = match map_type {
        MapType::DevMap | MapType::DevMapHash => BPF_F_RDONLY_PROG,
        _ => 0,
    };
    Ok([
        map_type as u32,
        info.key_size(),
        info.value_size(),
        info.max_entries(),
        info.map_flags() & !added,
    ])
}

fn layout_version(settings: &Path) -> Result<u32> {
    let map = Map::Array(MapData::from_pin(settings)?);
    let array = Array::<_, Settings>::try_from(&map)?;
    Ok(array.get(&0, 0)?.layout_version)
}
