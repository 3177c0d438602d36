//! What a kernel chooses by chance in packets of its own, taken out before they are compared.
//!
//! - The identification of an IPv4 packet that the node itself sends (an ICMP error, an echo reply, a
//!   TCP reset), and with it the header's checksum: it is drawn from a key of each namespace
//!   (`__ip_select_ident()` in net/ipv4/route.c).
//! - The identification of a fragment that the node itself makes of its own IPv6 packet, likewise
//!   (`ipv6_select_ident()` in net/ipv6/output_core.c).
//! - The time in its answer to an ICMP timestamp request, and with it the checksum (RFC 792).
//!
//! And what it sends by the clock, whatever comes in: reports of its multicast groups (IGMP, MLD).
//!
//! The `hdr_len` of a segment train says how many of its bytes lie in one piece of memory
//! (`virtio_net_hdr_from_skb()`); that is no property of the packet.
//!
//! A packet is taken for the node's own by its source address, from one of the node's MACs. What the
//! node forwards with such a source is a martian to it in IPv4; in IPv6 it forwards it, and there only
//! the identification of fragments goes uncompared.

use std::net::IpAddr;
use std::ops::Range;

use underpass_common::flow::PROTOCOL_ICMP;

use super::cast::{Family, Place, node_addresses};
use super::exits::Event;
use super::packet::ETHERNET;
use super::transport::octets;

/// IPv6's fragment header.
const FRAGMENT: u8 = 44;
/// ICMP type (RFC 792).
const TIMESTAMP_REPLY: u8 = 14;

/// `None`: it does not count.
pub fn normalize(event: &Event) -> Option<Event> {
    let Event::Out(place, seen) = event else {
        return Some(event.clone());
    };
    let mut seen = seen.clone();
    seen.offload.hdr_len = 0;
    if is_group_report(&seen.bytes) {
        return None;
    }
    if is_from_node(&seen.bytes, Family::V4) {
        clear(&mut seen.bytes, ETHERNET + 4..ETHERNET + 6);
        clear(&mut seen.bytes, ETHERNET + 10..ETHERNET + 12);
        let icmp = ETHERNET + 4 * usize::from(seen.bytes[ETHERNET] & 0xf);
        if seen.bytes[ETHERNET + 9] == PROTOCOL_ICMP
            && seen.bytes.get(icmp) == Some(&TIMESTAMP_REPLY)
        {
            clear(&mut seen.bytes, icmp + 2..icmp + 4);
            clear(&mut seen.bytes, icmp + 12..icmp + 20);
        }
    }
    if is_from_node(&seen.bytes, Family::V6) && seen.bytes[ETHERNET + 6] == FRAGMENT {
        clear(&mut seen.bytes, ETHERNET + 44..ETHERNET + 48);
    }
    Some(Event::Out(*place, seen))
}

/// Zeroes these bytes, as far as they are there.
fn clear(frame: &mut [u8], bytes: Range<usize>) {
    let end = bytes.end.min(frame.len());
    if let Some(bytes) = frame.get_mut(bytes.start..end) {
        bytes.fill(0);
    }
}

fn is_from_node(frame: &[u8], family: Family) -> bool {
    if frame.get(12..14) != Some(&family.ether_type()) || !has_node_mac(frame) {
        return false;
    }
    let source = match family {
        Family::V4 => ETHERNET + 12..ETHERNET + 16,
        Family::V6 => ETHERNET + 8..ETHERNET + 24,
    };
    let is = |address: &IpAddr| frame.get(source.clone()) == Some(&octets(*address)[..]);
    node_addresses(family).iter().any(is)
}

/// A report of the node's kernel: from one of its addresses (RFC 3376), or behind a hop-by-hop header
/// from an unspecified address (RFC 3810).
fn is_group_report(frame: &[u8]) -> bool {
    const IGMP: u8 = 2;
    const REPORTS: [u8; 3] = [131, 132, 143];
    let byte = |at: usize| frame.get(ETHERNET + at).copied();
    let is_v4 = || byte(9) == Some(IGMP) && is_from_node(frame, Family::V4);
    let is_v6 = || {
        has_node_mac(frame)
            && frame.get(12..14) == Some(&Family::V6.ether_type())
            && byte(6) == Some(0)
            && frame.get(ETHERNET + 8..ETHERNET + 24) == Some(&[0; 16])
            && byte(48).is_some_and(|kind| REPORTS.contains(&kind))
    };
    is_v4() || is_v6()
}

/// True where one of the node's interfaces has sent the frame.
fn has_node_mac(frame: &[u8]) -> bool {
    let is = |place: &Place| frame.get(6..12) == Some(&place.gateway_mac());
    Place::ALL.iter().any(is)
}

#[cfg(test)]
mod tests {
    use super::super::cast::outside;
    use super::super::frames::{Offload, Seen};
    use super::super::packet::Packet;
    use super::super::transport::Transport;
    use super::*;

    /// A time-exceeded error with this identification.
    fn error_from(source: IpAddr, id: u32) -> Option<Event> {
        let place = Place::Pod1;
        let transport = Transport::Icmp {
            kind: 11,
            code: 0,
            rest: [0; 4],
        };
        let macs = [place.mac(), place.gateway_mac()];
        let ends = [source, place.address(Family::V4)];
        let mut packet = Packet::new(macs, ends, transport);
        packet.id = id;
        normalize(&Event::Out(
            place,
            Seen {
                bytes: packet.bytes(),
                offload: Offload::default(),
                tag: None,
                packet_type: 0,
            },
        ))
    }

    #[test]
    fn only_what_the_node_itself_sends_may_differ_in_its_identification() {
        let [node, ..] = node_addresses(Family::V4);
        assert_eq!(error_from(node, 1), error_from(node, 2));
        let [router, _] = outside(Family::V4);
        assert_ne!(error_from(router, 1), error_from(router, 2));
    }
}
