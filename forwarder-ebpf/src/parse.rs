//! From bytes to a packet that a flow can be named for.

use core::mem::MaybeUninit;

use underpass_common::{
    flow::{PROTOCOL_TCP, PROTOCOL_UDP},
    verdict::Verdict,
};

use crate::{
    family::Family,
    packet::{Buffer, ETHERNET, Frame, MacBytes, OutOfBounds},
    words::{Macs, Tuple},
};

/// A packet, read once.
pub struct Packet<A> {
    pub tuple: Tuple<A>,
    pub macs: Macs,
    /// TTL or hop limit.
    pub hops: u8,
    pub kind: Kind,
    /// None for what is not TCP.
    pub tcp_flags: TcpFlags,
    /// Length of the frame without what pads it.
    pub frame_len: u32,
    /// Bytes of IP and transport header: what each segment of a train repeats.
    pub headers_len: u32,
}

impl<A> Packet<A> {
    /// True for TCP that does not open a connection.
    #[inline(always)]
    pub fn is_mid_stream(&self) -> bool {
        self.kind == Kind::Tcp && !self.tcp_flags.is_syn()
    }
}

/// What a packet is to a flow.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Kind {
    /// UDP, ICMP echo.
    Datagram,
    /// TCP; the packet has its flags. A field of their own, for the verifier of kernels before 6.3 lets
    /// no program copy bytes that only some variants of an enum have.
    Tcp,
    /// An ICMP error: it follows the flow of the packet that it quotes.
    IcmpError,
    /// Other ICMP.
    Icmp,
    /// Another protocol: it has no flow that we could follow.
    #[default]
    Other,
}

impl Kind {
    /// Whether the packet's own tuple names a flow; `Err` says why it doesn't.
    #[inline(always)]
    pub fn names_flow(self) -> Result<(), Verdict> {
        match self {
            Self::Datagram | Self::Tcp => Ok(()),
            Self::IcmpError | Self::Icmp => Err(Verdict::Icmp),
            Self::Other => Err(Verdict::Protocol),
        }
    }
}

/// The flags of a TCP header (RFC 9293).
#[derive(Clone, Copy, Default)]
pub struct TcpFlags(u8);

impl TcpFlags {
    const NONE: Self = Self(0);
    const FIN: u8 = 0x01;
    const SYN: u8 = 0x02;
    const RST: u8 = 0x04;
    const ACK: u8 = 0x10;

    #[inline(always)]
    pub fn is_syn(self) -> bool {
        self.0 & Self::SYN != 0
    }

    #[inline(always)]
    pub fn is_ack(self) -> bool {
        self.0 & Self::ACK != 0
    }

    #[inline(always)]
    pub fn closes(self) -> bool {
        self.0 & (Self::FIN | Self::RST) != 0
    }
}

impl From<OutOfBounds> for Verdict {
    #[inline(always)]
    fn from(_: OutOfBounds) -> Self {
        Verdict::Malformed
    }
}

/// Longest transport header without options: TCP's.
const TCP_HEADER: usize = 20;
/// Length of the header that all ICMP messages have (RFC 792, RFC 4443).
pub const ICMP_HEADER: usize = 8;

/// Length of an IP header whose addresses take little of BPF's 512 bytes of stack: IPv4's.
const SHORT_HEADER: usize = 20;

/// Reads a packet into `place`; `Err` says why it is the kernel's.
#[inline(always)]
pub fn parse<F: Family, B: Buffer>(
    buffer: B,
    place: &mut MaybeUninit<Packet<F::Addr>>,
) -> Result<&Packet<F::Addr>, Verdict> {
    if F::HEADER <= SHORT_HEADER {
        read::<F, B>(buffer, place)?;
    } else {
        read_apart::<F, B>(buffer, place)?;
    }
    // SAFETY: written where `read` answers Ok. Zeros for a start would cost a loop over its bytes.
    Ok(unsafe { place.assume_init_ref() })
}

/// A function of its own with its result in the caller's hands: what it has on the stack is given
/// back. With the addresses of a short header there is room enough, and a call less.
#[inline(never)]
fn read_apart<F: Family, B: Buffer>(
    buffer: B,
    place: &mut MaybeUninit<Packet<F::Addr>>,
) -> Result<(), Verdict> {
    read::<F, B>(buffer, place)
}

#[inline(always)]
fn read<F: Family, B: Buffer>(
    buffer: B,
    place: &mut MaybeUninit<Packet<F::Addr>>,
) -> Result<(), Verdict> {
    let frame = buffer.frame(ETHERNET + F::HEADER + TCP_HEADER);
    let macs = frame.bytes::<12>(0).map(MacBytes::load)?;
    // A bridge drops what comes from a group's MAC or from none: br_handle_frame() in the kernel's
    // net/bridge/br_input.c.
    let src = macs.src();
    if macs.dst().is_group() || src.is_group() || src.is_none() {
        return Err(Verdict::NotForUs);
    }
    let header = F::header(&frame)?;
    let frame_len = header.total_len + ETHERNET as u32;
    // A single packet may be padded. A train of segments never is, and to cut its end off would make
    // one packet of it, larger than the way out takes.
    if frame_len > buffer.len() || (frame_len < buffer.len() && buffer.gso_size() != 0) {
        return Err(Verdict::Malformed);
    }
    let transport = transport::<F>(&frame, header.protocol)?;
    let headers_len = F::HEADER as u32 + transport.len;
    if header.total_len < headers_len {
        return Err(Verdict::Malformed);
    }
    place.write(Packet {
        tuple: header.tuple(transport.names),
        macs,
        hops: header.hops,
        kind: transport.kind,
        tcp_flags: transport.tcp_flags,
        frame_len,
        headers_len,
    });
    Ok(())
}

/// The part of a transport header that names a flow.
struct Transport {
    kind: Kind,
    tcp_flags: TcpFlags,
    names: Names,
    len: u32,
}

/// What the first eight bytes of a transport header add to a tuple.
#[derive(Clone, Copy)]
pub struct Names {
    /// See [`Tuple::ports`].
    pub ports: u32,
    pub icmp_type: u8,
}

impl Names {
    const NONE: Self = Self {
        ports: 0,
        icmp_type: 0,
    };

    /// Of TCP and UDP.
    #[inline(always)]
    pub fn of_ports(frame: &Frame, offset: usize) -> Result<Self, OutOfBounds> {
        Ok(Self {
            ports: frame.bytes::<4>(offset)?.load_u32::<0>(),
            icmp_type: 0,
        })
    }

    /// Of an ICMP echo; `None`: it is other ICMP.
    #[inline(always)]
    pub fn of_echo<F: Family>(frame: &Frame, offset: usize) -> Result<Option<Self>, OutOfBounds> {
        let header = frame.bytes::<ICMP_HEADER>(offset)?;
        let [icmp_type, code] = header.load_u16::<0>().to_ne_bytes();
        if (icmp_type != F::ECHO_REQUEST && icmp_type != F::ECHO_REPLY) || code != 0 {
            return Ok(None);
        }
        let identifier = u32::from(header.load_u16::<4>());
        Ok(Some(Self {
            ports: identifier | identifier << 16,
            icmp_type,
        }))
    }
}

#[inline(always)]
fn transport<F: Family>(frame: &Frame, protocol: u8) -> Result<Transport, Verdict> {
    let start = ETHERNET + F::HEADER;
    let mut tcp_flags = TcpFlags::NONE;
    let (kind, names, len) = if protocol == PROTOCOL_TCP {
        let names = Names::of_ports(frame, start)?;
        let [offset, flags] = frame.bytes::<2>(start + 12)?.load_u16::<0>().to_ne_bytes();
        let len = u32::from(offset >> 4) * 4;
        if len < TCP_HEADER as u32 {
            return Err(Verdict::Malformed);
        }
        tcp_flags = TcpFlags(flags);
        (Kind::Tcp, names, len)
    } else if protocol == PROTOCOL_UDP {
        (Kind::Datagram, Names::of_ports(frame, start)?, 8)
    } else if protocol == F::ICMP {
        match Names::of_echo::<F>(frame, start)? {
            Some(names) => (Kind::Datagram, names, 8),
            None if F::is_error(frame.bytes::<1>(start)?.load_u8::<0>()) => {
                (Kind::IcmpError, Names::NONE, ICMP_HEADER as u32)
            }
            None => (Kind::Icmp, Names::NONE, 0),
        }
    } else {
        (Kind::Other, Names::NONE, 0)
    };
    Ok(Transport {
        kind,
        tcp_flags,
        names,
        len,
    })
}
