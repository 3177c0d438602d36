//! How full the maps are.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use aya::maps::MapInfo;
use aya_obj::generated::bpf_cmd;
use underpass_common::map_names;

use crate::datapath::{Pins, bpf};

/// The maps that fill.
const FILLING: [&str; 8] = [
    map_names::ROUTES_V4,
    map_names::ROUTES_V6,
    map_names::ENDPOINTS_V4,
    map_names::ENDPOINTS_V6,
    map_names::FLOWS_V4,
    map_names::FLOWS_V6,
    map_names::PODS,
    map_names::PEERS,
];

/// How full a map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// Its name.
    pub map: &'static str,
    /// Entries that it has.
    pub entries: u32,
    /// Entries that it has room for.
    pub capacity: u32,
}

/// How full the pinned maps are, counted key by key. They change meanwhile: of a map of flows under load the
/// number is about right.
///
/// # Errors
/// Names the map that is not there or cannot be read.
pub fn fills(pins: &Pins) -> Result<Vec<Fill>> {
    FILLING
        .into_iter()
        .map(|map| fill(pins, map).with_context(|| format!("cannot count the map {map}")))
        .collect()
}

/// How full a map is whose entries have been counted already.
///
/// # Errors
/// Names the map that is not there.
pub fn filled(pins: &Pins, map: &'static str, entries: usize) -> Result<Fill> {
    let info = MapInfo::from_pin(pins.map(map));
    let info = info.with_context(|| format!("cannot tell how large the map {map} is"))?;
    Ok(Fill {
        map,
        entries: u32::try_from(entries).unwrap_or(u32::MAX),
        capacity: info.max_entries(),
    })
}

fn fill(pins: &Pins, map: &'static str) -> Result<Fill> {
    let pin = pins.map(map);
    let info = MapInfo::from_pin(&pin)?;
    let capacity = info.max_entries();
    Ok(Fill {
        map,
        entries: count(&bpf::open_pin(&pin)?, info.key_size() as usize, capacity)?,
        capacity,
    })
}

/// No further than `most`: where a key is deleted under way, the kernel begins again.
fn count(map: &OwnedFd, key_size: usize, most: u32) -> io::Result<u32> {
    let mut key = vec![0; key_size];
    let mut next = vec![0; key_size];
    let mut found = 0;
    while found < most {
        let after = (found > 0).then_some(key.as_slice());
        if !next_key(map, after, &mut next)? {
            break;
        }
        std::mem::swap(&mut key, &mut next);
        found += 1;
    }
    Ok(found)
}

/// Puts the key behind `after` into `next`; the first one for `None`. False: there is none.
fn next_key(map: &OwnedFd, after: Option<&[u8]>, next: &mut [u8]) -> io::Result<bool> {
    let mut attr = bpf::nothing_said();
    attr.__bindgen_anon_2.map_fd = map.as_raw_fd() as u32;
    attr.__bindgen_anon_2.key = after.map_or(0, |key| key.as_ptr() as u64);
    attr.__bindgen_anon_2.__bindgen_anon_1.next_key = next.as_mut_ptr() as u64;
    // SAFETY: the members that this command reads; both buffers are of the map's key size and outlive the call.
    match unsafe { bpf::call(bpf_cmd::BPF_MAP_GET_NEXT_KEY, &mut attr) } {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}
