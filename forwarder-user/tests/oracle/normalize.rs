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
//! Packets that the node forwards never have one of its own addresses as their source: it takes those
//! for martians.

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
    if seen.bytes.get(12..14) == Some(&[0x08, 0x00]) && is_from_node(&seen.bytes, Family::V4) {
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
    if seen.bytes.get(12..14) == Some(&[0x86, 0xdd])
        && is_from_node(&seen.bytes, Family::V6)
        && seen.bytes[ETHERNET + 6] == FRAGMENT
    {
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
    let is_nodes = Place::ALL
        .iter()
        .any(|place| frame.get(6..12) == Some(&place.gateway_mac()));
    let byte = |at: usize| frame.get(ETHERNET + at).copied();
    let is_v4 = || {
        frame.get(12..14) == Some(&[0x08, 0x00])
            && byte(9) == Some(IGMP)
            && is_from_node(frame, Family::V4)
    };
    let is_v6 = || {
        frame.get(12..14) == Some(&[0x86, 0xdd])
            && byte(6) == Some(0)
            && frame.get(ETHERNET + 8..ETHERNET + 24) == Some(&[0; 16])
            && byte(48).is_some_and(|kind| REPORTS.contains(&kind))
    };
    is_nodes && (is_v4() || is_v6())
}
