//! What differs between the address families; everything else is written once, over this trait.

use aya_ebpf::btf_maps::lpm_trie::Key;
use underpass_common::{
    addr::Address,
    checksum,
    endpoint::Endpoint,
    flow::{Flow, FlowKey},
    route::Route,
    settings::Settings,
    verdict::Verdict,
};

use crate::{
    maps,
    packet::{ETHERNET, Frame, OutOfBounds},
};

/// The part of an IP header that Underpass looks at.
pub struct Header<A> {
    pub src: A,
    pub dst: A,
    /// TTL or hop limit.
    pub hops: u8,
    /// IP protocol number of what follows.
    pub protocol: u8,
    /// Bytes from the first of this header to the last of the packet.
    pub total_len: u32,
}

/// An address family: its header and its maps.
pub trait Family {
    type Addr: Address;
    /// EtherType.
    const ETHERTYPE: u16;
    /// Length of the IP header; longer ones are the kernel's.
    const HEADER: usize;
    /// ICMP's number in this family.
    const ICMP: u8;

    /// Reads and checks the IP header; `Err` says why it is the kernel's.
    fn header(frame: &Frame) -> Result<Header<Self::Addr>, Verdict>;
    /// Takes one off the TTL or hop limit, and does what the header's checksum needs.
    fn decrement_hops(frame: &Frame) -> Result<(), OutOfBounds>;

    fn route(dst: Self::Addr) -> Option<&'static Route>;
    fn endpoint(pod: &Self::Addr) -> Option<&'static Endpoint>;
    fn learn_endpoint(pod: &Self::Addr, endpoint: &Endpoint) -> Result<(), i32>;
    fn flow(key: &FlowKey<Self::Addr>) -> Option<*mut Flow>;
    fn new_flow(key: &FlowKey<Self::Addr>, flow: &Flow) -> Result<(), i32>;
    /// True where `address` lies in one of this node's own podCIDRs.
    fn is_own(settings: &Settings, address: &Self::Addr) -> bool;
}

/// IPv4 (RFC 791).
pub struct V4;

/// More fragments (0x2000) and the fragment offset (0x1fff) of the header's flags field.
const FRAGMENT: u16 = 0x3fff;
/// Version 4, header of five words.
const VERSION_AND_IHL: u8 = 0x45;
/// "Only if there is none yet", for `bpf_map_update_elem`.
const BPF_NOEXIST: u64 = 1;

impl Family for V4 {
    type Addr = [u8; 4];
    const ETHERTYPE: u16 = 0x0800;
    const HEADER: usize = 20;
    const ICMP: u8 = underpass_common::flow::PROTOCOL_ICMP;

    #[inline(always)]
    fn header(frame: &Frame) -> Result<Header<Self::Addr>, Verdict> {
        let words: [u32; 5] = frame.read(ETHERNET).map_err(|_| Verdict::Malformed)?;
        let [version_and_ihl, _tos, len_high, len_low] = words[0].to_ne_bytes();
        if version_and_ihl != VERSION_AND_IHL {
            return Err(match version_and_ihl >> 4 {
                4 if version_and_ihl & 0xf > 5 => Verdict::IpOptions,
                _ => Verdict::Malformed,
            });
        }
        let [_, _, flags_high, flags_low] = words[1].to_ne_bytes();
        if u16::from_be_bytes([flags_high, flags_low]) & FRAGMENT != 0 {
            return Err(Verdict::Fragment);
        }
        if !checksum::ipv4_header_is_valid(&words) {
            return Err(Verdict::Malformed);
        }
        let [hops, protocol, _, _] = words[2].to_ne_bytes();
        Ok(Header {
            src: words[3].to_ne_bytes(),
            dst: words[4].to_ne_bytes(),
            hops,
            protocol,
            total_len: u32::from(u16::from_be_bytes([len_high, len_low])),
        })
    }

    #[inline(always)]
    fn decrement_hops(frame: &Frame) -> Result<(), OutOfBounds> {
        const TTL: usize = ETHERNET + 8;
        const CHECKSUM: usize = ETHERNET + 10;
        let ttl: u8 = frame.read(TTL)?;
        let sum: u16 = frame.read(CHECKSUM)?;
        let sum = checksum::after_ttl_decrement(sum.to_ne_bytes());
        frame.write(TTL, ttl.wrapping_sub(1))?;
        frame.write(CHECKSUM, u16::from_ne_bytes(sum))
    }

    #[inline(always)]
    fn route(dst: Self::Addr) -> Option<&'static Route> {
        maps::ROUTES_V4.get(&Key::new(32, dst))
    }

    #[inline(always)]
    fn endpoint(pod: &Self::Addr) -> Option<&'static Endpoint> {
        // SAFETY: read at once, field by field; a torn one fails the comparison it is read for.
        unsafe { maps::ENDPOINTS_V4.get(pod) }
    }

    #[inline(always)]
    fn learn_endpoint(pod: &Self::Addr, endpoint: &Endpoint) -> Result<(), i32> {
        maps::ENDPOINTS_V4.insert(pod, endpoint, 0)
    }

    #[inline(always)]
    fn flow(key: &FlowKey<Self::Addr>) -> Option<*mut Flow> {
        maps::FLOWS_V4.get_ptr_mut(key)
    }

    #[inline(always)]
    fn new_flow(key: &FlowKey<Self::Addr>, flow: &Flow) -> Result<(), i32> {
        maps::FLOWS_V4.insert(key, flow, BPF_NOEXIST)
    }

    #[inline(always)]
    fn is_own(settings: &Settings, address: &Self::Addr) -> bool {
        let len = settings.pod_cidrs_v4_len;
        let mut n = 0;
        while n < settings.pod_cidrs_v4.len() {
            if n < len as usize && settings.pod_cidrs_v4[n].contains(address) {
                return true;
            }
            n += 1;
        }
        false
    }
}
