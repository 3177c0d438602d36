//! How full the maps are.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use aya::maps::MapInfo;
use aya_obj::generated::bpf_cmd;
use underpass_common::map_names;

use crate::datapath::{Pins, bpf};

/// Entries to a call. They are copied whole, and yet a table of 65,536 flows is counted in 30 ms instead of the 85 ms that
/// a call for each key takes (Linux 6.18, two busy cores).
const CHUNK: usize = 1024;

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

/// How full the pinned maps are, counted entry by entry. They change meanwhile: of a map of flows under load the
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
    let entries = Entries {
        key_size: info.key_size() as usize,
        value_size: info.value_size() as usize,
        most: capacity,
    };
    Ok(Fill {
        map,
        entries: entries.count(&bpf::open_pin(&pin)?)?,
        capacity,
    })
}

/// The entries of a map that is no per-CPU one, by their sizes in bytes.
#[derive(Clone, Copy)]
struct Entries {
    key_size: usize,
    value_size: usize,
    /// No further than this is counted: where a key is deleted under way, the kernel may begin again.
    most: u32,
}

impl Entries {
    fn count(self, map: &OwnedFd) -> io::Result<u32> {
        match self.count_in_batches(map, CHUNK)? {
            Some(found) => Ok(found),
            None => count_keys(map, self.key_size, self.most),
        }
    }

    /// By `BPF_MAP_LOOKUP_BATCH`, of at least `chunk` entries each. `None`: this kernel has no batches for this kind of
    /// map. Hashes, the LRU ones too, have them since Linux 5.6 (`htab_lru_map_lookup_batch()` of
    /// kernel/bpf/hashtab.c), tries since a later one. Nothing that is read so counts as used: no flow stays for it.
    fn count_in_batches(self, map: &OwnedFd, mut chunk: usize) -> io::Result<Option<u32>> {
        let (mut found, mut begun) = (0, false);
        // Where to go on: a bucket's number of a hash, a trie's key.
        let mut position = vec![0_u8; self.key_size.max(size_of::<u32>())];
        let mut next = position.clone();
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        while found < self.most {
            keys.resize(chunk * self.key_size, 0_u8);
            values.resize(chunk * self.value_size, 0_u8);
            let mut attr = bpf::nothing_said();
            attr.batch.map_fd = map.as_raw_fd() as u32;
            attr.batch.in_batch = if begun { position.as_ptr() as u64 } else { 0 };
            attr.batch.out_batch = next.as_mut_ptr() as u64;
            attr.batch.keys = keys.as_mut_ptr() as u64;
            attr.batch.values = values.as_mut_ptr() as u64;
            attr.batch.count = chunk as u32;
            // SAFETY: the members that this command reads; both positions have room for a key and for a number, keys
            // and values for `count` of the map's own sizes, and all of them outlive the call.
            let answer = unsafe { bpf::call(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr) };
            // SAFETY: `batch` is what was set above; the kernel only overwrites its `count`.
            let read = unsafe { attr.batch.count };
            match answer.map_err(|error| error.raw_os_error()) {
                Ok(_) => found += read,
                // These were the last ones.
                Err(Some(libc::ENOENT)) => return Ok(Some((found + read).min(self.most))),
                // A bucket has more entries than there is room for.
                Err(Some(libc::ENOSPC)) if (chunk as u64) < u64::from(self.most) => {
                    chunk *= 2;
                    continue;
                }
                Err(Some(errno)) if !begun && NO_BATCHES.contains(&errno) => return Ok(None),
                Err(errno) => {
                    return Err(
                        errno.map_or_else(io::Error::last_os_error, io::Error::from_raw_os_error)
                    );
                }
            }
            std::mem::swap(&mut position, &mut next);
            begun = true;
        }
        Ok(Some(self.most))
    }
}

/// This kind of map has no such operation, or this kernel none at all: `ENOTSUPP`, the kernel's own and not in errno(3),
/// and what older ones say.
const NO_BATCHES: [i32; 3] = [524, libc::EINVAL, libc::EOPNOTSUPP];

/// Key by key.
fn count_keys(map: &OwnedFd, key_size: usize, most: u32) -> io::Result<u32> {
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use aya_obj::generated::bpf_map_type;
    use underpass_bench::root_or_skip;
    use underpass_common::flow::{Flow, FlowKey};

    use super::*;

    /// As the flows are.
    const SIZES: Entries = Entries {
        key_size: size_of::<FlowKey<[u8; 4]>>(),
        value_size: size_of::<Flow>(),
        most: 65_536,
    };

    fn make(kind: bpf_map_type, entries: Entries, flags: u32) -> OwnedFd {
        let mut attr = bpf::nothing_said();
        // SAFETY: a union of plain numbers, of which this is the member that the command reads.
        let map = unsafe { &mut attr.__bindgen_anon_1 };
        map.map_type = kind as u32;
        map.key_size = entries.key_size as u32;
        map.value_size = entries.value_size as u32;
        map.max_entries = entries.most;
        map.map_flags = flags;
        // SAFETY: it answers with a descriptor.
        unsafe { bpf::descriptor(bpf_cmd::BPF_MAP_CREATE, &mut attr) }.unwrap()
    }

    fn put(map: &OwnedFd, key: &[u8], value: &[u8]) {
        let mut attr = bpf::nothing_said();
        attr.__bindgen_anon_2.map_fd = map.as_raw_fd() as u32;
        attr.__bindgen_anon_2.key = key.as_ptr() as u64;
        attr.__bindgen_anon_2.__bindgen_anon_1.value = value.as_ptr() as u64;
        // SAFETY: the members that this command reads; key and value are of the map's sizes and outlive the call.
        unsafe { bpf::call(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr) }.unwrap();
    }

    fn timed<T>(act: impl FnOnce() -> T) -> (T, Duration) {
        let began = Instant::now();
        (act(), began.elapsed())
    }

    /// Both ways of counting come to the same; what they cost is shown by `--nocapture`.
    #[test]
    fn batches_count_what_keys_count() {
        if !root_or_skip("batches_count_what_keys_count") {
            return;
        }
        let map = make(bpf_map_type::BPF_MAP_TYPE_LRU_HASH, SIZES, 0);
        assert_eq!(SIZES.count(&map).unwrap(), 0);
        let value = vec![0; SIZES.value_size];
        for number in 0..SIZES.most {
            let mut key = vec![0; SIZES.key_size];
            key[..4].copy_from_slice(&number.to_ne_bytes());
            put(&map, &key, &value);
        }
        let (keys, slow) = timed(|| count_keys(&map, SIZES.key_size, SIZES.most).unwrap());
        let (batches, fast) = timed(|| SIZES.count_in_batches(&map, CHUNK).unwrap());
        println!("{keys} flows: key by key {slow:?}, in batches {fast:?}");
        // A full LRU map has dropped some of them.
        assert!(keys > SIZES.most / 2, "{keys}");
        assert_eq!(batches, Some(keys));
        // A bucket that does not fit is asked for again with more room.
        assert_eq!(SIZES.count_in_batches(&map, 1).unwrap(), Some(keys));
        let fewer = Entries { most: 100, ..SIZES };
        assert_eq!(fewer.count(&map).unwrap(), 100);
    }

    #[test]
    fn every_kind_of_map_is_counted() {
        if !root_or_skip("every_kind_of_map_is_counted") {
            return;
        }
        const NO_PREALLOC: u32 = 1;
        let sizes = Entries {
            key_size: 8,
            value_size: 12,
            most: 4096,
        };
        for (kind, flags) in [
            (bpf_map_type::BPF_MAP_TYPE_LPM_TRIE, NO_PREALLOC),
            (bpf_map_type::BPF_MAP_TYPE_HASH, 0),
        ] {
            let map = make(kind, sizes, flags);
            assert_eq!(sizes.count(&map).unwrap(), 0);
            for number in 0..3000_u32 {
                // A trie's key begins with the length of its prefix, in bits.
                let key = [32_u32.to_ne_bytes(), number.to_be_bytes()].concat();
                put(&map, &key, &[0; 12]);
            }
            assert_eq!(sizes.count(&map).unwrap(), 3000);
            assert_eq!(count_keys(&map, 8, sizes.most).unwrap(), 3000);
        }
    }
}
