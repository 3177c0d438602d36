//! Access to a packet's memory.

use core::arch::asm;

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::bpf_skb_pull_data,
    programs::{TcContext, XdpContext},
};

use crate::bytes::Bytes;

/// The first `N` bytes of a packet, in its linear part. Stale as soon as a helper moves packet data. `None`: the
/// packet is shorter.
#[inline(always)]
pub fn front<const N: usize>(ctx: &TcContext) -> Option<Bytes<N>> {
    let skb = ctx.skb.skb;
    linear(skb).or_else(|| {
        // SAFETY: a helper on our own context. Where it fails the bounds check fails after it.
        unsafe { bpf_skb_pull_data(skb, N as u32) };
        linear(skb)
    })
}

/// Likewise in XDP, where nothing can be pulled.
#[inline(always)]
pub fn xdp_front<const N: usize>(ctx: &XdpContext) -> Option<Bytes<N>> {
    let (start, end) = (ctx.data(), ctx.data_end());
    (start + N <= end).then_some(Bytes::at(start as *mut u8))
}

#[inline(always)]
fn linear<const N: usize>(skb: *mut __sk_buff) -> Option<Bytes<N>> {
    // SAFETY: the kernel passes a valid context.
    let (start, end) = unsafe { ((*skb).data as usize, (*skb).data_end as usize) };
    (start + N <= end).then_some(Bytes::at(start as *mut u8))
}

impl<const N: usize> Bytes<N> {
    store_at_any_address!(store_u64, u64, "u64");
}
