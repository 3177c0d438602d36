//! The same packet in IPv6: scenarios are written with packets of IPv4 and played with their twins too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use underpass_common::flow::{
    ICMP_ECHO_REPLY, ICMP_ECHO_REQUEST, ICMPV6_ECHO_REPLY, ICMPV6_ECHO_REQUEST, PROTOCOL_ICMP,
    PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP, Tuple,
};

use crate::transport::internet_checksum;

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// Something that must stay as it is.
const FLOW_LABEL: u32 = 0x5eed1;

/// The address that is written with the same digits, as the lab gives them: `10.244.1.11` and
/// `fd00:10:244:1::11`.
pub fn of_address(v4: Ipv4Addr) -> Ipv6Addr {
    let [a, b, c, d] = v4.octets();
    let written = format!("fd00:{a}:{b}:{c}::{d}");
    written.parse().expect("decimal digits are hexadecimal")
}

/// A packet's name, with an IPv6 packet for an IPv4 one.
pub fn of_ends(ends: &Tuple<IpAddr>) -> Tuple<IpAddr> {
    let address = |address| match address {
        IpAddr::V4(v4) => of_address(v4).into(),
        IpAddr::V6(_) => address,
    };
    Tuple {
        src: address(ends.src),
        dst: address(ends.dst),
        protocol: of_protocol(ends.protocol),
        icmp_type: match ends.protocol {
            PROTOCOL_ICMP => of_icmp_type(ends.icmp_type),
            _ => 0,
        },
        ..*ends
    }
}

fn of_protocol(protocol: u8) -> u8 {
    match protocol {
        PROTOCOL_ICMP => PROTOCOL_ICMPV6,
        other => other,
    }
}

fn of_icmp_type(kind: u8) -> u8 {
    match kind {
        ICMP_ECHO_REQUEST => ICMPV6_ECHO_REQUEST,
        ICMP_ECHO_REPLY => ICMPV6_ECHO_REPLY,
        other => panic!("ICMP of type {other} has no twin here"),
    }
}

/// A frame with an IPv6 packet for the IPv4 packet in this one: the same MACs, ports, payload and
/// trailing bytes, its TTL as hop limit, its TOS as traffic class, and checksums that are right.
///
/// # Panics
/// For what IPv6 has no field for: options, fragments.
pub fn of_frame(frame: &[u8]) -> Vec<u8> {
    let (ethernet, packet) = frame.split_at(ETHERNET);
    assert_eq!(ethernet[12..], [0x08, 0x00], "not IPv4");
    assert_eq!(packet[0], 0x45, "IPv4 options have no twin");
    assert_eq!(packet[6] & 0x3f | packet[7], 0, "a fragment has no twin");
    let total_len = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    let (packet, trailing) = packet.split_at(total_len);
    let (header, transport) = packet.split_at(20);
    let address = |at: usize| {
        let octets: [u8; 4] = header[at..at + 4].try_into().expect("four bytes");
        of_address(octets.into()).octets()
    };
    let (tos, ttl, protocol) = (header[1], header[8], of_protocol(header[9]));
    let addresses = [address(12), address(16)].concat();
    let transport = of_transport(protocol, transport, &addresses);

    let mut twin = [&ethernet[..12], &[0x86, 0xdd]].concat();
    twin.extend((6 << 28 | u32::from(tos) << 20 | FLOW_LABEL).to_be_bytes());
    twin.extend((transport.len() as u16).to_be_bytes());
    twin.extend([protocol, ttl]);
    twin.extend(addresses);
    twin.extend(transport);
    twin.extend(trailing);
    twin
}

/// What stands behind the header, with the checksum that covers the other addresses (RFC 8200, 8.1).
fn of_transport(protocol: u8, bytes: &[u8], addresses: &[u8]) -> Vec<u8> {
    let mut twin = bytes.to_vec();
    let checksum_at = match protocol {
        PROTOCOL_TCP => 16,
        PROTOCOL_UDP => 6,
        PROTOCOL_ICMPV6 => {
            twin[0] = of_icmp_type(twin[0]);
            2
        }
        _ => return twin,
    };
    twin[checksum_at..checksum_at + 2].fill(0);
    let len = (twin.len() as u32).to_be_bytes();
    let summed = [addresses, &len, &[0, 0, 0, protocol], &twin].concat();
    let checksum = internet_checksum(&summed);
    twin[checksum_at..checksum_at + 2].copy_from_slice(&checksum.to_be_bytes());
    twin
}
