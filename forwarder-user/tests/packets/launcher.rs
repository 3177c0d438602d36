//! A small BPF program that sets the stage for the programs under test, and looks at it after them.
//!
//! `BPF_PROG_TEST_RUN` takes and gives only a few fields of `__sk_buff` (`convert___skb_to_skb()` in
//! the kernel's `net/bpf/test_run.c`): `tc_index`, which carries the witness, is not among them, nor
//! can a packet come with a VLAN tag beside it, or end in its IP header. `mark` and `cb` are, and our
//! programs look at neither. So the launcher copies `mark` to `tc_index`, does what `cb` asks for,
//! calls the program under test, and copies `tc_index` back to `mark`. The call is a tail call out of a function, which returns to that function's
//! caller.

use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use aya::maps::{Map, MapData, ProgramArray};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use aya_obj::generated::bpf_map_type;
use underpass::datapath::Loaded;
use underpass::datapath::load::program;
use underpass_common::verdict::Hook;

use crate::assembly::{
    Instruction, call, call_function, exit, helper, load, load_and_pin, load_map, move_number,
    move_register, negate, skip_if_zero, store,
};
use crate::family::Family;

/// The largest frame that comes out again.
const ROOM: usize = 4096;

/// The shortest frame of an EtherType that `BPF_PROG_TEST_RUN` takes: one with a whole IP header. The
/// launcher cuts shorter ones out of it; a train of segments becomes a single packet by that.
fn shortest(frame: &[u8]) -> usize {
    14 + family_of(frame).header_len()
}

fn family_of(frame: &[u8]) -> Family {
    match frame.get(12..14) {
        Some([0x86, 0xdd]) => Family::V6,
        _ => Family::V4,
    }
}

/// Words of `__sk_buff` (include/uapi/linux/bpf.h), by their position.
mod word {
    pub const MARK: usize = 2;
    pub const PRIORITY: usize = 8;
    pub const INGRESS_IFINDEX: usize = 9;
    pub const IFINDEX: usize = 10;
    pub const TC_INDEX: usize = 11;
    pub const CB: usize = 12;
    pub const GSO_SIZE: usize = 44;
    pub const COUNT: usize = 48;
}

/// What travels with a packet beside its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Metadata {
    /// The device whose hook this is.
    pub ifindex: u32,
    /// The device that the packet came in by, as an exit sees it; 0: it is the host's own.
    pub came_in_by: u32,
    /// `tc_index`.
    pub witness: u16,
    /// Among the packets that wait in a queueing discipline.
    pub priority: u32,
    /// Payload bytes of each segment; 0 for a single packet.
    pub gso_size: u32,
    /// VLAN tag; 0: none.
    pub vlan: u32,
    /// The packet is marked as a tunnel's, for which the kernel refuses to change its length.
    pub is_tunnelled: bool,
}

/// What a program made of a packet.
#[derive(Debug)]
pub struct Run {
    pub answer: i32,
    pub bytes: Vec<u8>,
    /// `tc_index`.
    pub witness: u16,
    pub priority: u32,
}

/// The launcher, loaded.
pub struct Launcher {
    program: SchedClassifier,
    /// The programs under test, by the number of their hook.
    _programs: ProgramArray<MapData>,
}

impl Launcher {
    /// Loads the launcher and pins it in `dir`, for aya takes a foreign program only from a pin.
    pub fn new(loaded: &mut Loaded, dir: &Path) -> Result<Self> {
        let slots = Hook::TC.len() as u32;
        let kind = bpf_map_type::BPF_MAP_TYPE_PROG_ARRAY as u32;
        let map = aya_obj::Map::new_from_params(kind, 4, 4, slots, 0);
        let map = MapData::create(map, "under_test", None)?;
        let descriptor = map.fd().as_fd().as_raw_fd();
        let mut programs = ProgramArray::try_from(Map::ProgramArray(map))?;
        for hook in Hook::TC {
            let program = program(&mut loaded.ebpf, hook)?;
            programs.set(hook as u32, program.fd()?, 0)?;
        }
        let pin = dir.join("launcher");
        let [launch, call] = code(descriptor);
        load_and_pin(&[&launch[..], &call].concat(), launch.len(), &pin).context("the launcher")?;
        let program = SchedClassifier::from_pin(&pin)?;
        std::fs::remove_file(&pin)?;
        Ok(Self {
            program,
            _programs: programs,
        })
    }

    /// Runs the program of a hook on a frame.
    pub fn run(&self, hook: Hook, frame: &[u8], with: &Metadata) -> Result<Run> {
        let mut context = [0u32; word::COUNT];
        context[word::MARK] = with.witness.into();
        context[word::INGRESS_IFINDEX] = with.came_in_by;
        context[word::IFINDEX] = with.ifindex;
        context[word::GSO_SIZE] = with.gso_size;
        context[word::PRIORITY] = with.priority;
        context[word::CB] = hook as u32;
        context[word::CB + 1] = with.vlan;
        if with.is_tunnelled {
            let family = family_of(frame);
            context[word::CB + 2] = family.header_len() as u32;
            context[word::CB + 4] = as_tunnel(family);
        }
        let mut frame = frame.to_vec();
        let shortest = shortest(&frame);
        if frame.len() < shortest {
            context[word::CB + 3] = frame.len() as u32;
            frame.resize(shortest, 0xee);
        }
        let context = context.map(u32::to_ne_bytes).concat();
        let mut context_out = vec![0; context.len()];
        let mut bytes = vec![0; ROOM];
        let result = self.program.test_run(TestRunOptions {
            data_in: Some(&frame),
            data_out: Some(&mut bytes),
            ctx_in: Some(&context),
            ctx_out: Some(&mut context_out),
            ..TestRunOptions::default()
        })?;
        bytes.truncate(result.data_size_out as usize);
        let word = |position: usize| -> Result<u32> {
            let bytes = context_out[position * 4..][..4].try_into()?;
            Ok(u32::from_ne_bytes(bytes))
        };
        Ok(Run {
            answer: result.return_value.cast_signed(),
            bytes,
            witness: word(word::MARK)? as u16,
            priority: word(word::PRIORITY)?,
        })
    }
}

/// What the launcher answers where the program under test could not be called.
pub const NOT_CALLED: i32 = 0x7e57;

/// `BPF_ADJ_ROOM_MAC`.
const BEHIND_MAC: i32 = 1;

/// `BPF_F_ADJ_ROOM_ENCAP_L3_IPV4` and `BPF_F_ADJ_ROOM_ENCAP_L3_IPV6`: a tunnel of the packet's own
/// family, whose protocol stays what it is by that.
const fn as_tunnel(family: Family) -> u32 {
    match family {
        Family::V4 => 2,
        Family::V6 => 4,
    }
}

/// The launcher's two functions. r6 holds the context throughout.
fn code(programs: i32) -> [Vec<Instruction>; 2] {
    let vlan = [
        move_register(1, 6),
        move_number(2, i32::from(0x8100u16.to_be())),
        call(helper::SKB_VLAN_PUSH),
    ];
    let tunnel = [
        move_register(1, 6),
        load(2, 6, word::CB + 2),
        move_number(3, BEHIND_MAC),
        load(4, 6, word::CB + 4),
        call(helper::SKB_ADJUST_ROOM),
        // Out again, so that the bytes are what they were; the mark stays.
        move_register(1, 6),
        load(2, 6, word::CB + 2),
        negate(2),
        move_number(3, BEHIND_MAC),
        move_number(4, 0),
        call(helper::SKB_ADJUST_ROOM),
    ];
    // The length stands in r2 already.
    let cut = [
        move_register(1, 6),
        move_number(3, 0),
        call(helper::SKB_CHANGE_TAIL),
    ];
    let after = [load(2, 6, word::TC_INDEX), store(6, word::MARK, 2), exit()];
    let launch = [
        &[move_register(6, 1)][..],
        &[load(2, 6, word::MARK), store(6, word::TC_INDEX, 2)],
        &[load(3, 6, word::CB + 1), skip_if_zero(3, vlan.len())],
        &vlan,
        &[load(2, 6, word::CB + 3), skip_if_zero(2, cut.len())],
        &cut,
        &[load(3, 6, word::CB + 2), skip_if_zero(3, tunnel.len())],
        &tunnel,
        &[move_register(1, 6), call_function(after.len())],
        &after,
    ];
    let [map, rest_of_map] = load_map(2, programs);
    let call = vec![
        load(3, 1, word::CB),
        map,
        rest_of_map,
        call(helper::TAIL_CALL),
        move_number(0, NOT_CALLED),
        exit(),
    ];
    [launch.concat(), call]
}
