//! The least that programs at these hooks can do and still connect pods: look a destination up, write two MACs,
//! redirect. They check nothing, count nothing but themselves and know no flows: who is slower than this pays for rules,
//! and what this is slower than the nodes' own stacks no program at these hooks can save.

use aya_ebpf::{
    btf_maps::{HashMap, PerCpuArray},
    helpers,
    macros::{btf_map, classifier},
    programs::TcContext,
};

use crate::{NEXT, frame::front, layout::StraightWay};

/// Where packets go, by their IPv4 destination as its bytes stand in a register.
#[btf_map(name = "straight_ways")]
static STRAIGHT_WAYS: HashMap<u32, StraightWay, 1024> = HashMap::new();

/// Packets redirected, by CPU.
#[btf_map(name = "sent_straight")]
static SENT_STRAIGHT: PerCpuArray<u64, 1> = PerCpuArray::new();

/// `ETH_P_IP`, in network order.
const IPV4: u32 = 0x0800u16.to_be() as u32;
/// Ethernet header and IPv4 header.
const FRONT: usize = 14 + 20;

/// Ingress of a pod's host-side veth, and of the uplink.
#[classifier]
pub fn hooks_limit(ctx: TcContext) -> i32 {
    send(&ctx).unwrap_or(NEXT)
}

#[inline(always)]
fn send(ctx: &TcContext) -> Option<i32> {
    // SAFETY: the kernel passes a valid context.
    let protocol = unsafe { (*ctx.skb.skb).protocol };
    if protocol != IPV4 {
        return None;
    }
    let frame = front::<FRONT>(ctx)?;
    // SAFETY: read at once, and never written while packets pass.
    let way = unsafe { STRAIGHT_WAYS.get(frame.load_u32::<30>()) }?;
    let [first, middle, last] = way.macs;
    frame.store_u32::<0>(first);
    frame.store_u32::<4>(middle);
    frame.store_u32::<8>(last);
    if let Some(sent) = SENT_STRAIGHT.get_ptr_mut(0) {
        // SAFETY: this CPU's own entry.
        unsafe { *sent = (*sent).wrapping_add(1) }
    }
    Some(match way.is_into_pod {
        // SAFETY: a helper without pointers.
        0 => unsafe { helpers::bpf_redirect(way.ifindex, 0) as i32 },
        // SAFETY: likewise.
        _ => unsafe { helpers::bpf_redirect_peer(way.ifindex, 0) as i32 },
    })
}
