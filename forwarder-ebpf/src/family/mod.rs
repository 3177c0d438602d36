//! What differs between the address families; everything else is written once, over this trait.

mod v4;
mod v6;

use aya_ebpf::bindings::bpf_fib_lookup;
use underpass_common::{
    addr::{Address, Block},
    endpoint::Endpoint,
    flow::{Flow, FlowKey, Tuple},
    route::Route,
    settings::Settings,
    verdict::Verdict,
};

use crate::packet::{Frame, OutOfBounds, Skb};

pub use v4::V4;
pub use v6::V6;

/// Which family a packet is of.
#[derive(Clone, Copy)]
pub enum IpVersion {
    V4,
    V6,
}

/// What an IP header tells besides addresses and protocol.
pub struct Header {
    /// TTL or hop limit.
    pub hops: u8,
    /// Bytes from the first of this header to the last of the packet.
    pub total_len: u32,
}

/// An address family: its header and its maps.
pub trait Family {
    type Addr: Address + Default;
    /// EtherType.
    const ETHERTYPE: u16;
    /// Length of the IP header; longer ones are the kernel's.
    const HEADER: usize;
    /// ICMP's protocol number in this family.
    const ICMP: u8;
    const ECHO_REQUEST: u8;
    const ECHO_REPLY: u8;

    /// Reads and checks the IP header, and puts its addresses and protocol into `tuple`; `Err` says
    /// why the packet is the kernel's.
    fn header(frame: &Frame, tuple: &mut Tuple<Self::Addr>) -> Result<Header, Verdict>;
    /// Puts into `tuple` the addresses and the protocol of an IP header at `offset` that an ICMP error
    /// quotes. `None`: it is one that fast packets do not have.
    fn quoted(frame: &Frame, offset: usize, tuple: &mut Tuple<Self::Addr>) -> Option<()>;
    /// True for the ICMP types that report an error and quote the packet it is about.
    fn is_error(icmp_type: u8) -> bool;
    /// Takes one off the TTL or hop limit, and does what checksums need.
    fn decrement_hops(skb: Skb, frame: &Frame) -> Result<(), OutOfBounds>;
    /// Sets the packet's priority as the kernel's forwarding does.
    fn set_priority(skb: Skb, frame: &Frame) -> Result<(), OutOfBounds>;
    /// False for the addresses that no packet from elsewhere may come from.
    fn may_be_source(address: &Self::Addr) -> bool;
    /// The kernel's question for the way to `dst` of a packet from `src`.
    fn fib_question(src: &Self::Addr, dst: &Self::Addr) -> bpf_fib_lookup;

    fn route(dst: Self::Addr) -> Option<&'static Route>;
    fn endpoint(pod: &Self::Addr) -> Option<&'static Endpoint>;
    fn learn_endpoint(pod: &Self::Addr, endpoint: &Endpoint) -> Result<(), i32>;
    fn flow(key: &FlowKey<Self::Addr>) -> Option<*mut Flow>;
    /// Fails where there is one already.
    fn new_flow(key: &FlowKey<Self::Addr>, flow: &Flow) -> Result<(), i32>;
    /// True where `address` lies in one of this node's own podCIDRs.
    fn is_own(settings: &Settings, address: &Self::Addr) -> bool;
}

/// A family's maps, which differ in nothing but their names. They are declared with addresses as
/// bytes, which is how `bpftool` should show them.
macro_rules! tables {
    ($bytes:ty, $routes:ident, $endpoints:ident, $flows:ident) => {
        #[inline(always)]
        fn route(dst: Self::Addr) -> Option<&'static Route> {
            let dst = core::ptr::from_ref(&dst).cast::<$bytes>();
            // SAFETY: the same bytes.
            let key = Key::new(8 * size_of::<$bytes>() as u32, unsafe { *dst });
            maps::$routes.get(&key)
        }

        #[inline(always)]
        fn endpoint(pod: &Self::Addr) -> Option<&'static Endpoint> {
            let pod = core::ptr::from_ref(pod).cast::<$bytes>();
            // SAFETY: the same bytes. The entry is read at once, field by field; a torn one fails
            // the comparison it is read for.
            unsafe { maps::$endpoints.get(&*pod) }
        }

        #[inline(always)]
        fn learn_endpoint(pod: &Self::Addr, endpoint: &Endpoint) -> Result<(), i32> {
            let pod = core::ptr::from_ref(pod).cast::<$bytes>();
            // SAFETY: the same bytes.
            maps::$endpoints.insert(unsafe { &*pod }, endpoint, 0)
        }

        #[inline(always)]
        fn flow(key: &FlowKey<Self::Addr>) -> Option<*mut Flow> {
            let key = core::ptr::from_ref(key).cast::<FlowKey<$bytes>>();
            // SAFETY: the same bytes.
            maps::$flows.get_ptr_mut(unsafe { &*key })
        }

        #[inline(always)]
        fn new_flow(key: &FlowKey<Self::Addr>, flow: &Flow) -> Result<(), i32> {
            let key = core::ptr::from_ref(key).cast::<FlowKey<$bytes>>();
            // SAFETY: the same bytes.
            maps::$flows.insert(unsafe { &*key }, flow, $crate::family::BPF_NOEXIST)
        }
    };
}
use tables;

/// "Only if there is none yet", for `bpf_map_update_elem`.
const BPF_NOEXIST: u64 = 1;

/// True where `address` lies in one of the first `len` blocks.
#[inline(always)]
fn is_in<A: Address, const N: usize>(blocks: &[Block<A>; N], len: u8, address: &A) -> bool {
    let mut n = 0;
    while n < N {
        if n < len as usize && blocks[n].contains(address) {
            return true;
        }
        n += 1;
    }
    false
}
