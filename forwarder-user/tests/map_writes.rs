//! Writing many map entries at once: what the kernel takes, what it refuses, and what is there afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use underpass::datapath::{LoadOptions, Loaded, Pins, load};
use underpass_bench::root_or_skip;
use underpass_common::route::Route;

/// A directory on the BPF file system, and maps in it; both go when this is dropped.
struct Bed {
    pins: Pins,
    loaded: Loaded,
}

impl Bed {
    fn new(name: &str) -> Self {
        let dir: PathBuf =
            Path::new("/sys/fs/bpf").join(format!("up-{}-{name}", std::process::id()));
        let pins = Pins::new(dir);
        pins.create().unwrap();
        let loaded = load(
            &pins,
            LoadOptions {
                max_flows: 1024,
                ..LoadOptions::default()
            },
        )
        .unwrap();
        Self { pins, loaded }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if let Err(error) = self.pins.remove_all() {
            eprintln!("{error:#}");
        }
        let _ = fs::remove_dir(self.pins.root());
    }
}

/// Routes of both families, in turns.
fn routes(count: u32) -> Vec<(IpNet, Route)> {
    let route = |n: u32| Route {
        ifindex: n + 1,
        peer_mac: [2, 0, 0, 0, (n >> 8) as u8, n as u8],
        own_mac: [2; 6],
    };
    let prefixes = |n: u32| {
        let v4 = format!("10.{}.{}.0/24", n >> 8 & 255, n & 255);
        [v4, format!("fd00:20:{n:x}::/64")]
    };
    (0..count)
        .flat_map(|n| prefixes(n).map(|text| (text.parse().unwrap(), route(n))))
        .collect()
}

#[test]
fn thousands_of_routes_are_written_read_and_removed() {
    if !root_or_skip("thousands_of_routes_are_written_read_and_removed") {
        return;
    }
    let mut bed = Bed::new("many");
    let maps = &mut bed.loaded.maps;
    let mut wanted = routes(3000);
    assert!(maps.set_routes(&wanted).is_empty());
    let expected: BTreeMap<_, _> = wanted.iter().copied().collect();
    assert_eq!(maps.routes().unwrap(), expected);
    // Replaced in place.
    wanted
        .iter_mut()
        .for_each(|(_, route)| route.own_mac = [6; 6]);
    assert!(maps.set_routes(&wanted).is_empty());
    assert_eq!(maps.routes().unwrap(), wanted.iter().copied().collect());
    let removed: Vec<IpNet> = wanted.drain(..4000).map(|(prefix, _)| prefix).collect();
    assert!(maps.remove_routes(&removed).is_empty());
    assert_eq!(maps.routes().unwrap(), wanted.iter().copied().collect());
}

/// The kernel stops a batch at what it does not find; everything behind it goes all the same.
#[test]
fn what_is_not_there_is_as_good_as_removed() {
    if !root_or_skip("what_is_not_there_is_as_good_as_removed") {
        return;
    }
    let mut bed = Bed::new("absent");
    let maps = &mut bed.loaded.maps;
    let all = routes(50);
    let half: Vec<_> = all.iter().copied().step_by(3).collect();
    assert!(maps.set_routes(&half).is_empty());
    let prefixes: Vec<IpNet> = all.iter().map(|(prefix, _)| *prefix).collect();
    assert!(maps.remove_routes(&prefixes).is_empty());
    assert!(maps.routes().unwrap().is_empty());
}

/// A full map refuses what is new, one entry after the other, by name, and takes what it knows.
#[test]
fn a_full_map_names_what_it_refuses() {
    if !root_or_skip("a_full_map_names_what_it_refuses") {
        return;
    }
    let mut bed = Bed::new("full");
    let maps = &mut bed.loaded.maps;
    let full: Vec<_> = routes(65_536)
        .into_iter()
        .filter(|(prefix, _)| prefix.addr().is_ipv6())
        .collect();
    assert!(maps.set_routes(&full).is_empty());
    let new: IpNet = "fd99::/64".parse().unwrap();
    let newer: IpNet = "fd98::/64".parse().unwrap();
    let (known, mut changed) = full[7];
    changed.own_mac = [8; 6];
    let route = full[0].1;
    let failed = maps.set_routes(&[(new, route), (known, changed), (newer, route)]);
    let names: Vec<IpNet> = failed.iter().map(|(prefix, _)| *prefix).collect();
    assert_eq!(names, [new, newer]);
    let text = format!("{:#}", failed[0].1);
    assert!(
        text.starts_with("cannot write fd99::/64: map routes_v6"),
        "{text}"
    );
    let found = maps.routes().unwrap();
    assert_eq!((found.len(), found[&known]), (65_536, changed));
}

/// Told, never judged: what batches gain over one call for each entry, in turns.
#[test]
fn batches_and_single_writes_leave_the_same() {
    if !root_or_skip("batches_and_single_writes_leave_the_same") {
        return;
    }
    let mut bed = Bed::new("race");
    let maps = &mut bed.loaded.maps;
    let wanted = routes(5000);
    let prefixes: Vec<IpNet> = wanted.iter().map(|(prefix, _)| *prefix).collect();
    let expected: BTreeMap<_, _> = wanted.iter().copied().collect();
    let (mut batches, mut singles): (Vec<Duration>, Vec<Duration>) = Default::default();
    for _ in 0..5 {
        let began = Instant::now();
        assert!(maps.set_routes(&wanted).is_empty());
        batches.push(began.elapsed());
        assert_eq!(maps.routes().unwrap(), expected);
        assert!(maps.remove_routes(&prefixes).is_empty());
        let began = Instant::now();
        for one in &wanted {
            assert!(maps.set_routes(std::slice::from_ref(one)).is_empty());
        }
        singles.push(began.elapsed());
        assert_eq!(maps.routes().unwrap(), expected);
        assert!(maps.remove_routes(&prefixes).is_empty());
    }
    batches.sort_unstable();
    singles.sort_unstable();
    println!(
        "10,000 routes: {:?} in batches, {:?} one by one (medians of 5, in turns)",
        batches[2], singles[2]
    );
}
