//! What differs between the address families; everything else is written once, over this trait.

mod v4;
mod v6;

use aya_ebpf::bindings::bpf_fib_lookup;
use underpass_common::{
    addr::{Address, Block},
    flow::Flow,
    settings::{MAX_POD_CIDRS, Settings},
    verdict::Verdict,
};

use crate::{
    packet::{Buffer, ETHERNET, Frame, OutOfBounds},
    parse::Names,
    words::{Key, Tuple, WayOut},
};

pub use v4::V4;
pub use v6::V6;

/// Which family a packet is of.
#[derive(Clone, Copy)]
pub enum IpVersion {
    V4,
    V6,
}

/// What an IP header tells.
#[derive(Clone, Copy)]
pub struct Header<A> {
    pub src: A,
    pub dst: A,
    pub protocol: u8,
    /// TTL or hop limit.
    pub hops: u8,
    /// Bytes from the first of this header to the last of the packet.
    pub total_len: u32,
}

impl<A> Header<A> {
    /// With what the transport header adds.
    #[inline(always)]
    pub fn tuple(self, names: Names) -> Tuple<A> {
        Tuple {
            src: self.src,
            dst: self.dst,
            ports: names.ports,
            protocol: self.protocol,
            icmp_type: names.icmp_type,
        }
    }
}

/// An address family: its header and its maps.
pub trait Family {
    type Addr: Address + Default + AsRef<[u32]>;
    /// EtherType.
    const ETHERTYPE: u16;
    /// Length of the IP header; longer ones are the kernel's.
    const HEADER: usize;
    /// Where the header names the protocol behind it.
    const PROTOCOL: usize;
    /// ICMP's protocol number in this family.
    const ICMP: u8;
    const ECHO_REQUEST: u8;
    const ECHO_REPLY: u8;

    /// Reads and checks the IP header; `Err` says why the packet is the kernel's.
    fn header(frame: &Frame) -> Result<Header<Self::Addr>, Verdict>;
    /// The source address alone, of a header that nobody has looked at yet.
    fn source(frame: &Frame) -> Result<Self::Addr, OutOfBounds>;
    /// The destination address, likewise.
    fn destination(frame: &Frame) -> Result<Self::Addr, OutOfBounds>;
    /// Reads the IP header at `offset` that an ICMP error quotes. `None`: it is one that fast packets
    /// do not have.
    fn quoted(frame: &Frame, offset: usize) -> Option<Header<Self::Addr>>;
    /// True where there is an ICMP error behind the IP header, as far as two bytes of a packet that nobody has looked
    /// at yet tell.
    fn holds_error(frame: &Frame) -> bool {
        let header = frame.bytes::<1>(ETHERNET + Self::PROTOCOL);
        let message = frame.bytes::<1>(ETHERNET + Self::HEADER);
        match (header, message) {
            (Ok(protocol), Ok(message)) => {
                protocol.load_u8::<0>() == Self::ICMP && Self::is_error(message.load_u8::<0>())
            }
            _ => false,
        }
    }
    /// True for the ICMP types that report an error and quote the packet it is about.
    fn is_error(icmp_type: u8) -> bool;
    /// Takes one off the TTL or hop limit, and does what checksums need.
    fn decrement_hops<B: Buffer>(buffer: B, frame: &Frame) -> Result<(), OutOfBounds>;
    /// Sets the packet's priority as the kernel's forwarding does.
    fn set_priority<B: Buffer>(buffer: B, frame: &Frame) -> Result<(), OutOfBounds>;
    /// False for the addresses that no packet from elsewhere may come from.
    fn may_be_source(address: &Self::Addr) -> bool;
    /// The kernel's question for the way to `dst` of a packet from `src`.
    fn fib_question(src: &Self::Addr, dst: &Self::Addr) -> bpf_fib_lookup;

    fn route(dst: Self::Addr) -> Option<WayOut>;
    /// The way to the peer whose pod has this address; `None` also where packets to it are the kernel's.
    #[inline(always)]
    fn to_peer(dst: Self::Addr) -> Option<WayOut> {
        Self::route(dst).filter(|route| !route.is_kernels())
    }
    fn endpoint(pod: &Self::Addr) -> Option<WayOut>;
    fn learn_endpoint(pod: &Self::Addr, endpoint: &WayOut) -> Result<(), i32>;
    fn flow(key: &Key<Self::Addr>) -> Option<*mut Flow>;
    /// Fails where there is one already.
    fn new_flow(key: &Key<Self::Addr>, flow: &Flow) -> Result<(), i32>;
    /// True where `address` lies in one of this node's own podCIDRs.
    fn is_own(settings: &Settings, address: &Self::Addr) -> bool;
}

/// A family's maps, which differ in nothing but their names. They are declared with addresses as
/// bytes, which is how `bpftool` should show them.
macro_rules! tables {
    ($bytes:ty, $routes:ident, $endpoints:ident, $flows:ident) => {
        #[inline(always)]
        fn route(dst: Self::Addr) -> Option<WayOut> {
            let dst = core::ptr::from_ref(&dst).cast::<$bytes>();
            // SAFETY: the same bytes.
            let key = LpmKey::new(8 * size_of::<$bytes>() as u32, unsafe { *dst });
            maps::$routes.get(&key).map(words)
        }

        #[inline(always)]
        fn endpoint(pod: &Self::Addr) -> Option<WayOut> {
            let pod = core::ptr::from_ref(pod).cast::<$bytes>();
            // SAFETY: the same bytes. The entry is read at once, word by word; a torn one fails
            // the comparison it is read for.
            unsafe { maps::$endpoints.get(&*pod) }.map(words)
        }

        #[inline(always)]
        fn learn_endpoint(pod: &Self::Addr, endpoint: &WayOut) -> Result<(), i32> {
            let pod = core::ptr::from_ref(pod).cast::<$bytes>();
            let endpoint = core::ptr::from_ref(endpoint).cast::<Endpoint>();
            // SAFETY: the same bytes.
            unsafe { maps::$endpoints.insert(&*pod, &*endpoint, 0) }
        }

        #[inline(always)]
        fn flow(key: &Key<Self::Addr>) -> Option<*mut Flow> {
            let key = core::ptr::from_ref(key).cast::<FlowKey<$bytes>>();
            // SAFETY: the same bytes.
            maps::$flows.get_ptr_mut(unsafe { &*key })
        }

        #[inline(always)]
        fn new_flow(key: &Key<Self::Addr>, flow: &Flow) -> Result<(), i32> {
            let key = core::ptr::from_ref(key).cast::<FlowKey<$bytes>>();
            // SAFETY: the same bytes.
            maps::$flows.insert(unsafe { &*key }, flow, $crate::family::BPF_NOEXIST)
        }
    };
}
use tables;

/// A route's or an endpoint's entry, in words.
#[inline(always)]
fn words<T>(entry: &T) -> WayOut {
    const { assert!(size_of::<T>() == size_of::<WayOut>() && align_of::<T>() == align_of::<WayOut>()) }
    // SAFETY: the same bytes: asserted beside `WayOut`.
    unsafe { core::ptr::from_ref(entry).cast::<WayOut>().read() }
}

/// Own address blocks of the settings, in words.
#[inline(always)]
fn blocks<T, A>(of_bytes: &T) -> &[Block<A>; MAX_POD_CIDRS] {
    const { assert!(size_of::<T>() == size_of::<[Block<A>; MAX_POD_CIDRS]>()) }
    // SAFETY: the same bytes, at a multiple of four in a structure that is aligned to four.
    unsafe { &*core::ptr::from_ref(of_bytes).cast() }
}

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
