//! One `BPF_PROG_TEST_RUN` gives a program the same packet each time. This program stands before the one that is
//! measured and makes another packet of it each time, so that a run meets thousands of flows.

use aya_ebpf::{
    btf_maps::{Array, ProgramArray},
    macros::{btf_map, classifier, xdp},
    programs::{TcContext, XdpContext},
};

use crate::{
    bytes::Bytes,
    frame::{front, xdp_front},
    layout::{FRAME, NOT_CALLED, PreparedFrame, Turn},
};

/// The frames; user space asks for as many as it has.
#[btf_map(name = "frames")]
pub static FRAMES: Array<PreparedFrame, 1> = Array::new();

/// See [`Turn`]. One run at a time: each who loads these programs has maps of their own.
#[btf_map(name = "turn")]
static TURN: Array<Turn, 1> = Array::new();

/// The program under test.
#[btf_map(name = "under_test")]
static UNDER_TEST: ProgramArray<1> = ProgramArray::new();

/// The program under test in XDP.
#[btf_map(name = "under_test_xdp")]
static UNDER_TEST_XDP: ProgramArray<1> = ProgramArray::new();

/// Makes the packet the next frame, and calls the program under test.
#[classifier]
pub fn rotate(ctx: TcContext) -> i32 {
    if next(&ctx).is_some() {
        // SAFETY: nothing here has to be dropped. The slot is a constant, so that the JIT makes a plain jump of it.
        unsafe { UNDER_TEST.tail_call(&ctx, 0) };
    }
    NOT_CALLED
}

/// Likewise, in XDP. Only a program that takes frames of several parts can call one that does.
#[xdp(frags)]
pub fn rotate_xdp(ctx: XdpContext) -> u32 {
    if next_xdp(&ctx).is_some() {
        // SAFETY: likewise.
        unsafe { UNDER_TEST_XDP.tail_call(&ctx, 0) };
    }
    NOT_CALLED.cast_unsigned()
}

#[inline(always)]
fn next_xdp(ctx: &XdpContext) -> Option<()> {
    let prepared = FRAMES.get(take_turn()?)?;
    write(xdp_front(ctx)?, prepared);
    Some(())
}

#[inline(always)]
fn next(ctx: &TcContext) -> Option<()> {
    let prepared = FRAMES.get(take_turn()?)?;
    write(front(ctx)?, prepared);
    // SAFETY: the kernel passes a valid context; `tc_index` is writable at TC hooks.
    unsafe { (*ctx.skb.skb).tc_index = u32::from(prepared.tc_index) };
    Some(())
}

/// The index of the frame whose turn it is; after it comes the next one's.
#[inline(always)]
pub fn take_turn() -> Option<u32> {
    let turn = TURN.get_ptr_mut(0)?;
    // SAFETY: nobody else reads or writes it while this runs.
    unsafe {
        let index = (*turn).first + ((*turn).packets & (*turn).mask);
        (*turn).packets = (*turn).packets.wrapping_add(1);
        Some(index)
    }
}

/// Writes a prepared frame over the front of a packet.
#[inline(always)]
pub fn write(frame: Bytes<FRAME>, prepared: &PreparedFrame) {
    frame.store_u64::<0>(u64::from_ne_bytes(prepared.macs));
    frame.store_u32::<8>(u32::from_ne_bytes(prepared.src_mac_rest));
    frame.store_u16::<12>(u16::from_ne_bytes(prepared.ether_type));
    let [a, b, c, d, e] = prepared.headers;
    frame.store_u64::<14>(u64::from_ne_bytes(a));
    frame.store_u64::<22>(u64::from_ne_bytes(b));
    frame.store_u64::<30>(u64::from_ne_bytes(c));
    frame.store_u64::<38>(u64::from_ne_bytes(d));
    frame.store_u64::<46>(u64::from_ne_bytes(e));
}
