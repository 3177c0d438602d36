//! Access to a packet and its metadata. The only place that touches raw packet memory: everything
//! above works on values.

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::{bpf_check_mtu, bpf_skb_change_tail, bpf_skb_pull_data},
    programs::TcContext,
};
use underpass_common::addr::Mac;

/// Length of an Ethernet header.
pub const ETHERNET: usize = 14;

/// `PACKET_HOST` of the kernel's `if_packet.h`: the frame is addressed to the device's own MAC.
const PACKET_HOST: u32 = 0;

/// A packet at one of the TC hooks.
pub struct Skb {
    skb: *mut __sk_buff,
}

/// A bounds check failed: the packet has not got that many bytes in its linear part.
pub struct OutOfBounds;

/// `data` and `data_end`, taken once: the verifier follows the pair from here to every access.
/// Stale as soon as a helper moves packet data.
#[derive(Clone, Copy)]
pub struct Frame {
    start: usize,
    end: usize,
}

impl Skb {
    #[inline(always)]
    pub fn new(ctx: &TcContext) -> Self {
        Self { skb: ctx.skb.skb }
    }

    /// Length of the packet in bytes, Ethernet header included; of a segment train, all of it.
    #[inline(always)]
    pub fn len(&self) -> u32 {
        // SAFETY: the kernel passes a valid context; it turns these reads into reads of the skb.
        unsafe { (*self.skb).len }
    }

    /// EtherType in network order, as it stands in memory.
    #[inline(always)]
    pub fn protocol(&self) -> u32 {
        // SAFETY: see `len`.
        unsafe { (*self.skb).protocol }
    }

    /// True where a VLAN tag travels beside the packet.
    #[inline(always)]
    pub fn is_vlan_tagged(&self) -> bool {
        // SAFETY: see `len`.
        unsafe { (*self.skb).vlan_present != 0 }
    }

    /// True where the frame is addressed to the receiving device's own MAC.
    #[inline(always)]
    pub fn is_for_this_host(&self) -> bool {
        // SAFETY: see `len`.
        unsafe { (*self.skb).pkt_type == PACKET_HOST }
    }

    /// The device whose hook this is.
    #[inline(always)]
    pub fn ifindex(&self) -> u32 {
        // SAFETY: see `len`.
        unsafe { (*self.skb).ifindex }
    }

    /// Payload bytes of each segment of a train; 0 for a single packet.
    #[inline(always)]
    pub fn gso_size(&self) -> u32 {
        // SAFETY: see `len`.
        unsafe { (*self.skb).gso_size }
    }

    /// The witness: see `underpass_common::tag`.
    #[inline(always)]
    pub fn witness(&self) -> u16 {
        // SAFETY: see `len`.
        unsafe { (*self.skb).tc_index as u16 }
    }

    #[inline(always)]
    pub fn set_witness(&self, witness: u16) {
        // SAFETY: see `len`; `tc_index` is writable at TC hooks.
        unsafe { (*self.skb).tc_index = u32::from(witness) }
    }

    /// The packet's bytes, at least the first `wanted` of them in linear memory where the packet is
    /// that long.
    #[inline(always)]
    pub fn frame(&self, wanted: usize) -> Frame {
        let frame = self.linear();
        if frame.start + wanted <= frame.end || self.len() < wanted as u32 {
            return frame;
        }
        // SAFETY: a helper on our own context. Where it fails the bounds checks fail after it.
        unsafe { bpf_skb_pull_data(self.skb, wanted as u32) };
        self.linear()
    }

    #[inline(always)]
    fn linear(&self) -> Frame {
        // SAFETY: see `len`.
        unsafe {
            Frame {
                start: (*self.skb).data as usize,
                end: (*self.skb).data_end as usize,
            }
        }
    }

    /// Cuts what stands behind `len` bytes off.
    #[inline(always)]
    pub fn trim(&self, len: u32) -> Result<(), OutOfBounds> {
        // SAFETY: a helper on our own context.
        match unsafe { bpf_skb_change_tail(self.skb, len, 0) } {
            0 => Ok(()),
            _ => Err(OutOfBounds),
        }
    }

    /// The MTU of a device, in bytes of the IP packet, and whether this packet fits it (a segment
    /// train always does). `None`: there is no such device.
    #[inline(always)]
    pub fn check_mtu(&self, ifindex: u32) -> Option<(u32, bool)> {
        let mut mtu = 0u32;
        // SAFETY: a helper on our own context; `mtu` outlives the call.
        let answer = unsafe { bpf_check_mtu(self.skb.cast(), ifindex, &mut mtu, 0, 0) };
        (answer >= 0).then_some((mtu, answer == 0))
    }
}

impl Frame {
    /// A pointer to `T` at `offset`, where all of it lies in the packet.
    #[inline(always)]
    fn at<T>(&self, offset: usize) -> Result<*mut T, OutOfBounds> {
        if self.start + offset + size_of::<T>() > self.end {
            return Err(OutOfBounds);
        }
        Ok((self.start + offset) as *mut T)
    }

    /// The value at `offset`. `T` must be plain bytes: any bit pattern may stand there.
    #[inline(always)]
    pub fn read<T: Copy>(&self, offset: usize) -> Result<T, OutOfBounds> {
        // SAFETY: in bounds by `at`; unaligned reads are allowed for.
        Ok(unsafe { self.at::<T>(offset)?.read_unaligned() })
    }

    /// Writes `value` at `offset`.
    #[inline(always)]
    pub fn write<T: Copy>(&self, offset: usize, value: T) -> Result<(), OutOfBounds> {
        // SAFETY: in bounds by `at`; unaligned writes are allowed for.
        unsafe { self.at::<T>(offset)?.write_unaligned(value) }
        Ok(())
    }

    /// A MAC, read as three halfwords: the compiler turns longer copies into calls of `memmove`,
    /// which the verifier refuses on packet memory.
    #[inline(always)]
    pub fn read_mac(&self, offset: usize) -> Result<Mac, OutOfBounds> {
        let halves = self.at::<[u16; 3]>(offset)?.cast::<u16>();
        // SAFETY: in bounds by `at`.
        let [a, b, c] = unsafe {
            [
                halves.read_unaligned(),
                halves.add(1).read_unaligned(),
                halves.add(2).read_unaligned(),
            ]
        };
        let ([a, b], [c, d], [e, f]) = (a.to_ne_bytes(), b.to_ne_bytes(), c.to_ne_bytes());
        Ok([a, b, c, d, e, f])
    }

    /// Writes a MAC, likewise.
    #[inline(always)]
    pub fn write_mac(&self, offset: usize, mac: Mac) -> Result<(), OutOfBounds> {
        let halves = self.at::<[u16; 3]>(offset)?.cast::<u16>();
        let [a, b, c, d, e, f] = mac;
        // SAFETY: in bounds by `at`.
        unsafe {
            halves.write_unaligned(u16::from_ne_bytes([a, b]));
            halves.add(1).write_unaligned(u16::from_ne_bytes([c, d]));
            halves.add(2).write_unaligned(u16::from_ne_bytes([e, f]));
        }
        Ok(())
    }
}
