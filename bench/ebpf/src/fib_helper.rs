//! A stand-in for xdp-tools' xdp-forward, at TC and in XDP: asks the kernel's FIB for each packet (`bpf_fib_lookup`), and
//! redirects it past bridge and netfilter. It keeps nothing of a flow.
//!
//! What differs from xdp-forward: into pods and out of them it stands at TC, for on veth XDP would first copy each packet;
//! it takes IPv4 alone;
//! a train of segments (GSO) is asked for without a length, so that the kernel judges it by its device's MTU; and a
//! pod behind a bridge is reached through the bridge device, since the FIB knows no ports.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::{
    bindings::{BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup, xdp_action::XDP_PASS},
    btf_maps::{HashMap, PerCpuArray},
    helpers,
    macros::{btf_map, classifier, xdp},
    programs::{TcContext, XdpContext},
};
use underpass_common::{
    checksum,
    flow::{PROTOCOL_TCP, PROTOCOL_UDP},
};

use crate::{
    NEXT,
    bytes::Bytes,
    frame::{front, xdp_front},
    layout::Routed,
};

/// Devices that take part; see [`Routed`].
#[btf_map(name = "routed")]
static ROUTED: HashMap<u32, Routed, 1024> = HashMap::new();

/// Packets redirected, by CPU.
#[btf_map(name = "redirected")]
static REDIRECTED: PerCpuArray<u64, 1> = PerCpuArray::new();

/// `ETH_P_IP`, in network order.
const IPV4: u32 = 0x0800u16.to_be() as u32;
/// `AF_INET`.
const AF_INET: u8 = 2;
/// Version 4, header of five words.
const VERSION_AND_IHL: u8 = 0x45;
/// More fragments (0x2000) and the fragment offset (0x1fff) of the header's flags field.
const FRAGMENT: u16 = 0x3fff;
/// Ethernet header, IPv4 header, and the ports of TCP and UDP.
const FRONT: usize = 14 + 20 + 4;

/// Ingress of a pod's host-side veth, and of the uplink.
#[classifier]
pub fn fib_helper(ctx: TcContext) -> i32 {
    forward(&ctx).unwrap_or(NEXT)
}

/// What the program answers; `None`: the packet is the kernel's, untouched.
#[inline(always)]
fn forward(ctx: &TcContext) -> Option<i32> {
    // SAFETY: the kernel passes a valid context.
    let (protocol, is_tagged, ifindex, gso_size) = unsafe {
        let skb = &*ctx.skb.skb;
        (
            skb.protocol,
            skb.vlan_present != 0,
            skb.ifindex,
            skb.gso_size,
        )
    };
    if protocol != IPV4 || is_tagged {
        return None;
    }
    route(ctx.skb.skb.cast(), &front(ctx)?, ifindex, gso_size != 0)
}

/// Ingress of an uplink, in XDP.
#[xdp]
pub fn fib_helper_xdp(ctx: XdpContext) -> u32 {
    forward_xdp(&ctx).map_or(XDP_PASS, i32::cast_unsigned)
}

/// Likewise.
#[inline(always)]
fn forward_xdp(ctx: &XdpContext) -> Option<i32> {
    let frame = xdp_front::<FRONT>(ctx)?;
    // A tagged frame has another type.
    if u32::from(frame.load_u16::<12>()) != IPV4 {
        return None;
    }
    // SAFETY: the kernel passes a valid context.
    let ifindex = unsafe { (*ctx.ctx).ingress_ifindex };
    route(ctx.ctx.cast(), &frame, ifindex, false)
}

/// A packet's way out, if the FIB has one: then it is rewritten, and this is the program's answer.
#[inline(always)]
fn route(ctx: *mut c_void, frame: &Bytes<FRONT>, ifindex: u32, is_train: bool) -> Option<i32> {
    if !is_to_be_routed(frame, ifindex) || !is_plain(frame) {
        return None;
    }
    let mut question = Question(MaybeUninit::uninit());
    question.fill(frame, ifindex, is_train);
    if !question.ask(ctx) {
        return None;
    }
    question.rewrite(frame);
    if let Some(redirected) = REDIRECTED.get_ptr_mut(0) {
        // SAFETY: this CPU's own entry.
        unsafe { *redirected = (*redirected).wrapping_add(1) }
    }
    // SAFETY: a helper without pointers.
    Some(unsafe { helpers::bpf_redirect(question.ifindex(), 0) as i32 })
}

/// Not what a bridge would forward to another of its ports, or a group's.
#[inline(always)]
fn is_to_be_routed(frame: &Bytes<FRONT>, ifindex: u32) -> bool {
    // SAFETY: read at once, and never written while packets pass.
    let Some(routed) = (unsafe { ROUTED.get(ifindex) }) else {
        return false;
    };
    let [a, b, c, d, e, f] = routed.mac;
    frame.load_u32::<0>() == u32::from_ne_bytes([a, b, c, d])
        && frame.load_u16::<4>() == u16::from_ne_bytes([e, f])
}

/// Neither a fragment nor with options, and its TTL does not end here.
#[inline(always)]
fn is_plain(frame: &Bytes<FRONT>) -> bool {
    frame.load_u8::<14>() == VERSION_AND_IHL
        && u16::from_be(frame.load_u16::<20>()) & FRAGMENT == 0
        && frame.load_u8::<22>() > 1
}

/// `struct bpf_fib_lookup` (include/uapi/linux/bpf.h) in words, as they stand in memory: the compiler would read the
/// structure byte by byte, for the sake of the MACs in it, and have its zeros filled in by a call.
struct Question(MaybeUninit<[u64; WORDS]>);

const WORDS: usize = size_of::<bpf_fib_lookup>() / 8;

impl Question {
    /// In its place: moved it would be copied.
    #[inline(always)]
    fn fill(&mut self, frame: &Bytes<FRONT>, ifindex: u32, is_train: bool) {
        let protocol = frame.load_u8::<23>();
        let (src_port, dst_port) = match protocol {
            PROTOCOL_TCP | PROTOCOL_UDP => (frame.load_u16::<34>(), frame.load_u16::<36>()),
            _ => (0, 0),
        };
        let total_len = if is_train {
            0
        } else {
            u16::from_be(frame.load_u16::<16>())
        };
        let tos = frame.load_u8::<15>();
        let words = [
            u64::from(AF_INET)
                | u64::from(protocol) << 8
                | u64::from(src_port) << 16
                | u64::from(dst_port) << 32
                | u64::from(total_len) << 48,
            u64::from(ifindex) | u64::from(tos) << 32,
            // The source, and the destination: each in room for an IPv6 address.
            frame.load_u32::<26>().into(),
            0,
            frame.load_u32::<30>().into(),
            0,
            // No table by number; and room for the MACs.
            0,
            0,
        ];
        for (at, word) in words.into_iter().enumerate() {
            // SAFETY: the question is as many words long.
            unsafe {
                self.0
                    .as_mut_ptr()
                    .cast::<u64>()
                    .add(at)
                    .write_volatile(word)
            }
        }
    }

    /// After it was filled.
    #[inline(always)]
    fn word<const AT: usize>(&self) -> u64 {
        const { assert!(AT < WORDS) }
        // SAFETY: one of its words.
        unsafe { self.0.as_ptr().cast::<u64>().add(AT).read_volatile() }
    }

    /// Asks the FIB. False: no answer that a packet could be sent by.
    #[inline(always)]
    fn ask(&mut self, ctx: *mut c_void) -> bool {
        let question = self.0.as_mut_ptr().cast();
        let size = size_of::<bpf_fib_lookup>() as i32;
        // SAFETY: a helper on our own context; the question is as long as is said.
        let answer = unsafe { helpers::bpf_fib_lookup(ctx, question, size, 0) };
        answer == i64::from(BPF_FIB_LKUP_RET_SUCCESS)
    }

    /// The device of the way out.
    #[inline(always)]
    fn ifindex(&self) -> u32 {
        self.word::<1>() as u32
    }

    /// What a router does to a packet: MACs, TTL, header checksum.
    #[inline(always)]
    fn rewrite(&self, frame: &Bytes<FRONT>) {
        // The answer ends in the source's six bytes and the destination's.
        let (before_last, last) = (self.word::<6>(), self.word::<7>());
        frame.store_u32::<0>((last >> 16) as u32);
        frame.store_u16::<4>((last >> 48) as u16);
        frame.store_u32::<6>((before_last >> 32) as u32);
        frame.store_u16::<10>(last as u16);
        frame.store_u8::<22>(frame.load_u8::<22>().wrapping_sub(1));
        let sum = checksum::after_ttl_decrement(frame.load_u16::<24>().to_ne_bytes());
        frame.store_u16::<24>(u16::from_ne_bytes(sum));
    }
}
