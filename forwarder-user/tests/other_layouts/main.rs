//! What an agent and the reading commands make of pins that are not theirs: maps of other shapes or of
//! another version, programs, directories, symbolic links.

mod bed;

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::symlink;

use aya::maps::MapInfo;
use aya::programs::ProgramInfo;
use underpass::datapath::{Loaded, bpf, load};
use underpass_bench::root_or_skip;
use underpass_common::map_names;
use underpass_common::settings::{LAYOUT_VERSION, Settings};
use underpass_common::verdict::Hook;

use bed::{Bed, DEVMAP_HASH, Foreign, OPTIONS, Shape, on_bpffs, shape};

/// Every map with its shape, as the object has it.
fn shapes(bed: &Bed) -> BTreeMap<String, Shape> {
    let names = load::map_names().unwrap().into_iter();
    names
        .map(|name| {
            let shape = shape(&bed.pins.map(&name));
            (name, shape)
        })
        .collect()
}

/// Shapes that differ from `ours` in one of type, key, value, entries or flags.
fn other_shapes(ours: Shape) -> Vec<(&'static str, Shape)> {
    const HASH: u32 = 1;
    const ARRAY: u32 = 2;
    const PERCPU_HASH: u32 = 5;
    const LRU_HASH: u32 = 9;
    const NUMA_NODE: u32 = 4;
    const RDONLY_PROG: u32 = 128;
    let [kind, key, value, entries, flags] = ours;
    let other_kind = match kind {
        // An array's key is four bytes, as a hash's can be.
        HASH => ARRAY,
        // A plain hash is read as this one is.
        LRU_HASH => PERCPU_HASH,
        _ => HASH,
    };
    // A devmap always is for programs to read.
    let other_flag = if kind == DEVMAP_HASH {
        NUMA_NODE
    } else {
        RDONLY_PROG
    };
    let no_prealloc = u32::from(other_kind == HASH) & flags;
    vec![
        ("type", [other_kind, key, value, entries, no_prealloc]),
        ("key", [kind, key + 4, value, entries, flags]),
        ("shorter value", [kind, key, value - 4, entries, flags]),
        ("longer value", [kind, key, value + 8, entries, flags]),
        ("entries", [kind, key, value, entries + 1, flags]),
        ("flags", [kind, key, value, entries, flags ^ other_flag]),
    ]
}

fn settings() -> Settings {
    Settings {
        layout_version: LAYOUT_VERSION,
        ..Settings::default()
    }
}

/// Puts a map of another shape in place of one of ours.
fn replace(bed: &Bed, name: &str, other: Shape) -> Option<Foreign> {
    let foreign = Foreign::create(other).ok()?;
    fs::remove_file(bed.pins.map(name)).unwrap();
    foreign.pin(&bed.pins.map(name));
    Some(foreign)
}

#[test]
fn a_map_of_another_shape_is_never_used() {
    if !root_or_skip("a_map_of_another_shape_is_never_used") {
        return;
    }
    on_bpffs(|bed| {
        let mut loaded = bed.load();
        assert_eq!(loaded.started_afresh, None);
        let ours = shapes(bed);
        for (name, shape) in &ours {
            let mut tried = 0;
            for (what, other) in other_shapes(*shape) {
                loaded.maps.set_settings(&settings()).unwrap();
                let Some(foreign) = replace(bed, name, other) else {
                    continue;
                };
                tried += 1;
                loaded = bed.load();
                let why = loaded.started_afresh.as_deref().unwrap_or_default();
                let pin = bed.pins.map(name);
                assert!(
                    why.contains(pin.to_str().unwrap()),
                    "{name}, {what}: {why:?}"
                );
                assert_eq!(shapes(bed), ours, "{name}, {what}");
                let used = MapInfo::from_pin(&pin).unwrap().id();
                assert_ne!(used, foreign.id(), "{name}, {what}");
            }
            assert!(tried >= 3, "{name}: the kernel has taken {tried} shapes");
        }
        loaded.maps.set_settings(&settings()).unwrap();
        assert_eq!(bed.load().started_afresh, None, "and then they are ours");
    });
}

#[test]
fn reading_commands_refuse_maps_of_another_shape() {
    if !root_or_skip("reading_commands_refuse_maps_of_another_shape") {
        return;
    }
    on_bpffs(|bed| {
        bed.expect_refused("no agent has run here");
        bed.load().maps.set_settings(&settings()).unwrap();
        for command in ["status", "peers", "pods", "flows"] {
            let output = bed.run(command);
            assert!(output.status.success(), "{command}: {output:?}");
        }
        for (name, shape) in shapes(bed) {
            if name == map_names::LAST_STAMPED {
                // Between the programs; no command reads it.
                continue;
            }
            for (what, other) in other_shapes(shape) {
                // Neither entries nor flags change what an entry means.
                if ["entries", "flags"].contains(&what) {
                    continue;
                }
                let ours = Foreign::create(shape).unwrap();
                if replace(bed, &name, other).is_some() {
                    bed.expect_refused("is not laid out as this version of underpass expects");
                    fs::remove_file(bed.pins.map(&name)).unwrap();
                    ours.pin(&bed.pins.map(&name));
                    if name == map_names::SETTINGS {
                        bed.load().maps.set_settings(&settings()).unwrap();
                    }
                }
            }
        }
    });
}

/// One entry that a newly made map would not have.
fn leave_a_mark(loaded: &mut Loaded) {
    loaded.maps.set_pod(7, &Default::default()).unwrap();
}

#[test]
fn maps_of_another_layout_version_are_not_read() {
    if !root_or_skip("maps_of_another_layout_version_are_not_read") {
        return;
    }
    on_bpffs(|bed| {
        for layout_version in [LAYOUT_VERSION + 1, LAYOUT_VERSION - 1, u32::MAX] {
            let mut loaded = bed.load();
            leave_a_mark(&mut loaded);
            let other = Settings {
                layout_version,
                ..settings()
            };
            loaded.maps.set_settings(&other).unwrap();
            if layout_version == 0 {
                // An agent that did not live to write it.
                assert_eq!(bed.load().started_afresh, None);
                continue;
            }
            bed.expect_refused(&format!("have layout {layout_version}"));
            let loaded = bed.load();
            let why = loaded.started_afresh.unwrap();
            assert!(
                why.contains(&format!("layout version is {layout_version}")),
                "{why}"
            );
            assert!(loaded.maps.pods().unwrap().is_empty());
        }
    });
}

#[test]
fn maps_whose_version_nobody_tells_are_not_read() {
    if !root_or_skip("maps_whose_version_nobody_tells_are_not_read") {
        return;
    }
    on_bpffs(|bed| {
        leave_a_mark(&mut bed.load());
        fs::remove_file(bed.pins.map(map_names::SETTINGS)).unwrap();
        bed.expect_refused("no agent has run here");
        let loaded = bed.load();
        let why = loaded.started_afresh.unwrap();
        assert!(why.contains("no "), "{why}");
        assert!(loaded.maps.pods().unwrap().is_empty());
    });
}

#[test]
fn what_is_no_map_is_replaced_where_it_bears_our_name() {
    if !root_or_skip("what_is_no_map_is_replaced_where_it_bears_our_name") {
        return;
    }
    on_bpffs(|bed| {
        let mut loaded = bed.load();
        for name in load::map_names().unwrap() {
            let pin = bed.pins.map(&name);
            // A program.
            loaded.maps.set_settings(&settings()).unwrap();
            let program = load::program(&mut loaded.ebpf, Hook::FromPod).unwrap();
            let program = program.fd().unwrap().as_fd().try_clone_to_owned().unwrap();
            fs::remove_file(&pin).unwrap();
            bpf::pin(program.as_fd(), &pin).unwrap();
            if name != map_names::LAST_STAMPED {
                bed.expect_refused(pin.to_str().unwrap());
            }
            loaded = bed.load();
            assert!(loaded.started_afresh.is_some(), "{name}: a program");

            // Links: to nowhere, and to a map of somebody else's that would fit.
            let elsewhere = bed.pins.root().with_file_name("theirs");
            let theirs = Foreign::create(shape(&pin)).unwrap();
            for there in [false, true] {
                if there {
                    theirs.pin(&elsewhere);
                }
                fs::remove_file(&pin).unwrap();
                symlink(&elsewhere, &pin).unwrap();
                loaded = bed.load();
                let why = loaded.started_afresh.as_deref().unwrap_or_default();
                assert!(why.contains("symbolic link"), "{name}: {why:?}");
                let used = MapInfo::from_pin(&pin).unwrap().id();
                assert_ne!(used, theirs.id(), "{name}");
                assert_eq!(elsewhere.exists(), there, "{name}");
            }
            fs::remove_file(&elsewhere).unwrap();
        }
    });
}

#[test]
fn what_is_not_ours_stays() {
    if !root_or_skip("what_is_not_ours_stays") {
        return;
    }
    on_bpffs(|bed| {
        bed.load();
        let shape = shape(&bed.pins.map(map_names::PODS));
        let theirs = Foreign::create(shape).unwrap();
        let pins = [
            bed.pins.root().join("theirs"),
            bed.pins.root().join("pods_of_others"),
        ];
        pins.iter().for_each(|pin| theirs.pin(pin));

        // A directory where a map should be is nothing that we have made.
        let pods = bed.pins.map(map_names::PODS);
        fs::remove_file(&pods).unwrap();
        fs::create_dir(&pods).unwrap();
        theirs.pin(&pods.join("theirs"));
        bed.expect_refused(pods.to_str().unwrap());
        let error = load(&bed.pins, OPTIONS).err().expect("there is no room");
        let told = format!("{error:#}");
        assert!(told.contains(pods.to_str().unwrap()), "{told}");
        assert!(pods.join("theirs").exists());
        fs::remove_file(pods.join("theirs")).unwrap();
        fs::remove_dir(&pods).unwrap();

        // Starting afresh, and taking everything out, touch our own names only.
        bed.load()
            .maps
            .set_settings(&Settings {
                layout_version: LAYOUT_VERSION + 1,
                ..settings()
            })
            .unwrap();
        assert!(bed.load().started_afresh.is_some());
        assert!(pins.iter().all(|pin| pin.exists()));
        let told = format!("{:#}", bed.pins.remove_all().unwrap_err());
        assert!(told.contains(bed.pins.root().to_str().unwrap()), "{told}");
        let left: Vec<_> = fs::read_dir(bed.pins.root()).unwrap().collect();
        assert_eq!(left.len(), pins.len(), "{left:?}");
        assert!(pins.iter().all(|pin| pin.exists()));
    });
}

#[test]
fn what_is_no_program_of_ours_is_replaced_where_it_bears_our_name() {
    if !root_or_skip("what_is_no_program_of_ours_is_replaced_where_it_bears_our_name") {
        return;
    }
    on_bpffs(|bed| {
        bed.load().maps.set_settings(&settings()).unwrap();
        let map = shape(&bed.pins.map(map_names::PODS));
        for hook in Hook::TC {
            let pin = bed.pins.program(hook);
            let theirs = Foreign::create(map).unwrap();
            fs::remove_file(&pin).unwrap();
            theirs.pin(&pin);
            assert_eq!(bed.load().started_afresh, None, "the maps are ours");
            let name = ProgramInfo::from_pin(&pin).unwrap();
            assert_eq!(name.name_as_str(), Some(hook.name()));
        }

        // A directory is nothing that we have made.
        let pin = bed.pins.program(Hook::FromPod);
        fs::remove_file(&pin).unwrap();
        fs::create_dir(&pin).unwrap();
        let error = load(&bed.pins, OPTIONS).err().expect("there is no room");
        let told = format!("{error:#}");
        assert!(told.contains(pin.to_str().unwrap()), "{told}");
    });
}
