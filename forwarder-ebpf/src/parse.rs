//! From bytes to a packet that a flow can be named for.

use underpass_common::{
    addr::Mac,
    flow::{ICMP_ECHO_REPLY, ICMP_ECHO_REQUEST, PROTOCOL_TCP, PROTOCOL_UDP, Tuple},
    verdict::Verdict,
};

use crate::{
    family::Family,
    packet::{ETHERNET, Frame, OutOfBounds, Skb},
};

/// A packet, read once.
pub struct Packet<A> {
    pub dst_mac: Mac,
    pub src_mac: Mac,
    pub tuple: Tuple<A>,
    pub kind: Kind,
    /// TTL or hop limit.
    pub hops: u8,
    /// Length of the frame without what pads it.
    pub frame_len: u32,
    /// Bytes of IP and transport header: what each segment of a train repeats.
    pub headers_len: u32,
}

/// What a packet is to a flow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// UDP, ICMP echo.
    Datagram,
    /// TCP, with its flags.
    Tcp(TcpFlags),
    /// Another protocol: it has no flow that we could follow.
    Other,
}

/// The flags of a TCP header (RFC 9293).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TcpFlags(u8);

impl TcpFlags {
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

/// Reads a packet; `Err` says why it is the kernel's.
#[inline(always)]
pub fn parse<F: Family>(skb: &Skb) -> Result<Packet<F::Addr>, Verdict> {
    if skb.protocol() != u32::from(F::ETHERTYPE.to_be()) || skb.is_vlan_tagged() {
        return Err(Verdict::NotIp);
    }
    let frame = skb.frame(ETHERNET + F::HEADER + TCP_HEADER);
    let dst_mac = frame.read_mac(0)?;
    let src_mac = frame.read_mac(6)?;
    if dst_mac[0] & 1 != 0 {
        return Err(Verdict::NotForUs);
    }
    let header = F::header(&frame)?;
    let frame_len = header.total_len + ETHERNET as u32;
    // A single packet may be padded. A train of segments never is, and to cut its end off would make
    // one packet of it, larger than the way out takes.
    if frame_len > skb.len() || (frame_len < skb.len() && skb.gso_size() != 0) {
        return Err(Verdict::Malformed);
    }
    let transport = transport::<F>(&frame, header.protocol)?;
    let headers_len = F::HEADER as u32 + transport.len;
    if header.total_len < headers_len {
        return Err(Verdict::Malformed);
    }
    Ok(Packet {
        dst_mac,
        src_mac,
        tuple: Tuple {
            src: header.src,
            dst: header.dst,
            src_port: transport.src_port,
            dst_port: transport.dst_port,
            protocol: header.protocol,
            icmp_type: transport.icmp_type,
        },
        kind: transport.kind,
        hops: header.hops,
        frame_len,
        headers_len,
    })
}

/// The part of a transport header that names a flow.
struct Transport {
    kind: Kind,
    src_port: [u8; 2],
    dst_port: [u8; 2],
    icmp_type: u8,
    len: u32,
}

#[inline(always)]
fn transport<F: Family>(frame: &Frame, protocol: u8) -> Result<Transport, Verdict> {
    let start = ETHERNET + F::HEADER;
    if protocol == PROTOCOL_TCP {
        let [a, b, c, d] = frame.read::<u32>(start)?.to_ne_bytes();
        let [offset, flags] = frame.read::<u16>(start + 12)?.to_ne_bytes();
        let len = u32::from(offset >> 4) * 4;
        if len < TCP_HEADER as u32 {
            return Err(Verdict::Malformed);
        }
        return Ok(Transport {
            kind: Kind::Tcp(TcpFlags(flags)),
            src_port: [a, b],
            dst_port: [c, d],
            icmp_type: 0,
            len,
        });
    }
    if protocol == PROTOCOL_UDP {
        let [a, b, c, d] = frame.read::<u32>(start)?.to_ne_bytes();
        return Ok(Transport {
            kind: Kind::Datagram,
            src_port: [a, b],
            dst_port: [c, d],
            icmp_type: 0,
            len: 8,
        });
    }
    if protocol == F::ICMP {
        let [icmp_type, code, _, _] = frame.read::<u32>(start)?.to_ne_bytes();
        if (icmp_type == ICMP_ECHO_REQUEST || icmp_type == ICMP_ECHO_REPLY) && code == 0 {
            let identifier = frame.read::<u16>(start + 4)?.to_ne_bytes();
            return Ok(Transport {
                kind: Kind::Datagram,
                src_port: identifier,
                dst_port: identifier,
                icmp_type,
                len: 8,
            });
        }
    }
    Ok(Transport {
        kind: Kind::Other,
        src_port: [0; 2],
        dst_port: [0; 2],
        icmp_type: 0,
        len: 0,
    })
}
