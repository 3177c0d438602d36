//! IPv4 (RFC 791).

use aya_ebpf::{bindings::bpf_fib_lookup, btf_maps::lpm_trie::Key as LpmKey};
use underpass_common::{
    checksum,
    endpoint::Endpoint,
    flow::{self, Flow, FlowKey},
    settings::Settings,
    verdict::Verdict,
};

use super::{Family, Header, blocks, is_in, tables, words};
use crate::{
    maps,
    packet::{Buffer, Bytes, ETHERNET, Frame, OutOfBounds, fib_question},
    words::{Key, WayOut},
};

/// IPv4.
pub struct V4;

/// More fragments (0x2000) and the fragment offset (0x1fff) of the header's flags field.
const FRAGMENT: u16 = 0x3fff;
/// Version 4, header of five words.
const VERSION_AND_IHL: u8 = 0x45;
const TOS: usize = 1;
const TTL: usize = 8;
const CHECKSUM: usize = 10;
/// `AF_INET`.
const AF_INET: u8 = 2;

impl Family for V4 {
    type Addr = [u32; 1];
    const ETHERTYPE: u16 = 0x0800;
    const HEADER: usize = 20;
    const PROTOCOL: usize = 9;
    const ICMP: u8 = flow::PROTOCOL_ICMP;
    const ECHO_REQUEST: u8 = flow::ICMP_ECHO_REQUEST;
    const ECHO_REPLY: u8 = flow::ICMP_ECHO_REPLY;

    #[inline(always)]
    fn header(frame: &Frame) -> Result<Header<Self::Addr>, Verdict> {
        let words = read_words(frame.bytes(ETHERNET)?);
        let [version_and_ihl, _tos, len_high, len_low] = words[0].to_ne_bytes();
        if version_and_ihl != VERSION_AND_IHL {
            return Err(match version_and_ihl >> 4 {
                4 if version_and_ihl & 0xf > 5 => Verdict::IpOptions,
                _ => Verdict::Malformed,
            });
        }
        if is_fragment(words[1]) {
            return Err(Verdict::Fragment);
        }
        if !checksum::ipv4_header_is_valid(&words) {
            return Err(Verdict::Malformed);
        }
        let [hops, protocol, _, _] = words[2].to_ne_bytes();
        Ok(Header {
            src: [words[3]],
            dst: [words[4]],
            protocol,
            hops,
            total_len: u32::from(u16::from_be_bytes([len_high, len_low])),
        })
    }

    #[inline(always)]
    fn source(frame: &Frame) -> Result<Self::Addr, OutOfBounds> {
        let header = frame.bytes::<{ Self::HEADER }>(ETHERNET)?;
        Ok([header.load_u32::<12>()])
    }

    #[inline(always)]
    fn destination(frame: &Frame) -> Result<Self::Addr, OutOfBounds> {
        let header = frame.bytes::<{ Self::HEADER }>(ETHERNET)?;
        Ok([header.load_u32::<16>()])
    }

    #[inline(always)]
    fn quoted(frame: &Frame, offset: usize) -> Option<Header<Self::Addr>> {
        let words = read_words(frame.bytes(offset).ok()?);
        let [version_and_ihl, _tos, len_high, len_low] = words[0].to_ne_bytes();
        if version_and_ihl != VERSION_AND_IHL || is_fragment(words[1]) {
            return None;
        }
        let [hops, protocol, _, _] = words[2].to_ne_bytes();
        Some(Header {
            src: [words[3]],
            dst: [words[4]],
            protocol,
            hops,
            total_len: u32::from(u16::from_be_bytes([len_high, len_low])),
        })
    }

    /// Destination unreachable, time exceeded, parameter problem (RFC 792). Redirect and source
    /// quench are for routers and hosts, and the kernel knows what to do with them.
    #[inline(always)]
    fn is_error(icmp_type: u8) -> bool {
        matches!(icmp_type, 3 | 11 | 12)
    }

    #[inline(always)]
    fn decrement_hops<B: Buffer>(_: B, frame: &Frame) -> Result<(), OutOfBounds> {
        let header = frame.bytes::<{ Self::HEADER }>(ETHERNET)?;
        let ttl = header.load_u8::<TTL>();
        header.store_u8::<TTL>(ttl.wrapping_sub(1));
        // Both changes together leave a sum over the whole packet (CHECKSUM_COMPLETE) as it was.
        let sum = header.load_u16::<CHECKSUM>().to_ne_bytes();
        let sum = checksum::after_ttl_decrement(sum);
        header.store_u16::<CHECKSUM>(u16::from_ne_bytes(sum));
        Ok(())
    }

    /// `rt_tos2priority()` of the kernel's `include/net/route.h`, as `ip_forward()` has it.
    #[inline(always)]
    fn set_priority<B: Buffer>(buffer: B, frame: &Frame) -> Result<(), OutOfBounds> {
        /// `ip_tos2prio` of `net/ipv4/route.c`, a hexadecimal digit for each class from the last to
        /// the first: interactive bulk 4, interactive 6, bulk 2, best effort 0.
        const PRIORITIES: u32 = 0x4620;
        let tos = frame.bytes::<{ Self::HEADER }>(ETHERNET)?.load_u8::<TOS>();
        let class = u32::from(tos >> 3 & 3);
        buffer.set_priority(PRIORITIES >> (4 * class) & 0xf);
        Ok(())
    }

    /// This network (0.0.0.0/8), loopback, multicast and what is reserved: the "martian sources" of
    /// `ip_route_input_slow()` in the kernel's `net/ipv4/route.c`, and class E.
    #[inline(always)]
    fn may_be_source(address: &Self::Addr) -> bool {
        let [first, ..] = address[0].to_ne_bytes();
        first != 0 && first != 127 && first < 224
    }

    #[inline(always)]
    fn fib_question(src: &Self::Addr, dst: &Self::Addr) -> bpf_fib_lookup {
        let mut question = fib_question(AF_INET);
        question.__bindgen_anon_3.ipv4_src = src[0];
        question.__bindgen_anon_4.ipv4_dst = dst[0];
        question
    }

    #[inline(always)]
    fn is_own(settings: &Settings, address: &Self::Addr) -> bool {
        is_in(
            blocks(&settings.pod_cidrs_v4),
            settings.pod_cidrs_v4_len,
            address,
        )
    }

    tables!([u8; 4], ROUTES_V4, ENDPOINTS_V4, FLOWS_V4);
}

/// Looks at the second word of a header.
#[inline(always)]
fn is_fragment(word: u32) -> bool {
    let [_, _, flags_high, flags_low] = word.to_ne_bytes();
    u16::from_be_bytes([flags_high, flags_low]) & FRAGMENT != 0
}

#[inline(always)]
fn read_words(header: Bytes<{ V4::HEADER }>) -> [u32; 5] {
    [
        header.load_u32::<0>(),
        header.load_u32::<4>(),
        header.load_u32::<8>(),
        header.load_u32::<12>(),
        header.load_u32::<16>(),
    ]
}
