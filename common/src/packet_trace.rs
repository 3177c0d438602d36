//! Tracing of single packets (`underpass agent --trace-packets`): what the programs are told before they are
//! loaded, and what they tell.

use crate::addr::Block;

/// Lines that each CPU may write within a second; packets beyond are counted as left out.
pub const LINES_PER_SECOND: u64 = 100;

/// Which packets are traced: the programs' global `PACKET_TRACE`. It is read-only data, so that the verifier knows
/// what it holds and leaves out of the programs what it switches off.
///
/// Addresses of IPv4 stand in their IPv4-mapped form (RFC 4291, section 2.5.5.2). What is to match any packet is
/// zeros.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// 0: no packet is traced.
    pub is_on: u8,
    /// IP protocol number; ICMP's stands for ICMPv6 too.
    pub protocol: u8,
    /// Number of the [`Hook`](crate::verdict::Hook), plus 1.
    pub hook: u8,
    /// Number of the [`Verdict`](crate::verdict::Verdict), plus 1.
    pub verdict: u8,
    /// 1: `port` counts.
    pub has_port: u8,
    /// Always 0.
    pub _pad: u8,
    /// Port at either end, or identifier of an ICMP echo.
    pub port: [u8; 2],
    /// The pod of this node.
    pub pod: Block<[u8; 16]>,
    /// The far end.
    pub remote: Block<[u8; 16]>,
    /// Either of them.
    pub address: Block<[u8; 16]>,
}

const _: () = assert!(size_of::<Filter>() == 8 + 3 * 32);

impl Filter {
    /// Traces nothing.
    pub const OFF: Self = {
        let any = Block {
            network: [0; 16],
            mask: [0; 16],
        };
        Self {
            is_on: 0,
            protocol: 0,
            hook: 0,
            verdict: 0,
            has_port: 0,
            _pad: 0,
            port: [0; 2],
            pod: any,
            remote: any,
            address: any,
        }
    };
}

/// What of a packet's headers could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Names {
    /// Not an IP packet, or one that ends before its addresses.
    Nothing = 0,
    /// Its addresses: a fragment, one with IP options or extension headers, or of another protocol.
    Addresses = 1,
    /// And its ports.
    Ports = 2,
    /// And, of an ICMP echo, the identifier, which stands in both ports.
    Identifier = 3,
}

impl Names {
    /// All of them, by their numbers.
    pub const ALL: [Self; 4] = [
        Self::Nothing,
        Self::Addresses,
        Self::Ports,
        Self::Identifier,
    ];
}

/// A traced packet, as the programs tell of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Source address, as in [`Filter`].
    pub src: [u8; 16],
    /// Destination address.
    pub dst: [u8; 16],
    /// Source port or identifier.
    pub src_port: [u8; 2],
    /// Destination port or identifier.
    pub dst_port: [u8; 2],
    /// Bytes, with the Ethernet header; of a segment train, all of it.
    pub len: u32,
    /// Interface index of the device whose hook it is.
    pub ifindex: u32,
    /// A [`Hook`](crate::verdict::Hook).
    pub hook: u8,
    /// A [`Verdict`](crate::verdict::Verdict).
    pub verdict: u8,
    /// IP protocol number.
    pub protocol: u8,
    /// A [`Names`].
    pub names: u8,
}

/// Bytes of a [`Record`].
pub const RECORD_SIZE: usize = 48;

const _: () = assert!(size_of::<Record>() == RECORD_SIZE);

/// The one entry of the map `traced`, of each CPU its own.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traced {
    /// When the second began in which the CPU writes its lines, in nanoseconds since boot.
    pub since_ns: u64,
    /// Lines written in it.
    pub lines: u64,
    /// Packets for which there were no lines left, or no room in the ring buffer; of all seconds.
    pub left_out: u64,
}

const _: () = assert!(size_of::<Traced>() == 24);
