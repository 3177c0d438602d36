//! Builds packets byte by byte, right in every field unless a row asks for a lie.
//!
//! ```ignore
//! udp().from(POD, 5000).to(FAR, 53).ttl(64).payload(b"hello")
//! ```

use std::net::IpAddr;

use underpass_common::addr::Mac;
use underpass_common::flow::{ICMP_ECHO_REPLY, ICMP_ECHO_REQUEST, Tuple};

use crate::cast::{FAR, POD};
use crate::transport::{Transport, internet_checksum};

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;

pub const ETHERNET: usize = 14;
/// The shortest frame on a real wire, without its frame check sequence.
pub const SHORTEST_FRAME: usize = 60;

/// Numbers that stand for a header between IPv6's own and the transport's.
const EXTENSIONS: [u8; 8] = [0, 43, 44, 51, 60, 135, 139, 140];
const IPV4: u16 = 0x0800;
const MORE_FRAGMENTS: u16 = 0x2000;
const DONT_FRAGMENT: u16 = 0x4000;

/// A frame in the making.
#[derive(Clone, Debug)]
pub struct Packet {
    macs: Option<(Mac, Mac)>,
    ethertype: u16,
    body: Body,
    pad_to: usize,
    trailing: usize,
    cut_at: Option<usize>,
}

#[derive(Clone, Debug)]
enum Body {
    V4(V4),
    Other(Vec<u8>),
}

#[derive(Clone, Debug)]
struct V4 {
    version: u8,
    header_words: Option<u8>,
    tos: u8,
    id: u16,
    total_len: Option<u16>,
    fragment: u16,
    ttl: u8,
    checksum: Checksum,
    src: [u8; 4],
    dst: [u8; 4],
    options: Vec<u8>,
    transport: Transport,
    payload: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Checksum {
    Right,
    OffBy(u16),
    Zero,
}

/// A datagram from the pod to the peer's pod.
pub fn udp() -> Packet {
    ipv4(Transport::Udp {
        ports: [40_000, 53],
        len: None,
    })
}

/// A TCP segment with these flags, likewise.
pub fn tcp(flags: u8) -> Packet {
    let options = Vec::new();
    ipv4(Transport::Tcp {
        ports: [40_000, 80],
        flags,
        options,
        offset: None,
    })
}

/// A ping with this identifier, likewise.
pub fn echo_request(id: u16) -> Packet {
    icmp(ICMP_ECHO_REQUEST, 0, id)
}

/// The answer to a ping, likewise.
pub fn echo_reply(id: u16) -> Packet {
    icmp(ICMP_ECHO_REPLY, 0, id)
}

/// ICMP of any type and code; the identifier stands where echo has it.
pub fn icmp(kind: u8, code: u8, id: u16) -> Packet {
    ipv4(Transport::Icmp { kind, code, id })
}

/// IPv4 with a protocol that has no ports that we know.
pub fn protocol(number: u8) -> Packet {
    ipv4(Transport::Other(number))
}

/// A frame that is not IPv4.
pub fn frame(ethertype: u16, body: &[u8]) -> Packet {
    Packet {
        macs: None,
        ethertype,
        body: Body::Other(body.to_vec()),
        pad_to: 0,
        trailing: 0,
        cut_at: None,
    }
}

fn ipv4(transport: Transport) -> Packet {
    let v4 = V4 {
        version: 4,
        header_words: None,
        tos: 0,
        id: 0x1d0f,
        total_len: None,
        fragment: DONT_FRAGMENT,
        ttl: 64,
        checksum: Checksum::Right,
        src: POD,
        dst: FAR,
        options: Vec::new(),
        transport,
        payload: b"below the route table".to_vec(),
    };
    Packet {
        ethertype: IPV4,
        body: Body::V4(v4),
        ..frame(IPV4, &[])
    }
}

impl Packet {
    fn v4(mut self, change: impl FnOnce(&mut V4)) -> Self {
        match &mut self.body {
            Body::V4(v4) => change(v4),
            Body::Other(_) => panic!("not an IPv4 packet"),
        }
        self
    }

    fn ports(self, change: impl FnOnce(&mut [u16; 2])) -> Self {
        self.v4(|v4| match &mut v4.transport {
            Transport::Udp { ports, .. } | Transport::Tcp { ports, .. } => change(ports),
            _ => panic!("no ports"),
        })
    }

    pub fn src(self, src: [u8; 4]) -> Self {
        self.v4(|v4| v4.src = src)
    }

    pub fn dst(self, dst: [u8; 4]) -> Self {
        self.v4(|v4| v4.dst = dst)
    }

    pub fn from(self, src: [u8; 4], port: u16) -> Self {
        self.src(src).ports(|ports| ports[0] = port)
    }

    pub fn to(self, dst: [u8; 4], port: u16) -> Self {
        self.dst(dst).ports(|ports| ports[1] = port)
    }

    /// The other way round: addresses and ports change places.
    pub fn back(self) -> Self {
        self.v4(|v4| {
            std::mem::swap(&mut v4.src, &mut v4.dst);
            if let Transport::Udp { ports, .. } | Transport::Tcp { ports, .. } = &mut v4.transport {
                ports.reverse();
            }
        })
    }

    pub fn ttl(self, ttl: u8) -> Self {
        self.v4(|v4| v4.ttl = ttl)
    }

    pub fn tos(self, tos: u8) -> Self {
        self.v4(|v4| v4.tos = tos)
    }

    pub fn payload(self, payload: &[u8]) -> Self {
        self.v4(|v4| v4.payload = payload.to_vec())
    }

    /// A payload that makes the IP packet `len` bytes long.
    pub fn ip_len(self, len: usize) -> Self {
        self.v4(|v4| {
            let headers = 20 + v4.options.len() + v4.transport.len();
            v4.payload = (0..len - headers).map(|n| n as u8).collect();
        })
    }

    /// IP options, a multiple of four bytes.
    pub fn options(self, options: &[u8]) -> Self {
        self.v4(|v4| v4.options = options.to_vec())
    }

    /// TCP options, a multiple of four bytes.
    pub fn tcp_options(self, bytes: &[u8]) -> Self {
        self.v4(|v4| match &mut v4.transport {
            Transport::Tcp { options, .. } => *options = bytes.to_vec(),
            _ => panic!("not TCP"),
        })
    }

    /// A fragment at `offset` (in units of eight bytes), the last one or not.
    pub fn fragment(self, offset: u16, more: bool) -> Self {
        self.v4(|v4| v4.fragment = offset | if more { MORE_FRAGMENTS } else { 0 })
    }

    pub fn may_be_fragmented(self) -> Self {
        self.fragment(0, false)
    }

    pub fn version(self, version: u8) -> Self {
        self.v4(|v4| v4.version = version)
    }

    /// The header's length as the header says it, in words.
    pub fn header_words(self, words: u8) -> Self {
        self.v4(|v4| v4.header_words = Some(words))
    }

    /// The packet's length as the IP header says it.
    pub fn total_len(self, len: u16) -> Self {
        self.v4(|v4| v4.total_len = Some(len))
    }

    /// A header checksum that is off by so much.
    pub fn checksum_error(self, error: u16) -> Self {
        self.v4(|v4| v4.checksum = Checksum::OffBy(error))
    }

    /// An identification that makes the right header checksum this one.
    pub fn right_checksum(self, wanted: u16) -> Self {
        self.v4(|v4| {
            v4.id = 0;
            let without = u16::from_be_bytes([v4.bytes()[10], v4.bytes()[11]]);
            // Ones' complement arithmetic: what is to be added to the sum (RFC 1071).
            v4.id = internet_checksum(&[(!without).to_be_bytes(), wanted.to_be_bytes()].concat());
        })
    }

    /// A header whose checksum nobody has computed.
    pub fn no_checksum(self) -> Self {
        self.v4(|v4| v4.checksum = Checksum::Zero)
    }

    /// The header's length as the TCP header says it, in words.
    pub fn data_offset(self, words: u8) -> Self {
        self.v4(|v4| match &mut v4.transport {
            Transport::Tcp { offset, .. } => *offset = Some(words),
            _ => panic!("not TCP"),
        })
    }

    pub fn macs(mut self, dst: Mac, src: Mac) -> Self {
        self.macs = Some((dst, src));
        self
    }

    /// The same MACs, where none were asked for.
    pub fn or_macs(mut self, macs: (Mac, Mac)) -> Self {
        self.macs.get_or_insert(macs);
        self
    }

    /// Filled up to the shortest frame, as a network card does.
    pub fn padded(mut self) -> Self {
        self.pad_to = SHORTEST_FRAME;
        self
    }

    /// So many bytes more than the packet has.
    pub fn trailing(mut self, bytes: usize) -> Self {
        self.trailing = bytes;
        self
    }

    /// The first `len` bytes of the frame.
    pub fn cut_at(mut self, len: usize) -> Self {
        self.cut_at = Some(len);
        self
    }

    /// What a router makes of it: other MACs, one less on the TTL, no padding, and the checksum
    /// computed anew over the whole header.
    pub fn routed(self, dst: Mac, src: Mac) -> Self {
        let mut routed = self.macs(dst, src).v4(|v4| v4.ttl -= 1);
        (routed.pad_to, routed.trailing) = (0, 0);
        routed
    }

    /// The destination MAC.
    pub fn dst_mac(&self) -> Mac {
        self.macs.expect("a frame has MACs").0
    }

    /// Addresses and ports, as a flow is named by.
    pub fn tuple(&self) -> Option<Tuple<IpAddr>> {
        let Body::V4(v4) = &self.body else {
            return None;
        };
        let [src_port, dst_port] = v4.transport.ports();
        Some(Tuple {
            src: v4.src.into(),
            dst: v4.dst.into(),
            src_port: src_port.to_be_bytes(),
            dst_port: dst_port.to_be_bytes(),
            protocol: v4.transport.protocol(),
            icmp_type: v4.transport.echo_type(),
        })
    }

    /// True where IPv6 has the same packet: nothing in it that IPv4 alone has, or that lies.
    pub fn has_twin(&self) -> bool {
        let Body::V4(v4) = &self.body else {
            return false;
        };
        let is_known = match v4.transport {
            Transport::Udp { len, .. } => len.is_none(),
            Transport::Tcp { offset, .. } => offset.is_none(),
            Transport::Icmp { .. } => v4.transport.echo_type() != 0 || self.is_echo_reply(),
            Transport::Other(number) => !EXTENSIONS.contains(&number),
        };
        let is_plain = v4.version == 4
            && v4.header_words.is_none()
            && v4.total_len.is_none()
            && v4.options.is_empty()
            && v4.fragment & !DONT_FRAGMENT == 0
            && matches!(v4.checksum, Checksum::Right);
        is_known && is_plain && self.cut_at.is_none()
    }

    fn is_echo_reply(&self) -> bool {
        let Body::V4(v4) = &self.body else {
            return false;
        };
        matches!(
            v4.transport,
            Transport::Icmp {
                kind: ICMP_ECHO_REPLY,
                code: 0,
                ..
            }
        )
    }

    /// The frame.
    pub fn bytes(&self) -> Vec<u8> {
        let (dst, src) = self.macs.expect("a frame has MACs");
        let mut frame = [&dst[..], &src[..], &self.ethertype.to_be_bytes()[..]].concat();
        match &self.body {
            Body::V4(v4) => frame.extend(v4.bytes()),
            Body::Other(bytes) => frame.extend(bytes),
        }
        // Not zeros: padding must not reach anybody.
        let padded = self.pad_to.max(frame.len() + self.trailing);
        frame.resize(padded, 0xaa);
        frame.truncate(self.cut_at.unwrap_or(frame.len()));
        frame
    }
}

impl V4 {
    fn bytes(&self) -> Vec<u8> {
        let transport = self.transport.bytes(self.src, self.dst, &self.payload);
        let header_len = 20 + self.options.len();
        let total_len = self
            .total_len
            .unwrap_or((header_len + transport.len()) as u16);
        let words = self.header_words.unwrap_or((header_len / 4) as u8);
        let mut header = vec![self.version << 4 | words, self.tos];
        header.extend(total_len.to_be_bytes());
        header.extend(self.id.to_be_bytes());
        header.extend(self.fragment.to_be_bytes());
        header.extend([self.ttl, self.transport.protocol(), 0, 0]);
        header.extend(self.src);
        header.extend(self.dst);
        header.extend(&self.options);
        let right = internet_checksum(&header);
        let checksum = match self.checksum {
            Checksum::Right => right,
            Checksum::OffBy(error) => right.wrapping_add(error),
            Checksum::Zero => 0,
        };
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        header.extend(transport);
        header
    }
}
