//! A sender and a sink for packets in transit, each at the far end of one of a router's wires, that cost next to
//! nothing: what is left is the router's work.
//!
//! `flood` makes each frame that `BPF_PROG_TEST_RUN` gives it (with `BPF_F_TEST_XDP_LIVE_FRAMES`) the next prepared one
//! and sends it out of a device, as xdp-tools' xdp-trafficgen does. `sink` counts, on the device that it is attached
//! to, frames of such packets that have been routed as they should, and drops them.

use aya_ebpf::{
    bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS},
    btf_maps::{Array, PerCpuArray},
    helpers,
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use underpass_common::flow::PROTOCOL_UDP;

use crate::{
    frame::xdp_front,
    layout::{DISCARD, FRAME, Flooding, Sunk},
    rotate::{FRAMES, take_turn, write},
};

/// See [`Flooding`].
#[btf_map(name = "flooding")]
static FLOODING: Array<Flooding, 1> = Array::new();

/// See [`Sunk`], by CPU.
#[btf_map(name = "sunk")]
static SUNK: PerCpuArray<Sunk, 1> = PerCpuArray::new();

/// `ETH_P_IP`, as it stands in a frame.
const IPV4: u16 = 0x0800u16.to_be();

/// Makes the frame the next one, and sends it.
#[xdp]
pub fn flood(ctx: XdpContext) -> u32 {
    send(&ctx).unwrap_or(XDP_ABORTED)
}

#[inline(always)]
fn send(ctx: &XdpContext) -> Option<u32> {
    let flooding = FLOODING.get(0)?;
    let prepared = FRAMES.get(take_turn()?)?;
    write(xdp_front(ctx)?, prepared);
    // SAFETY: a helper without pointers.
    Some(unsafe { helpers::bpf_redirect(flooding.ifindex, 0) as u32 })
}

/// Counts and drops the flood's frames; all others pass, also those of several parts.
#[xdp(frags)]
pub fn sink(ctx: XdpContext) -> u32 {
    take(&ctx).unwrap_or(XDP_PASS)
}

#[inline(always)]
fn take(ctx: &XdpContext) -> Option<u32> {
    let frame = xdp_front::<FRAME>(ctx)?;
    let is_ours = frame.load_u16::<12>() == IPV4
        && frame.load_u8::<23>() == PROTOCOL_UDP
        && frame.load_u16::<36>() == DISCARD.to_be();
    if !is_ours {
        return None;
    }
    let expected = FLOODING.get(0)?;
    let [a, b, c, d, e, f] = expected.dst_mac;
    let is_routed = frame.load_u32::<0>() == u32::from_ne_bytes([a, b, c, d])
        && frame.load_u16::<4>() == u16::from_ne_bytes([e, f])
        && frame.load_u8::<22>() == expected.ttl;
    let sunk = SUNK.get_ptr_mut(0)?;
    // SAFETY: this CPU's own entry.
    unsafe {
        if is_routed {
            (*sunk).routed = (*sunk).routed.wrapping_add(1);
        } else {
            (*sunk).astray = (*sunk).astray.wrapping_add(1);
        }
    }
    Some(XDP_DROP)
}
