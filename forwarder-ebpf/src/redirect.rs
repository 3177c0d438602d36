//! The last check before the first write, and the way out after it.

use aya_ebpf::helpers::{bpf_redirect, bpf_redirect_peer};
use underpass_common::{tag, verdict::Verdict};

use crate::{
    packet::{Buffer as _, Skb},
    parse::Packet,
    words::WayOut,
};

/// Tells whether the packet may leave there: the device is there and the packet, or each segment of
/// a train, fits its MTU.
#[inline(always)]
pub fn check<A>(skb: Skb, packet: &Packet<A>, way_out: &WayOut) -> Result<(), Verdict> {
    let (mtu, fits) = skb.check_mtu(way_out.ifindex).ok_or(Verdict::WayOutGone)?;
    let segment = skb.gso_size();
    if !fits || (segment != 0 && packet.headers_len + segment > mtu) {
        return Err(Verdict::TooBig);
    }
    Ok(())
}

/// Out of a device, through its egress hooks and queueing discipline.
#[inline(always)]
pub fn to_wire(skb: Skb, way_out: &WayOut) -> i32 {
    skb.set_witness(tag::FAST);
    // SAFETY: a helper without pointers.
    unsafe { bpf_redirect(way_out.ifindex, 0) as i32 }
}

/// Into the namespace at the veth's other end.
#[inline(always)]
pub fn to_pod(skb: Skb, way_out: &WayOut) -> i32 {
    skb.set_witness(tag::NONE);
    // SAFETY: a helper without pointers.
    unsafe { bpf_redirect_peer(way_out.ifindex, 0) as i32 }
}
