//! A BPF file system that nobody else sees, and maps of any shape on it.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;
use std::process::{Command, Output};

use aya::maps::MapInfo;
use aya_obj::generated::bpf_cmd;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use underpass::datapath::{LoadOptions, Loaded, Pins, bpf, load};
use underpass_common::packet_trace::Filter;

pub const OPTIONS: LoadOptions = LoadOptions {
    max_flows: 1024,
    xdp: false,
    packet_trace: Filter::OFF,
};

/// Runs `test` on a thread with a mount namespace of its own, which takes all pins with it when it ends.
pub fn on_bpffs(test: impl FnOnce(&Bed) + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            let dir = tempfile::tempdir().unwrap();
            mount(Some("bpf"), dir.path(), Some("bpf"), MsFlags::empty(), none).unwrap();
            let pins = Pins::new(dir.path().join("underpass"));
            test(&Bed { pins });
            nix::mount::umount2(dir.path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// The directory where an agent would pin.
pub struct Bed {
    pub pins: Pins,
}

impl Bed {
    pub fn load(&self) -> Loaded {
        load(&self.pins, OPTIONS).unwrap()
    }

    /// Runs the command line on these pins.
    pub fn run(&self, command: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_underpass"))
            .arg(command)
            .arg("--bpffs")
            .arg(self.pins.root())
            .output()
            .unwrap()
    }

    /// Every reading command ends with one sentence, which holds `words`.
    pub fn expect_refused(&self, words: &str) {
        for command in ["status", "peers", "pods", "flows"] {
            let output = self.run(command);
            let told = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{command}: {told}");
            assert_eq!(told.lines().count(), 1, "{command}: {told}");
            assert!(told.starts_with("underpass: "), "{command}: {told}");
            assert!(told.contains(words), "{command}: no {words:?} in {told}");
            assert!(output.stdout.is_empty(), "{command}");
        }
    }
}

/// Type, key size, value size, entries and flags.
pub type Shape = [u32; 5];

pub fn shape(pin: &Path) -> Shape {
    let info = MapInfo::from_pin(pin).unwrap();
    [
        info.map_type().unwrap() as u32,
        info.key_size(),
        info.value_size(),
        info.max_entries(),
        info.map_flags(),
    ]
}

/// Its number among the kinds of maps.
pub const DEVMAP_HASH: u32 = 25;

/// A map of any shape, pinned or not; it lives as long as this does.
pub struct Foreign(OwnedFd);

impl Foreign {
    /// The error says that the kernel has no such maps.
    pub fn create([kind, key, value, entries, flags]: Shape) -> io::Result<Self> {
        let mut attr = bpf::nothing_said();
        // SAFETY: the member that BPF_MAP_CREATE reads; a structure of integers.
        let create = unsafe { &mut attr.__bindgen_anon_1 };
        create.map_type = kind;
        create.key_size = key;
        create.value_size = value;
        create.max_entries = entries;
        // What the kernel adds to a devmap by itself it does not take.
        create.map_flags = if kind == DEVMAP_HASH {
            flags & !128
        } else {
            flags
        };
        // SAFETY: filled for this command, without a pointer.
        unsafe { bpf::descriptor(bpf_cmd::BPF_MAP_CREATE, &mut attr) }.map(Self)
    }

    pub fn pin(&self, path: &Path) {
        bpf::pin(self.0.as_fd(), path).unwrap();
    }

    /// The kernel's number for it, which no other map has while this one lives.
    pub fn id(&self) -> u32 {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", self.0.as_raw_fd())).unwrap();
        let id = info.lines().find_map(|line| line.strip_prefix("map_id:"));
        id.unwrap().trim().parse().unwrap()
    }
}
