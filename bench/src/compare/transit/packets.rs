//! The frames of a flood: UDP from a pod on one segment to a pod on the other, in several flows. Pure.

use std::net::Ipv4Addr;

use underpass_common::addr::Mac;
use underpass_common::flow::PROTOCOL_UDP;

use crate::compare::bpf::layout::{DISCARD, FRAME};
use crate::traffic::internet_checksum;

/// Bytes of Ethernet, IPv4 and UDP header.
const HEADERS: usize = 14 + 20 + 8;

/// What all frames of a flood have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub src_mac: Mac,
    pub dst_mac: Mac,
    pub src: Ipv4Addr,
    pub dst: Ipv4Addr,
    pub ttl: u8,
    /// Bytes of UDP payload, at least those of [`FRAME`] that follow the headers. All are zero.
    pub payload: u16,
}

/// The first source port; each flow has one of its own.
const FIRST_PORT: u16 = 10_000;

/// A frame of flow `number`, whole but for the UDP checksum: 0 says that there is none (RFC 768). A NIC would have checked
/// it, where a veth leaves that to GRO.
pub(super) fn frame(ends: &Ends, number: u16) -> Vec<u8> {
    let payload = usize::from(ends.payload);
    let mut frame = vec![0; HEADERS + payload];
    frame[..6].copy_from_slice(&ends.dst_mac);
    frame[6..12].copy_from_slice(&ends.src_mac);
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    let length = |bytes: usize| (bytes as u16).to_be_bytes();
    let (ip, udp) = frame[14..].split_at_mut(20);
    // Version 4 and five words; no TOS; length; identification; don't fragment; TTL.
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&length(28 + payload));
    ip[6..10].copy_from_slice(&[0x40, 0, ends.ttl, PROTOCOL_UDP]);
    ip[12..16].copy_from_slice(&ends.src.octets());
    ip[16..20].copy_from_slice(&ends.dst.octets());
    let sum = internet_checksum(ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    udp[..2].copy_from_slice(&(FIRST_PORT + number).to_be_bytes());
    udp[2..4].copy_from_slice(&DISCARD.to_be_bytes());
    udp[4..6].copy_from_slice(&length(8 + payload));
    frame
}

const _: () = assert!(FRAME > HEADERS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_a_whole_packet_of_its_flow() {
        let ends = Ends {
            src_mac: [2, 0, 0, 0, 0, 1],
            dst_mac: [2, 0, 0, 0, 0, 2],
            src: Ipv4Addr::new(10, 244, 1, 11),
            dst: Ipv4Addr::new(10, 244, 2, 11),
            ttl: 64,
            payload: 65,
        };
        let frame = frame(&ends, 7);
        assert_eq!(frame.len(), 14 + 20 + 8 + 65);
        assert_eq!(internet_checksum(&frame[14..34]), 0);
        assert_eq!(frame[16..18], [0, 93]);
        assert_eq!((frame[22], frame[23]), (64, 17));
        assert_eq!(frame[34..38], [0x27, 0x17, 0, 9]);
        assert_eq!(frame[38..42], [0, 73, 0, 0]);
    }
}
