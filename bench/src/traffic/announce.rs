//! A host tells all on its link where its address is now, unasked: by gratuitous ARP, or by an
//! unsolicited neighbour advertisement.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::Result;
use underpass_common::addr::Mac;

use super::icmp::internet_checksum;
use super::{Frame, FrameSocket};
use crate::lab::Host;

/// Says on `interface` of `host` that `address` is at `mac`; as CNI plugins do for a new pod, and
/// kernels with `arp_notify` or `ndisc_notify` for a new MAC.
///
/// # Errors
/// When there is no such interface, or it is down.
pub fn announce(host: &Host, interface: &str, address: impl Into<IpAddr>, mac: Mac) -> Result<()> {
    // A socket is not shown what it sends itself.
    let (sender, witness) = (
        FrameSocket::open(host, interface)?,
        FrameSocket::open(host, interface)?,
    );
    let frame = match address.into() {
        IpAddr::V4(address) => gratuitous_arp(address, mac),
        IpAddr::V6(address) => unsolicited_advertisement(address, mac),
    };
    sender.send(&frame)?;
    // Seen going out: it is on the wire.
    let sent = |seen: &Frame| seen.bytes == frame;
    witness.expect(Duration::from_secs(1), "the announcement goes out", sent)?;
    Ok(())
}

/// A request for one's own address (RFC 826, RFC 5227).
fn gratuitous_arp(address: Ipv4Addr, mac: Mac) -> Vec<u8> {
    let ethernet = [&[0xff; 6][..], &mac, &[0x08, 0x06]];
    // Ethernet, IPv4, their address lengths, request.
    let fixed = [0, 1, 0x08, 0, 6, 4, 0, 1];
    let ip = address.octets();
    let arp = [&fixed[..], &mac, &ip, &[0; 6], &ip];
    [ethernet.concat(), arp.concat()].concat()
}

/// An advertisement to all nodes that replaces what they knew (RFC 4861, 4.4 and 7.2.6).
fn unsolicited_advertisement(address: Ipv6Addr, mac: Mac) -> Vec<u8> {
    const ICMPV6: u8 = 58;
    const ADVERTISEMENT: u8 = 136;
    const OVERRIDE: u8 = 0x20;
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).octets();
    let ip = address.octets();
    // Type, code, checksum, flags; then the option with the target's link-layer address.
    let head = [ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0];
    let mut message = [&head[..], &ip, &[2, 1], &mac].concat();
    let len = message.len() as u8;
    let pseudo_header = [&ip[..], &all_nodes, &[0, 0, 0, len, 0, 0, 0, ICMPV6]].concat();
    let checksum = internet_checksum(&[pseudo_header, message.clone()].concat());
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    let ethernet = [&[0x33, 0x33, 0, 0, 0, 1][..], &mac, &[0x86, 0xdd]];
    // Version, length, protocol, and the hop limit that no router has lowered.
    let header = [&[0x60, 0, 0, 0, 0, len, ICMPV6, 255][..], &ip, &all_nodes];
    [ethernet.concat(), header.concat(), message].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 9];

    #[test]
    fn it_asks_all_for_ones_own_address() {
        let frame = gratuitous_arp(Ipv4Addr::new(10, 0, 0, 2), MAC);
        assert_eq!(frame.len(), 42);
        assert_eq!(frame[..6], [0xff; 6]);
        assert_eq!(frame[28..32], frame[38..42]);
    }

    #[test]
    fn it_advertises_ones_own_address_to_all() {
        let frame = unsolicited_advertisement(Ipv6Addr::LOCALHOST, MAC);
        assert_eq!(frame.len(), 14 + 40 + 32);
        assert_eq!(
            frame[22..38],
            frame[62..78],
            "from the address that it is about"
        );
        assert_eq!(frame[80..], MAC);
        // With its own checksum the message sums to zero.
        let pseudo_header = [&frame[22..54], &[0, 0, 0, 32, 0, 0, 0, 58][..]].concat();
        assert_eq!(
            internet_checksum(&[&pseudo_header, &frame[54..]].concat()),
            0
        );
    }
}
