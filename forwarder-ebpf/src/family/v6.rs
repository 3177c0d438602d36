//! IPv6 (RFC 8200).

use aya_ebpf::{bindings::bpf_fib_lookup, btf_maps::lpm_trie::Key as LpmKey};
use underpass_common::{
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

/// IPv6.
pub struct V6;

const VERSION: u8 = 6;
const HOP_LIMIT: usize = 7;
/// `AF_INET6`.
const AF_INET6: u8 = 10;

/// Protocol numbers that stand for an extension header (IANA, "IPv6 Extension Header Types"), but
/// for the fragment header and ESP, behind which nothing can be read.
mod extension {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const AUTHENTICATION: u8 = 51;
    pub const DESTINATION: u8 = 60;
    pub const MOBILITY: u8 = 135;
    pub const HIP: u8 = 139;
    pub const SHIM6: u8 = 140;
}

impl Family for V6 {
    type Addr = [u32; 4];
    const ETHERTYPE: u16 = 0x86dd;
    const HEADER: usize = 40;
    const PROTOCOL: usize = 6;
    const ICMP: u8 = flow::PROTOCOL_ICMPV6;
    const ECHO_REQUEST: u8 = flow::ICMPV6_ECHO_REQUEST;
    const ECHO_REPLY: u8 = flow::ICMPV6_ECHO_REPLY;

    #[inline(always)]
    fn header(frame: &Frame) -> Result<Header<Self::Addr>, Verdict> {
        let header = frame.bytes::<{ Self::HEADER }>(ETHERNET)?;
        let [len_high, len_low, protocol, hops] = header.load_u32::<4>().to_ne_bytes();
        if header.load_u8::<0>() >> 4 != VERSION {
            return Err(Verdict::Malformed);
        }
        match protocol {
            extension::FRAGMENT => return Err(Verdict::Fragment),
            extension::HOP_BY_HOP
            | extension::ROUTING
            | extension::AUTHENTICATION
            | extension::DESTINATION
            | extension::MOBILITY
            | extension::HIP
            | extension::SHIM6 => return Err(Verdict::IpOptions),
            _ => {}
        }
        let [src, dst] = read_addresses(header);
        Ok(Header {
            src,
            dst,
            protocol,
            hops,
            total_len: Self::HEADER as u32 + u32::from(u16::from_be_bytes([len_high, len_low])),
        })
    }

    #[inline(always)]
    fn source(frame: &Frame) -> Result<Self::Addr, OutOfBounds> {
        let header = frame.bytes::<{ Self::HEADER }>(ETHERNET)?;
        Ok([
            header.load_u32::<8>(),
            header.load_u32::<12>(),
            header.load_u32::<16>(),
            header.load_u32::<20>(),
        ])
    }

    #[inline(always)]
    fn destination(frame: &Frame) -> Result<Self::Addr, OutOfBounds> {
        let header = frame.bytes::<{ Self::HEADER }>(ETHERNET)?;
        Ok([
            header.load_u32::<24>(),
            header.load_u32::<28>(),
            header.load_u32::<32>(),
            header.load_u32::<36>(),
        ])
    }

    #[inline(always)]
    fn quoted(frame: &Frame, offset: usize) -> Option<Header<Self::Addr>> {
        let header = frame.bytes::<{ Self::HEADER }>(offset).ok()?;
        if header.load_u8::<0>() >> 4 != VERSION {
            return None;
        }
        let [len_high, len_low, protocol, hops] = header.load_u32::<4>().to_ne_bytes();
        let [src, dst] = read_addresses(header);
        Some(Header {
            src,
            dst,
            protocol,
            hops,
            total_len: Self::HEADER as u32 + u32::from(u16::from_be_bytes([len_high, len_low])),
        })
    }

    /// Destination unreachable, packet too big, time exceeded, parameter problem (RFC 4443).
    #[inline(always)]
    fn is_error(icmp_type: u8) -> bool {
        matches!(icmp_type, 1..=4)
    }

    #[inline(always)]
    fn decrement_hops<B: Buffer>(buffer: B, frame: &Frame) -> Result<(), OutOfBounds> {
        let header = frame.bytes::<{ Self::HEADER }>(ETHERNET)?;
        let hops = header.load_u8::<HOP_LIMIT>();
        header.store_u8::<HOP_LIMIT>(hops.wrapping_sub(1));
        // No checksum of the header's own makes up for it: where the NIC has summed the packet up
        // (CHECKSUM_COMPLETE) the sum must follow, or the receiver finds it wrong.
        buffer.add_to_sum(!u32::from(1u16.to_be()));
        Ok(())
    }

    /// `ip6_forward()` leaves it alone.
    #[inline(always)]
    fn set_priority<B: Buffer>(_: B, _: &Frame) -> Result<(), OutOfBounds> {
        Ok(())
    }

    /// Unspecified, loopback, multicast and link-local: what `ip6_rcv_core()` and `ip6_forward()` in
    /// the kernel's `net/ipv6` forward from nowhere.
    #[inline(always)]
    fn may_be_source(address: &Self::Addr) -> bool {
        let [first, second, _, _] = address[0].to_ne_bytes();
        let is_multicast = first == 0xff;
        let is_link_local = first == 0xfe && second & 0xc0 == 0x80;
        // ::/128 and ::1/128.
        let is_host = address[0] | address[1] | address[2] == 0 && u32::from_be(address[3]) <= 1;
        !is_host && !is_multicast && !is_link_local
    }

    #[inline(always)]
    fn fib_question(src: &Self::Addr, dst: &Self::Addr) -> bpf_fib_lookup {
        let mut question = fib_question(AF_INET6);
        question.__bindgen_anon_3.ipv6_src = *src;
        question.__bindgen_anon_4.ipv6_dst = *dst;
        question
    }

    #[inline(always)]
    fn is_own(settings: &Settings, address: &Self::Addr) -> bool {
        is_in(
            blocks(&settings.pod_cidrs_v6),
            settings.pod_cidrs_v6_len,
            address,
        )
    }

    tables!([u8; 16], ROUTES_V6, ENDPOINTS_V6, FLOWS_V6);
}

#[inline(always)]
fn read_addresses(header: Bytes<{ V6::HEADER }>) -> [[u32; 4]; 2] {
    let src = [
        header.load_u32::<8>(),
        header.load_u32::<12>(),
        header.load_u32::<16>(),
        header.load_u32::<20>(),
    ];
    let dst = [
        header.load_u32::<24>(),
        header.load_u32::<28>(),
        header.load_u32::<32>(),
        header.load_u32::<36>(),
    ];
    [src, dst]
}
