//! Access to a packet and its metadata. Here and in `bytes` are the only places that touch raw packet
//! memory: everything above works on values.

mod xdp;

pub use xdp::Xdp;

pub use crate::bytes::Bytes;
use crate::family::{Family as _, IpVersion, V4, V6};
use crate::words::Macs;
use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup,
        bpf_fib_lookup__bindgen_ty_1, bpf_fib_lookup__bindgen_ty_2, bpf_fib_lookup__bindgen_ty_3,
        bpf_fib_lookup__bindgen_ty_4, bpf_fib_lookup__bindgen_ty_5,
    },
    helpers::{
        bpf_check_mtu, bpf_csum_update, bpf_fib_lookup, bpf_skb_change_tail, bpf_skb_pull_data,
    },
    programs::TcContext,
};

/// Length of an Ethernet header.
pub const ETHERNET: usize = 14;

/// `PACKET_HOST` of the kernel's `if_packet.h`: the frame is addressed to the device's own MAC.
const PACKET_HOST: u32 = 0;

/// A packet, wherever it is met: what reading and rewriting it takes.
pub trait Buffer: Copy {
    /// The IP version that the kernel takes it for; `None`: it is no IP packet, or a VLAN tag travels
    /// beside it.
    fn family(self) -> Option<IpVersion>;
    /// The device whose hook this is.
    fn ifindex(self) -> u32;
    /// Length of the packet in bytes, Ethernet header included; of a segment train, all of it.
    fn len(self) -> u32;
    /// Payload bytes of each segment of a train; 0 for a single packet.
    fn gso_size(self) -> u32;
    /// The packet's bytes, at least the first `wanted` of them in linear memory where the packet is
    /// that long, or else bounds checks fail.
    fn frame(self, wanted: usize) -> Frame;
    /// Cuts what stands behind `len` bytes off.
    fn trim(self, len: u32) -> Result<(), OutOfBounds>;
    /// The MTU of a device, in bytes of the IP packet, and whether this packet fits it (a segment
    /// train always does). `None`: there is no such device.
    fn check_mtu(self, ifindex: u32) -> Option<(u32, bool)>;
    /// Sets the packet's priority among those that wait in a queueing discipline.
    fn set_priority(self, priority: u32);
    /// Adds to the sum over the packet that the NIC has made, where it has made one
    /// (CHECKSUM_COMPLETE).
    fn add_to_sum(self, change: u32);
}

/// A packet at one of the TC hooks.
#[derive(Clone, Copy)]
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

    /// True where the frame is addressed to the receiving device's own MAC.
    #[inline(always)]
    pub fn is_for_this_host(self) -> bool {
        // SAFETY: see `len`.
        unsafe { (*self.skb).pkt_type == PACKET_HOST }
    }

    /// The device that it came in by, 0 for the host's own: `skb_iif` of the kernel, which stays with a packet that
    /// is forwarded.
    #[inline(always)]
    pub fn came_in_by(self) -> u32 {
        // SAFETY: see `len`.
        unsafe { (*self.skb).ingress_ifindex }
    }

    /// The witness: see `underpass_common::tag`.
    #[inline(always)]
    pub fn witness(self) -> u16 {
        // SAFETY: see `len`.
        unsafe { (*self.skb).tc_index as u16 }
    }

    #[inline(always)]
    pub fn set_witness(self, witness: u16) {
        // SAFETY: see `len`; `tc_index` is writable at TC hooks.
        unsafe { (*self.skb).tc_index = u32::from(witness) }
    }

    /// True where the kernel would send a packet that answers this question out of the device whose
    /// hook this is, as seen from that device: the reverse path check of RFC 3704.
    #[inline(always)]
    pub fn leads_here(self, question: &mut bpf_fib_lookup) -> bool {
        let ifindex = self.ifindex();
        question.ifindex = ifindex;
        let size = size_of::<bpf_fib_lookup>() as i32;
        // SAFETY: a helper on our own context; `question` outlives the call.
        let answer = unsafe { bpf_fib_lookup(self.skb.cast(), question, size, 0) };
        let is_way = answer == i64::from(BPF_FIB_LKUP_RET_SUCCESS)
            || answer == i64::from(BPF_FIB_LKUP_RET_NO_NEIGH);
        is_way && question.ifindex == ifindex
    }

    #[inline(always)]
    fn linear(self) -> Frame {
        // SAFETY: see `len`.
        unsafe {
            Frame {
                start: (*self.skb).data as usize,
                end: (*self.skb).data_end as usize,
            }
        }
    }
}

impl Buffer for Skb {
    #[inline(always)]
    fn family(self) -> Option<IpVersion> {
        const V4_TYPE: u32 = V4::ETHERTYPE.to_be() as u32;
        const V6_TYPE: u32 = V6::ETHERTYPE.to_be() as u32;
        // SAFETY: see `len`.
        let (ethertype, is_tagged) =
            unsafe { ((*self.skb).protocol, (*self.skb).vlan_present != 0) };
        match ethertype {
            _ if is_tagged => None,
            V4_TYPE => Some(IpVersion::V4),
            V6_TYPE => Some(IpVersion::V6),
            _ => None,
        }
    }

    #[inline(always)]
    fn ifindex(self) -> u32 {
        // SAFETY: see `len`.
        unsafe { (*self.skb).ifindex }
    }

    #[inline(always)]
    fn len(self) -> u32 {
        // SAFETY: the kernel passes a valid context; it turns these reads into reads of the skb.
        unsafe { (*self.skb).len }
    }

    #[inline(always)]
    fn gso_size(self) -> u32 {
        // SAFETY: see `len`.
        unsafe { (*self.skb).gso_size }
    }

    #[inline(always)]
    fn frame(self, wanted: usize) -> Frame {
        let frame = self.linear();
        if frame.start + wanted <= frame.end || self.len() < wanted as u32 {
            return frame;
        }
        // SAFETY: a helper on our own context. Where it fails the bounds checks fail after it.
        unsafe { bpf_skb_pull_data(self.skb, wanted as u32) };
        self.linear()
    }

    #[inline(always)]
    fn trim(self, len: u32) -> Result<(), OutOfBounds> {
        // SAFETY: a helper on our own context.
        match unsafe { bpf_skb_change_tail(self.skb, len, 0) } {
            0 => Ok(()),
            _ => Err(OutOfBounds),
        }
    }

    #[inline(always)]
    fn check_mtu(self, ifindex: u32) -> Option<(u32, bool)> {
        let mut mtu = 0u32;
        // SAFETY: a helper on our own context; `mtu` outlives the call.
        let answer = unsafe { bpf_check_mtu(self.skb.cast(), ifindex, &mut mtu, 0, 0) };
        (answer >= 0).then_some((mtu, answer == 0))
    }

    #[inline(always)]
    fn set_priority(self, priority: u32) {
        // SAFETY: see `len`; `priority` is writable at TC hooks.
        unsafe { (*self.skb).priority = priority }
    }

    #[inline(always)]
    fn add_to_sum(self, change: u32) {
        // SAFETY: a helper on our own context; it fails where there is no sum.
        unsafe { bpf_csum_update(self.skb, change) };
    }
}

/// A question for [`Skb::leads_here`] that is still to be filled with addresses.
#[inline(always)]
pub fn fib_question(family: u8) -> bpf_fib_lookup {
    bpf_fib_lookup {
        family,
        l4_protocol: 0,
        sport: 0,
        dport: 0,
        __bindgen_anon_1: bpf_fib_lookup__bindgen_ty_1 { tot_len: 0 },
        ifindex: 0,
        __bindgen_anon_2: bpf_fib_lookup__bindgen_ty_2 { flowinfo: 0 },
        __bindgen_anon_3: bpf_fib_lookup__bindgen_ty_3 { ipv6_src: [0; 4] },
        __bindgen_anon_4: bpf_fib_lookup__bindgen_ty_4 { ipv6_dst: [0; 4] },
        __bindgen_anon_5: bpf_fib_lookup__bindgen_ty_5 { tbid: 0 },
        smac: [0; 6],
        dmac: [0; 6],
    }
}

impl Frame {
    /// The `N` bytes at `offset`.
    #[inline(always)]
    pub fn bytes<const N: usize>(&self, offset: usize) -> Result<Bytes<N>, OutOfBounds> {
        if self.start + offset + N > self.end {
            return Err(OutOfBounds);
        }
        Ok(Bytes::at((self.start + offset) as *mut u8))
    }
}

/// Where the two MACs that begin a frame stand.
pub type MacBytes = Bytes<12>;

impl MacBytes {
    #[inline(always)]
    pub fn load(self) -> Macs {
        Macs([
            self.load_u32::<0>(),
            self.load_u32::<4>(),
            self.load_u32::<8>(),
        ])
    }

    #[inline(always)]
    pub fn store(self, macs: Macs) {
        let [first, middle, last] = macs.0;
        self.store_u32::<0>(first);
        self.store_u32::<4>(middle);
        self.store_u32::<8>(last);
    }
}
