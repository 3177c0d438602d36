//! BPF instructions (RFC 9669), and a program of them brought into the kernel.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;

use anyhow::{Context as _, Result};
use aya_obj::btf::{Btf, BtfType, Func, FuncLinkage, FuncProto, Int, IntEncoding};
use aya_obj::generated::{bpf_cmd, bpf_func_info, bpf_prog_type};
use underpass::datapath::bpf;

/// One instruction.
pub type Instruction = [u8; 8];

/// Numbers of helpers (include/uapi/linux/bpf.h).
pub mod helper {
    pub const TAIL_CALL: i32 = 12;
    pub const SKB_VLAN_PUSH: i32 = 18;
    pub const SKB_CHANGE_TAIL: i32 = 38;
    pub const SKB_ADJUST_ROOM: i32 = 50;
}

/// Opcode, destination and source register, offset, immediate.
fn instruction(opcode: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> Instruction {
    let [a, b] = offset.to_ne_bytes();
    let [c, d, e, f] = immediate.to_ne_bytes();
    [opcode, src << 4 | dst, a, b, c, d, e, f]
}

pub fn move_register(dst: u8, src: u8) -> Instruction {
    instruction(0xbf, dst, src, 0, 0)
}

pub fn move_number(dst: u8, number: i32) -> Instruction {
    instruction(0xb7, dst, 0, 0, number)
}

pub fn negate(register: u8) -> Instruction {
    instruction(0x87, register, 0, 0, 0)
}

/// A word of the context.
pub fn load(dst: u8, context: u8, word: usize) -> Instruction {
    instruction(0x61, dst, context, word as i16 * 4, 0)
}

pub fn store(context: u8, word: usize, src: u8) -> Instruction {
    instruction(0x63, context, src, word as i16 * 4, 0)
}

/// A map, by its descriptor: an instruction of double length.
pub fn load_map(dst: u8, map: i32) -> [Instruction; 2] {
    [instruction(0x18, dst, 1, 0, map), [0; 8]]
}

pub fn skip_if_zero(register: u8, instructions: usize) -> Instruction {
    instruction(0x15, register, 0, instructions as i16, 0)
}

pub fn call(helper: i32) -> Instruction {
    instruction(0x85, 0, 0, 0, helper)
}

/// Calls the function that begins so many instructions further on.
pub fn call_function(instructions: usize) -> Instruction {
    instruction(0x85, 0, 1, 0, instructions as i32)
}

pub fn exit() -> Instruction {
    instruction(0x95, 0, 0, 0, 0)
}

/// Loads a TC program of two functions, the second of which begins at instruction `second`, and pins
/// it.
pub fn load_and_pin(code: &[Instruction], second: usize, pin: &Path) -> Result<()> {
    let (btf, functions) = types_of_two_functions(second)?;
    let mut log = vec![0u8; 64 * 1024];
    let mut attr = bpf::nothing_said();
    // SAFETY: the member that `BPF_PROG_LOAD` reads.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.prog_type = bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS as u32;
    load.insns = code.as_ptr() as u64;
    load.insn_cnt = code.len() as u32;
    load.license = c"GPL".as_ptr() as u64;
    load.prog_btf_fd = btf.as_raw_fd() as u32;
    load.func_info = functions.as_ptr() as u64;
    load.func_info_rec_size = size_of::<bpf_func_info>() as u32;
    load.func_info_cnt = functions.len() as u32;
    load.log_buf = log.as_mut_ptr() as u64;
    load.log_size = log.len() as u32;
    load.log_level = 1;
    // SAFETY: filled for this command, and all that it points to lives until the call returns.
    let program = unsafe { bpf::descriptor(bpf_cmd::BPF_PROG_LOAD, &mut attr) };
    let program = program.with_context(|| {
        let log = log.split(|&byte| byte == 0).next().unwrap_or_default();
        format!("the verifier says: {}", String::from_utf8_lossy(log))
    })?;
    bpf::pin(program.as_fd(), pin).context("pinning")
}

/// The kernel wants to know that a function which makes a tail call returns `int`.
fn types_of_two_functions(second: usize) -> Result<(OwnedFd, [bpf_func_info; 2])> {
    let mut btf = Btf::new();
    let [int, first_name, second_name] = ["int", "launch", "call"].map(|name| btf.add_string(name));
    let int = btf.add_type(BtfType::Int(Int::new(int, 4, IntEncoding::Signed, 0)));
    let prototype = btf.add_type(BtfType::FuncProto(FuncProto::new(vec![], int)));
    let [first_type, second_type] = [first_name, second_name].map(|name| {
        btf.add_type(BtfType::Func(Func::new(
            name,
            prototype,
            FuncLinkage::Static,
        )))
    });
    let bytes = btf.to_bytes();
    let mut attr = bpf::nothing_said();
    // SAFETY: the member that `BPF_BTF_LOAD` reads.
    let load = unsafe { &mut attr.__bindgen_anon_7 };
    load.btf = bytes.as_ptr() as u64;
    load.btf_size = bytes.len() as u32;
    // SAFETY: likewise.
    let btf = unsafe { bpf::descriptor(bpf_cmd::BPF_BTF_LOAD, &mut attr) };
    let btf = btf.context("loading types")?;
    let functions = [
        bpf_func_info {
            insn_off: 0,
            type_id: first_type,
        },
        bpf_func_info {
            insn_off: second as u32,
            type_id: second_type,
        },
    ];
    Ok((btf, functions))
}
