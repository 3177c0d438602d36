//! Many entries of a map in one system call: `BPF_MAP_UPDATE_BATCH` and `BPF_MAP_DELETE_BATCH`.
//!
//! The kernel stops at the first entry that it refuses and says how many it had done before. That entry is
//! then written by itself, which tells what is wrong with it, and the batch goes on behind it. A kernel
//! that knows no batches for a kind of map (hashes have them since Linux 5.6, tries since a later one) refuses
//! the very first; from then on every entry is written by itself.

use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use anyhow::{Context as _, Result};
use aya::Pod as PlainOldData;
use aya::maps::MapError;
use aya_obj::generated::bpf_cmd;

use crate::datapath::bpf;

/// Entries to a call: a large map is not to keep the kernel busy for long at a time.
const CHUNK: usize = 1024;

/// Writes batches to one map.
pub(super) struct Batch<K, V> {
    map: OwnedFd,
    /// This kernel has not refused batches for this kind of map.
    works: bool,
    entries: PhantomData<(K, V)>,
}

/// An entry by its place, and why the kernel refuses it.
pub(super) type Refused = (usize, MapError);

impl<K: PlainOldData, V: PlainOldData> Batch<K, V> {
    /// For the pinned map. `K` and `V` must be of the sizes of its keys and values: aya's typed map
    /// of the same pin has compared them.
    ///
    /// # Errors
    /// Where there is no such pin.
    pub(super) fn open(pin: &Path) -> Result<Self> {
        let map = bpf::open_pin(pin).with_context(|| format!("cannot open {}", pin.display()))?;
        Ok(Self {
            map,
            works: true,
            entries: PhantomData,
        })
    }

    /// Adds or replaces entries, in order; `single` writes one, by its place. Those that are refused.
    pub(super) fn update(
        &mut self,
        keys: &[K],
        values: &[V],
        single: impl FnMut(usize) -> Result<(), MapError>,
    ) -> Vec<Refused> {
        let count = keys.len().min(values.len());
        let map = &self.map;
        let write = |range: Range<usize>| {
            let values = Some(&values[range.clone()]);
            call(map, bpf_cmd::BPF_MAP_UPDATE_BATCH, &keys[range], values)
        };
        in_batches(count, &mut self.works, write, single)
    }

    /// Removes entries, in order; `single` removes one, by its place. Those that are refused.
    pub(super) fn delete(
        &mut self,
        keys: &[K],
        single: impl FnMut(usize) -> Result<(), MapError>,
    ) -> Vec<Refused> {
        let map = &self.map;
        let remove = |range: Range<usize>| {
            call::<K, V>(map, bpf_cmd::BPF_MAP_DELETE_BATCH, &keys[range], None)
        };
        in_batches(keys.len(), &mut self.works, remove, single)
    }
}

/// The kernel has stopped: how many entries it had done before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stopped {
    done: usize,
    /// It would stop at any other, too.
    knows_no_batches: bool,
}

/// Goes through `count` entries, in batches as long as they work.
fn in_batches(
    count: usize,
    works: &mut bool,
    mut batch: impl FnMut(Range<usize>) -> Result<(), Stopped>,
    mut single: impl FnMut(usize) -> Result<(), MapError>,
) -> Vec<Refused> {
    let mut refused = Vec::new();
    let mut next = 0;
    while next < count {
        // One entry is no batch.
        if *works && count - next > 1 {
            let end = count.min(next + CHUNK);
            match batch(next..end) {
                Ok(()) => {
                    next = end;
                    continue;
                }
                Err(stopped) => {
                    *works = !stopped.knows_no_batches;
                    next += stopped.done;
                }
            }
        }
        if let Err(error) = single(next) {
            refused.push((next, error));
        }
        next += 1;
    }
    refused
}

/// One call, for as many entries as there are keys.
fn call<K: PlainOldData, V: PlainOldData>(
    map: &OwnedFd,
    command: bpf_cmd,
    keys: &[K],
    values: Option<&[V]>,
) -> Result<(), Stopped> {
    let mut attr = bpf::nothing_said();
    attr.batch.map_fd = map.as_raw_fd() as u32;
    attr.batch.keys = keys.as_ptr() as u64;
    attr.batch.values = values.map_or(0, |values| values.as_ptr() as u64);
    attr.batch.count = keys.len() as u32;
    // SAFETY: the members that these commands read; the kernel takes `count` keys and values of the map's
    // own sizes, which are those of `K` and `V`, and both slices outlive the call.
    match unsafe { bpf::call(command, &mut attr) } {
        Ok(_) => Ok(()),
        Err(error) => {
            // SAFETY: `batch` is what was set above; the kernel only overwrites its `count`.
            let done = unsafe { attr.batch.count } as usize;
            Err(stopped(&error, done, keys.len()))
        }
    }
}

fn stopped(error: &io::Error, done: usize, of: usize) -> Stopped {
    /// The kernel's own, not in errno(3): this kind of map has no such operation.
    const ENOTSUPP: i32 = 524;
    // Refused before the first entry, it leaves the count as it was.
    let done = if done < of { done } else { 0 };
    let unknown = [Some(ENOTSUPP), Some(libc::EINVAL), Some(libc::EOPNOTSUPP)];
    Stopped {
        done,
        knows_no_batches: done == 0 && unknown.contains(&error.raw_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(
        count: usize,
        works: &mut bool,
        batch: impl FnMut(Range<usize>) -> Result<(), Stopped>,
        bad: &[usize],
    ) -> (Vec<usize>, Vec<usize>) {
        let mut singles = Vec::new();
        let refused = in_batches(count, works, batch, |place| {
            singles.push(place);
            match bad.contains(&place) {
                true => Err(MapError::KeyNotFound),
                false => Ok(()),
            }
        });
        (
            singles,
            refused.into_iter().map(|(place, _)| place).collect(),
        )
    }

    #[test]
    fn all_are_written_in_batches() {
        let mut batches = Vec::new();
        let batch = |range: Range<usize>| {
            batches.push(range);
            Ok(())
        };
        let written = run(2 * CHUNK + 5, &mut true, batch, &[]);
        assert_eq!(written, (vec![], vec![]));
        let ends = [0..CHUNK, CHUNK..2 * CHUNK, 2 * CHUNK..2 * CHUNK + 5];
        assert_eq!(batches, ends);
    }

    #[test]
    fn a_bad_entry_is_tried_by_itself_and_named_and_the_others_are_written() {
        let mut works = true;
        let batch = |range: Range<usize>| match range.contains(&3) {
            true => Err(Stopped {
                done: 3 - range.start,
                knows_no_batches: false,
            }),
            false => Ok(()),
        };
        assert_eq!(run(10, &mut works, batch, &[3]), (vec![3], vec![3]));
        assert!(works);
    }

    #[test]
    fn a_kernel_without_batches_is_asked_once() {
        let (mut works, mut asked) = (true, 0);
        let mut batch = |_: Range<usize>| {
            asked += 1;
            Err(stopped(&io::Error::from_raw_os_error(524), 5, 5))
        };
        let first = run(5, &mut works, &mut batch, &[]);
        assert_eq!(first, (vec![0, 1, 2, 3, 4], vec![]));
        assert_eq!(run(2, &mut works, &mut batch, &[1]), (vec![0, 1], vec![1]));
        assert!(!works);
        assert_eq!(asked, 1);
    }

    #[test]
    fn an_error_behind_the_first_entry_says_nothing_of_batches() {
        let error = io::Error::from_raw_os_error(libc::EINVAL);
        let after_two = Stopped {
            done: 2,
            knows_no_batches: false,
        };
        assert_eq!(stopped(&error, 2, 5), after_two);
        assert!(stopped(&error, 0, 5).knows_no_batches);
        assert!(!stopped(&io::Error::from_raw_os_error(libc::E2BIG), 0, 5).knows_no_batches);
    }
}
