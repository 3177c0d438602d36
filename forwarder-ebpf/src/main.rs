//! Underpass's BPF programs: two entrances, where a packet may take the fast path, and two exits,
//! where the kernel shows what it does with those that may not yet. An XDP program may stand before the
//! uplink's entrance.
//!
//! An entrance reads, top to bottom: parse, flow, route, rewrite, redirect. Until the rewrite every
//! way out is "the kernel's", with the packet untouched; after it a packet is redirected or dropped.
#![no_std]
#![no_main]
// Loads and stores at any address: see `bytes`.
#![feature(asm_experimental_arch)]
#![expect(
    missing_docs,
    reason = "`#[classifier]` and `#[xdp]` drop the docs of the programs"
)]

mod bytes;
mod entrance;
mod exit;
mod express;
mod family;
mod flow;
mod icmp_error;
mod maps;
mod packet;
mod packet_trace;
mod parse;
mod redirect;
mod rewrite;
mod stats;
mod words;

use aya_ebpf::{
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use packet::{Skb, Xdp};

/// Ingress of a pod's host-side veth: what a pod sends.
#[classifier]
pub fn from_pod(ctx: TcContext) -> i32 {
    entrance::from_pod(Skb::new(&ctx))
}

/// Egress of the uplink: what the kernel sends to other nodes.
#[classifier]
pub fn to_wire(ctx: TcContext) -> i32 {
    exit::to_wire(Skb::new(&ctx))
}

/// Ingress of the uplink: what other nodes send.
#[classifier]
pub fn from_wire(ctx: TcContext) -> i32 {
    entrance::from_wire(Skb::new(&ctx))
}

/// Egress of a pod's host-side veth: what the kernel delivers to a pod.
#[classifier]
pub fn to_pod(ctx: TcContext) -> i32 {
    exit::to_pod(Skb::new(&ctx))
}

/// Ingress of the uplink by XDP, before `from_wire`. `frags`: it takes frames in several buffers, so that
/// what the uplink offers its senders stays.
#[xdp(frags)]
pub fn from_wire_xdp(ctx: XdpContext) -> u32 {
    express::from_wire(Xdp::new(&ctx))
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// The kernel takes programs under a GPL-compatible licence only, for the helpers they call.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
