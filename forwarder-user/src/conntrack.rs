//! What must be told to connection tracking before it may be strict again.
//!
//! Of a connection that went fast it has seen little: its packets are far outside the window that
//! it knows, which `nf_conntrack_tcp_be_liberal` has made it overlook. Every connection has a flag
//! that says the same of this one alone, and as the kernel's own flow table does when it gives a
//! connection back, we set it.

use std::io;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable as _, NLA_F_NESTED, NLA_HEADER_SIZE, NLM_F_ACK, NLM_F_DUMP,
    NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable, NlasIterator,
};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use underpass_common::flow::{PROTOCOL_TCP, Tuple};

/// From the kernel's include/uapi/linux/netfilter/nfnetlink_conntrack.h.
mod uapi {
    pub const NEW: u16 = (libc::NFNL_SUBSYS_CTNETLINK as u16) << 8;
    pub const GET: u16 = NEW | 1;
    pub const TUPLE_ORIG: u16 = 1;
    pub const TUPLE_REPLY: u16 = 2;
    pub const PROTOINFO: u16 = 4;
    pub const ZONE: u16 = 18;
    pub const TUPLE_IP: u16 = 1;
    pub const TUPLE_PROTO: u16 = 2;
    pub const IP_V4_SRC: u16 = 1;
    pub const IP_V4_DST: u16 = 2;
    pub const IP_V6_SRC: u16 = 3;
    pub const IP_V6_DST: u16 = 4;
    pub const PROTO_NUM: u16 = 1;
    pub const PROTO_SRC_PORT: u16 = 2;
    pub const PROTO_DST_PORT: u16 = 3;
    pub const PROTOINFO_TCP: u16 = 1;
    pub const TCP_FLAGS_ORIGINAL: u16 = 4;
    pub const TCP_FLAGS_REPLY: u16 = 5;
    /// `IP_CT_TCP_FLAG_BE_LIBERAL` of nf_conntrack_tcp.h.
    pub const BE_LIBERAL: u8 = 0x08;
}

/// Has connection tracking be liberal, to its end, with every TCP connection that may have been
/// fast: those that a pod has a part in, and that nobody translates. Tells how many they are.
///
/// # Errors
/// Where the kernel does not show its connections, or refuses (it needs `CAP_NET_ADMIN`).
pub fn be_liberal_with(pods: &[IpNet]) -> Result<usize> {
    let connections = tracked().context("cannot read the connections that conntrack knows")?;
    let ours = connections
        .iter()
        .filter(|connection| connection.may_have_been_fast(pods));
    let mut socket = Netfilter::connect()?;
    let mut told = 0;
    for connection in ours {
        match socket.ask(connection.be_liberal(), NLM_F_ACK, |_| {}) {
            Ok(()) => told += 1,
            // It has ended meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => {
                return Err(error).context("cannot have conntrack be liberal with a connection");
            }
        }
    }
    Ok(told)
}

fn tracked() -> Result<Vec<Connection>> {
    let mut connections = Vec::new();
    let everything = Message {
        kind: uapi::GET,
        family: libc::AF_UNSPEC as u8,
        attributes: Vec::new(),
    };
    Netfilter::connect()?.ask(everything, NLM_F_DUMP, |message| {
        connections.extend(Connection::read(&message.attributes));
    })?;
    Ok(connections)
}

/// An entry of the connection tracking table.
struct Connection {
    original: Tuple<IpAddr>,
    reply: Tuple<IpAddr>,
    /// How to name it to the kernel: the attributes that tell it from all others.
    name: Vec<DefaultNla>,
}

impl Connection {
    fn read(attributes: &[u8]) -> Option<Self> {
        let original = attribute(attributes, uapi::TUPLE_ORIG)?;
        let tuple = DefaultNla::new(uapi::TUPLE_ORIG | NLA_F_NESTED, original.to_vec());
        let zone = attribute(attributes, uapi::ZONE);
        let zone = zone.map(|zone| DefaultNla::new(uapi::ZONE, zone.to_vec()));
        Some(Self {
            original: read_tuple(original)?,
            reply: read_tuple(attribute(attributes, uapi::TUPLE_REPLY)?)?,
            name: [tuple].into_iter().chain(zone).collect(),
        })
    }

    fn may_have_been_fast(&self, pods: &[IpNet]) -> bool {
        let Tuple { src, dst, .. } = self.original;
        let is_pod = |address: IpAddr| pods.iter().any(|cidr| cidr.contains(&address));
        self.original.protocol == PROTOCOL_TCP
            && self.reply == self.original.answer()
            && (is_pod(src) || is_pod(dst))
    }

    fn be_liberal(&self) -> Message {
        // `struct nf_ct_tcp_flags`: the flags, and which of them are meant.
        let flags = vec![uapi::BE_LIBERAL; 2];
        let tcp = [uapi::TCP_FLAGS_ORIGINAL, uapi::TCP_FLAGS_REPLY]
            .map(|direction| DefaultNla::new(direction, flags.clone()));
        let tcp = DefaultNla::new(uapi::PROTOINFO_TCP | NLA_F_NESTED, emit(&tcp));
        let mut attributes = self.name.clone();
        attributes.push(DefaultNla::new(
            uapi::PROTOINFO | NLA_F_NESTED,
            emit(&[tcp]),
        ));
        Message {
            kind: uapi::NEW,
            family: match self.original.src {
                IpAddr::V4(_) => libc::AF_INET as u8,
                IpAddr::V6(_) => libc::AF_INET6 as u8,
            },
            attributes: emit(&attributes),
        }
    }
}

/// One direction's addresses and ports. `None`: of another kind, as an ICMP echo's, which has no ports.
fn read_tuple(tuple: &[u8]) -> Option<Tuple<IpAddr>> {
    let ip = attribute(tuple, uapi::TUPLE_IP)?;
    let transport = attribute(tuple, uapi::TUPLE_PROTO)?;
    let address = |v4, v6| address(attribute(ip, v4).or_else(|| attribute(ip, v6))?);
    let port = |kind| attribute(transport, kind)?.try_into().ok();
    Some(Tuple {
        src: address(uapi::IP_V4_SRC, uapi::IP_V6_SRC)?,
        dst: address(uapi::IP_V4_DST, uapi::IP_V6_DST)?,
        src_port: port(uapi::PROTO_SRC_PORT)?,
        dst_port: port(uapi::PROTO_DST_PORT)?,
        protocol: *attribute(transport, uapi::PROTO_NUM)?.first()?,
        icmp_type: 0,
    })
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

/// The value of the first attribute of this kind.
fn attribute(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    let mut all = NlasIterator::new(attributes).flatten();
    let found = all.find(|attribute| attribute.kind() == kind)?;
    let length = found.length().into();
    found.into_inner().get(NLA_HEADER_SIZE..length)
}

fn emit(attributes: &[DefaultNla]) -> Vec<u8> {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    bytes
}

/// A message of netfilter's connection tracking.
#[derive(Debug)]
struct Message {
    kind: u16,
    /// `AF_INET`, `AF_INET6`, or `AF_UNSPEC` for both.
    family: u8,
    attributes: Vec<u8>,
}

/// Length of `struct nfgenmsg`: family, version 0, resource 0.
const HEADER: usize = 4;

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        HEADER + self.attributes.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let (header, attributes) = buffer.split_at_mut(HEADER);
        header.copy_from_slice(&[self.family, 0, 0, 0]);
        attributes.copy_from_slice(&self.attributes);
    }
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let attributes = payload.get(HEADER..).unwrap_or_default();
        Ok(Self {
            kind: header.message_type,
            family: payload.first().copied().unwrap_or_default(),
            attributes: attributes.to_vec(),
        })
    }
}

/// A connection to the kernel's netfilter.
struct Netfilter {
    socket: Socket,
}

impl Netfilter {
    fn connect() -> Result<Self> {
        let connect = || {
            let mut socket = Socket::new(NETLINK_NETFILTER)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            io::Result::Ok(Self { socket })
        };
        connect().context("cannot talk to the kernel's netfilter by netlink")
    }

    /// Sends a request, and hands over all that is answered.
    fn ask(
        &mut self,
        message: Message,
        flags: u16,
        mut answered: impl FnMut(Message),
    ) -> io::Result<()> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let answer = NetlinkMessage::<Message>::deserialize(rest)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                let length = (answer.header.length as usize).next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
                match answer.payload {
                    NetlinkPayload::InnerMessage(message) => answered(message),
                    NetlinkPayload::Done(_) => return Ok(()),
                    // An error without a code acknowledges.
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(()),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    _ => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(ends: [&str; 2], ports: [u16; 2], protocol: u8) -> Vec<u8> {
        let octets = |ip: &str| match ip.parse().unwrap() {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let first = match ends[0].contains(':') {
            false => uapi::IP_V4_SRC,
            true => uapi::IP_V6_SRC,
        };
        let ip = [
            DefaultNla::new(first, octets(ends[0])),
            DefaultNla::new(first + 1, octets(ends[1])),
        ];
        let transport = [
            DefaultNla::new(uapi::PROTO_NUM, vec![protocol]),
            DefaultNla::new(uapi::PROTO_SRC_PORT, ports[0].to_be_bytes().to_vec()),
            DefaultNla::new(uapi::PROTO_DST_PORT, ports[1].to_be_bytes().to_vec()),
        ];
        emit(&[
            DefaultNla::new(uapi::TUPLE_IP | NLA_F_NESTED, emit(&ip)),
            DefaultNla::new(uapi::TUPLE_PROTO | NLA_F_NESTED, emit(&transport)),
        ])
    }

    fn connection(original: Vec<u8>, reply: Vec<u8>) -> Connection {
        let attributes = emit(&[
            DefaultNla::new(uapi::TUPLE_ORIG | NLA_F_NESTED, original),
            DefaultNla::new(uapi::TUPLE_REPLY | NLA_F_NESTED, reply),
            DefaultNla::new(uapi::ZONE, vec![0, 7]),
        ]);
        Connection::read(&attributes).unwrap()
    }

    #[test]
    fn untranslated_tcp_connections_of_pods_may_have_been_fast() {
        let pods = [
            "10.244.1.0/24".parse().unwrap(),
            "fd00::/64".parse().unwrap(),
        ];
        const TCP: u8 = libc::IPPROTO_TCP as u8;
        const UDP: u8 = libc::IPPROTO_UDP as u8;
        let table = [
            (TCP, ["10.244.1.2", "10.244.2.2"], "10.244.2.2", true),
            (TCP, ["10.244.2.2", "10.244.1.2"], "10.244.1.2", true),
            (TCP, ["fd00::2", "fd01::2"], "fd01::2", true),
            (UDP, ["10.244.1.2", "10.244.2.2"], "10.244.2.2", false),
            (TCP, ["10.244.3.2", "10.244.2.2"], "10.244.2.2", false),
            // To a ClusterIP.
            (TCP, ["10.244.1.2", "10.96.0.10"], "10.244.2.2", false),
        ];
        for (protocol, ends, answers, fast) in table {
            let original = tuple(ends, [40_000, 80], protocol);
            let reply = tuple([answers, ends[0]], [80, 40_000], protocol);
            let found = connection(original, reply).may_have_been_fast(&pods);
            assert_eq!(found, fast, "{protocol} {ends:?} {answers}");
        }
    }

    #[test]
    fn a_connection_is_named_by_its_tuple_and_zone() {
        let original = tuple(["10.244.1.2", "10.244.2.2"], [1, 2], 6);
        let reply = tuple(["10.244.2.2", "10.244.1.2"], [2, 1], 6);
        let message = connection(original.clone(), reply).be_liberal();
        assert_eq!(i32::from(message.family), libc::AF_INET);
        let found = |kind| attribute(&message.attributes, kind).unwrap();
        assert_eq!(found(uapi::TUPLE_ORIG), original);
        assert_eq!(found(uapi::ZONE), [0, 7]);
        let tcp = attribute(found(uapi::PROTOINFO), uapi::PROTOINFO_TCP).unwrap();
        assert_eq!(attribute(tcp, uapi::TCP_FLAGS_REPLY), Some(&[8, 8][..]));
    }
}
