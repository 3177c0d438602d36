//! A traced packet, as the log tells of it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use underpass_common::flow::{PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP};
use underpass_common::packet_trace::{Names, RECORD_SIZE, Record};
use underpass_common::verdict::{Hook, Verdict};

/// A packet at a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Where it was seen.
    pub hook: &'static str,
    /// What became of it there.
    pub verdict: &'static str,
    /// The device whose hook it is.
    pub interface: String,
    /// Bytes, with the Ethernet header.
    pub length: u32,
    /// Of an IP packet.
    pub ip: Option<Ip>,
}

/// What an IP header, and the one behind it, tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ip {
    /// `tcp`, `udp`, `icmp`, `icmpv6`, or `protocol N`.
    pub protocol: String,
    /// Who sends.
    pub source: IpAddr,
    /// Who is to receive.
    pub destination: IpAddr,
    /// Source's and destination's.
    pub ports: Option<(u16, u16)>,
    /// Of an ICMP echo.
    pub identifier: Option<u16>,
}

impl Line {
    /// From what the programs write: a [`Record`] in hexadecimal; `interface` names a device by its index. `None`: it
    /// is no record.
    pub fn read(text: &str, interface: impl FnOnce(u32) -> String) -> Option<Self> {
        let record = record(&bytes(text)?);
        let hooks = Hook::ALL.into_iter();
        Some(Self {
            hook: hooks.map(Hook::name).nth(usize::from(record.hook))?,
            verdict: Verdict::from_number(u32::from(record.verdict))?.name(),
            interface: interface(record.ifindex),
            length: record.len,
            ip: ip(&record)?,
        })
    }
}

fn bytes(text: &str) -> Option<[u8; RECORD_SIZE]> {
    let mut bytes = [0; RECORD_SIZE];
    if text.len() != 2 * RECORD_SIZE || !text.is_ascii() {
        return None;
    }
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).ok()?;
    }
    Some(bytes)
}

/// In the layout of [`Record`].
fn record(bytes: &[u8; RECORD_SIZE]) -> Record {
    let address = |at: usize| std::array::from_fn(|n| bytes[at + n]);
    let port = |at: usize| [bytes[at], bytes[at + 1]];
    let number = |at: usize| u32::from_ne_bytes(std::array::from_fn(|n| bytes[at + n]));
    let [.., hook, verdict, protocol, names] = *bytes;
    Record {
        src: address(0),
        dst: address(16),
        src_port: port(32),
        dst_port: port(34),
        len: number(36),
        ifindex: number(40),
        hook,
        verdict,
        protocol,
        names,
    }
}

/// The outer `None`: what stands there is no number of ours.
fn ip(record: &Record) -> Option<Option<Ip>> {
    let names = Names::ALL.get(usize::from(record.names))?;
    if *names == Names::Nothing {
        return Some(None);
    }
    let address = |octets: [u8; 16]| Ipv6Addr::from(octets).to_canonical();
    let port = u16::from_be_bytes;
    let ports = (port(record.src_port), port(record.dst_port));
    Some(Some(Ip {
        protocol: protocol(record.protocol),
        source: address(record.src),
        destination: address(record.dst),
        ports: (*names == Names::Ports).then_some(ports),
        identifier: (*names == Names::Identifier).then_some(ports.0),
    }))
}

fn protocol(number: u8) -> String {
    match number {
        PROTOCOL_TCP => "tcp".to_owned(),
        PROTOCOL_UDP => "udp".to_owned(),
        PROTOCOL_ICMP => "icmp".to_owned(),
        PROTOCOL_ICMPV6 => "icmpv6".to_owned(),
        other => format!("protocol {other}"),
    }
}

impl fmt::Display for Line {
    /// `from_pod on vethpod1: fast: tcp 10.244.1.11:40000 -> 10.244.2.11:80, 74 bytes`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hook, interface, verdict) = (self.hook, &self.interface, self.verdict);
        write!(f, "{hook} on {interface}: {verdict}: ")?;
        match &self.ip {
            Some(ip) => write!(f, "{ip}, ")?,
            None => f.write_str("no addresses, ")?,
        }
        write!(f, "{} bytes", self.length)
    }
}

impl fmt::Display for Ip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.ports.map(|both| both.0), self.ports.map(|both| both.1));
        let (source, destination) = (end(self.source, from), end(self.destination, to));
        write!(f, "{} {source} -> {destination}", self.protocol)?;
        match self.identifier {
            Some(identifier) => write!(f, ", identifier {identifier}"),
            None => Ok(()),
        }
    }
}

fn end(address: IpAddr, port: Option<u16>) -> String {
    match port {
        Some(port) => std::net::SocketAddr::new(address, port).to_string(),
        None => address.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    fn written(record: &Record) -> String {
        let mut bytes = Vec::new();
        bytes.extend(record.src);
        bytes.extend(record.dst);
        bytes.extend(record.src_port);
        bytes.extend(record.dst_port);
        bytes.extend(record.len.to_ne_bytes());
        bytes.extend(record.ifindex.to_ne_bytes());
        bytes.extend([record.hook, record.verdict, record.protocol, record.names]);
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    }

    fn mapped(address: &str) -> [u8; 16] {
        match address.parse().unwrap() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        }
    }

    fn told(record: &Record) -> Option<String> {
        let interface = |ifindex| format!("veth{ifindex}");
        Line::read(&written(record), interface).map(|line| line.to_string())
    }

    fn tcp() -> Record {
        Record {
            src: mapped("10.244.1.11"),
            dst: mapped("10.244.2.11"),
            src_port: 40000_u16.to_be_bytes(),
            dst_port: 80_u16.to_be_bytes(),
            len: 74,
            ifindex: 4,
            hook: Hook::FromPod as u8,
            verdict: Verdict::TcpOpening as u8,
            protocol: PROTOCOL_TCP,
            names: Names::Ports as u8,
        }
    }

    #[test]
    fn each_kind_of_packet_is_told() {
        let echo = Record {
            src: mapped("fd00:1::b"),
            dst: mapped("fd00:2::b"),
            src_port: [0, 7],
            dst_port: [0, 7],
            protocol: PROTOCOL_ICMPV6,
            names: Names::Identifier as u8,
            verdict: Verdict::Fast as u8,
            ..tcp()
        };
        let fragment = Record {
            protocol: PROTOCOL_UDP,
            names: Names::Addresses as u8,
            verdict: Verdict::Fragment as u8,
            ..tcp()
        };
        let other = Record {
            protocol: 132,
            ..fragment
        };
        let arp = Record {
            hook: Hook::FromWire as u8,
            verdict: Verdict::NotIp as u8,
            len: 42,
            ..Record::default()
        };
        let v6 = Record {
            protocol: PROTOCOL_UDP,
            names: Names::Ports as u8,
            ..echo
        };
        for (record, line) in [
            (
                tcp(),
                "from_pod on veth4: tcp_opening: tcp 10.244.1.11:40000 -> 10.244.2.11:80, 74 bytes",
            ),
            (
                echo,
                "from_pod on veth4: fast: icmpv6 fd00:1::b -> fd00:2::b, identifier 7, 74 bytes",
            ),
            (
                fragment,
                "from_pod on veth4: fragment: udp 10.244.1.11 -> 10.244.2.11, 74 bytes",
            ),
            (
                other,
                "from_pod on veth4: fragment: protocol 132 10.244.1.11 -> 10.244.2.11, 74 bytes",
            ),
            (arp, "from_wire on veth0: not_ip: no addresses, 42 bytes"),
            (
                v6,
                "from_pod on veth4: fast: udp [fd00:1::b]:7 -> [fd00:2::b]:7, 74 bytes",
            ),
        ] {
            assert_eq!(told(&record).as_deref(), Some(line));
        }
    }

    #[test]
    fn what_is_no_record_is_not_taken_for_one() {
        let whole = written(&tcp());
        let read = |text: &str| Line::read(text, |_| String::new());
        assert!(read(&whole).is_some());
        assert_eq!(read(&whole[2..]), None);
        assert_eq!(read(&whole.replace("4a", "zz")), None);
        assert_eq!(read(""), None);
        for wrong in [
            Record { hook: 200, ..tcp() },
            Record {
                verdict: 200,
                ..tcp()
            },
            Record { names: 4, ..tcp() },
        ] {
            assert_eq!(told(&wrong), None);
        }
    }
}
