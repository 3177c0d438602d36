//! Builds packets byte by byte, right in every field unless a row asks for a lie.
//!
//! ```ignore
//! udp().from(POD, 5000).to(FAR, 53).ttl(64).payload(b"hello")
//! ```

mod change;

use std::net::IpAddr;

use underpass_common::addr::Mac;
use underpass_common::flow::Tuple;

use crate::cast::{FAR, POD};
use crate::family::{Family, Twin};
use crate::ip::{Ip, Payload};
use crate::transport::Transport;

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;

pub const ETHERNET: usize = 14;
/// The shortest frame on a real wire, without its frame check sequence.
const SHORTEST_FRAME: usize = 60;

/// A frame in the making.
#[derive(Clone, Debug)]
pub struct Packet {
    macs: Option<(Mac, Mac)>,
    ethertype: u16,
    body: Body,
    is_padded: bool,
    trailing: usize,
    cut_at: Option<usize>,
}

#[derive(Clone, Debug)]
enum Body {
    Ip(Ip),
    Other(Vec<u8>),
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
    icmp(Family::V4.echo_request(), 0, id)
}

/// The answer to a ping, likewise.
pub fn echo_reply(id: u16) -> Packet {
    icmp(Family::V4.echo_reply(), 0, id)
}

/// ICMP of any type and code; the identifier stands where echo has it.
pub fn icmp(kind: u8, code: u8, id: u16) -> Packet {
    let family = Family::V4;
    ipv4(Transport::Icmp {
        family,
        kind,
        code,
        id,
    })
}

/// ICMPv6 of any type and code, from the pod to the peer's pod.
pub fn icmpv6(kind: u8, code: u8) -> Packet {
    let transport = Transport::Icmp {
        family: Family::V6,
        kind,
        code,
        id: 0,
    };
    // A message that IPv4 has, too, gives all the rest.
    echo_request(0).in_v6().ip(|ip| ip.transport = transport)
}

/// An error about this packet, from whom the packet was for to whom it came from.
pub fn error_about(packet: &Packet, kind: u8, code: u8) -> Packet {
    let tuple = packet.tuple().expect("an IP packet");
    let mut error = match Family::of(tuple.src) {
        Family::V4 => icmp(kind, code, 0),
        Family::V6 => icmpv6(kind, code),
    };
    error = error.ip(|ip| {
        (ip.src, ip.dst) = (tuple.dst, tuple.src);
        ip.payload = Payload::Quote(Box::new(packet.clone()), None);
    });
    error
}

/// IPv4 with a protocol that has no ports that we know.
pub fn protocol(number: u8) -> Packet {
    ipv4(Transport::Other(number))
}

/// A frame that is not IP.
pub fn frame(ethertype: u16, body: &[u8]) -> Packet {
    Packet {
        macs: None,
        ethertype,
        body: Body::Other(body.to_vec()),
        is_padded: false,
        trailing: 0,
        cut_at: None,
    }
}

fn ipv4(transport: Transport) -> Packet {
    Packet {
        body: Body::Ip(Ip::new(POD.into(), FAR.into(), transport)),
        ..frame(Family::V4.ethertype(), &[])
    }
}

/// `rt_tos2priority()` of the kernel's `include/net/route.h`, written down from `ip_tos2prio` in
/// `net/ipv4/route.c`: of the type of service count the four bits of RFC 1349.
pub fn priority_of(tos: u8) -> u32 {
    const BEST_EFFORT: u32 = 0;
    const BULK: u32 = 2;
    const INTERACTIVE_BULK: u32 = 4;
    const INTERACTIVE: u32 = 6;
    match tos & 0x1e {
        0x00..0x08 => BEST_EFFORT,
        0x08..0x10 => BULK,
        0x10..0x18 => INTERACTIVE,
        _ => INTERACTIVE_BULK,
    }
}

impl Packet {
    /// The same in IPv6; what is no IP packet is of no family.
    pub fn in_v6(&self) -> Self {
        let Body::Ip(ip) = &self.body else {
            return self.clone();
        };
        let longer = |len| match len {
            0..=ETHERNET => len,
            _ => len + Family::V6.header_len() - Family::V4.header_len(),
        };
        Self {
            ethertype: Family::V6.ethertype(),
            body: Body::Ip(ip.in_v6()),
            cut_at: self.cut_at.map(longer),
            ..self.clone()
        }
    }

    /// `None`: it is no IP packet.
    pub fn family(&self) -> Option<Family> {
        match &self.body {
            Body::Ip(ip) => Some(ip.family),
            Body::Other(_) => None,
        }
    }

    /// The destination MAC.
    pub fn dst_mac(&self) -> Mac {
        self.macs.expect("a frame has MACs").0
    }

    /// Addresses and ports, as a flow is named by.
    pub fn tuple(&self) -> Option<Tuple<IpAddr>> {
        let Body::Ip(ip) = &self.body else {
            return None;
        };
        let [src_port, dst_port] = ip.transport.ports();
        Some(Tuple {
            src: ip.src,
            dst: ip.dst,
            src_port: src_port.to_be_bytes(),
            dst_port: dst_port.to_be_bytes(),
            protocol: ip.transport.protocol(),
            icmp_type: ip.transport.echo_type(),
        })
    }

    /// What an ICMP error quotes.
    pub fn quoted(&self) -> Option<&Packet> {
        match &self.body {
            Body::Ip(Ip {
                payload: Payload::Quote(packet, _),
                ..
            }) => Some(packet),
            _ => None,
        }
    }

    /// What IPv4 forwarding makes of the type of service.
    pub fn forwarding_priority(&self) -> u32 {
        match &self.body {
            Body::Ip(ip) => priority_of(ip.tos),
            Body::Other(_) => panic!("not an IP packet"),
        }
    }

    /// Bytes of IP and transport header.
    pub fn headers_len(&self) -> usize {
        match &self.body {
            Body::Ip(ip) => ip.headers_len(),
            Body::Other(_) => panic!("not an IP packet"),
        }
    }

    /// What stands behind the Ethernet header, without padding.
    pub fn ip_bytes(&self) -> Vec<u8> {
        match &self.body {
            Body::Ip(ip) => ip.bytes(),
            Body::Other(bytes) => bytes.clone(),
        }
    }

    /// The frame.
    pub fn bytes(&self) -> Vec<u8> {
        let (dst, src) = self.macs.expect("a frame has MACs");
        let mut frame = [&dst[..], &src[..], &self.ethertype.to_be_bytes()[..]].concat();
        frame.extend(self.ip_bytes());
        let shortest = match (self.is_padded, self.family()) {
            (false, _) => 0,
            (true, Some(Family::V6)) => {
                SHORTEST_FRAME + Family::V6.header_len() - Family::V4.header_len()
            }
            (true, _) => SHORTEST_FRAME,
        };
        // Not zeros: padding must not reach anybody.
        let padded = shortest.max(frame.len() + self.trailing);
        frame.resize(padded, 0xaa);
        frame.truncate(self.cut_at.unwrap_or(frame.len()));
        frame
    }
}

impl Twin for Packet {
    /// Only of IPv4's.
    fn twin(&self) -> Self {
        assert_ne!(self.family(), Some(Family::V6), "{self:?} is a twin");
        self.in_v6()
    }
}
