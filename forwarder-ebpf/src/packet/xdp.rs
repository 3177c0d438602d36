//! A packet at XDP's hook: bytes, of which a NIC's driver has made no packet yet.

use aya_ebpf::{
    bindings::xdp_md,
    helpers::{bpf_check_mtu, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len},
    programs::XdpContext,
};

use super::{Buffer, ETHERNET, Frame, OutOfBounds};
use crate::family::{Family as _, IpVersion, V4, V6};

/// A frame that has just come in.
#[derive(Clone, Copy)]
pub struct Xdp {
    context: *mut xdp_md,
}

impl Xdp {
    #[inline(always)]
    pub fn new(ctx: &XdpContext) -> Self {
        Self { context: ctx.ctx }
    }
}

impl Buffer for Xdp {
    /// The IP version that its EtherType names.
    #[inline(always)]
    fn family(self) -> Option<IpVersion> {
        const V4_TYPE: u16 = V4::ETHERTYPE.to_be();
        const V6_TYPE: u16 = V6::ETHERTYPE.to_be();
        let ethertype = self.frame(ETHERNET).bytes::<2>(ETHERNET - 2).ok()?;
        match ethertype.load_u16::<0>() {
            V4_TYPE => Some(IpVersion::V4),
            V6_TYPE => Some(IpVersion::V6),
            _ => None,
        }
    }

    #[inline(always)]
    fn ifindex(self) -> u32 {
        // SAFETY: the kernel passes a valid context; it turns this read into one of the device.
        unsafe { (*self.context).ingress_ifindex }
    }

    #[inline(always)]
    fn len(self) -> u32 {
        // SAFETY: a helper on our own context. A frame in several buffers is as long as all of them.
        unsafe { bpf_xdp_get_buff_len(self.context) as u32 }
    }

    /// Nothing tells trains from single packets here: they are too large to be taken for one, or lack
    /// their checksum.
    #[inline(always)]
    fn gso_size(self) -> u32 {
        0
    }

    #[inline(always)]
    fn frame(self, _: usize) -> Frame {
        // SAFETY: the kernel passes a valid context; it turns these reads into reads of pointers.
        unsafe {
            Frame {
                start: (*self.context).data as usize,
                end: (*self.context).data_end as usize,
            }
        }
    }

    #[inline(always)]
    fn trim(self, len: u32) -> Result<(), OutOfBounds> {
        let change = len.wrapping_sub(self.len()).cast_signed();
        // SAFETY: a helper on our own context.
        match unsafe { bpf_xdp_adjust_tail(self.context, change) } {
            0 => Ok(()),
            _ => Err(OutOfBounds),
        }
    }

    #[inline(always)]
    fn check_mtu(self, ifindex: u32) -> Option<(u32, bool)> {
        // Told the packet's length, for the helper itself sees the first buffer only.
        let mut mtu = self.len().saturating_sub(ETHERNET as u32);
        // SAFETY: a helper on our own context; `mtu` outlives the call.
        let answer = unsafe { bpf_check_mtu(self.context.cast(), ifindex, &mut mtu, 0, 0) };
        (answer >= 0).then_some((mtu, answer == 0))
    }

    /// There is no queueing discipline on the way.
    #[inline(always)]
    fn set_priority(self, _: u32) {}

    /// There is no such sum any more: the receiver makes its own.
    #[inline(always)]
    fn add_to_sum(self, _: u32) {}
}
