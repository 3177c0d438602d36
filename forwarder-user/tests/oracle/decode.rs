//! A frame as a tree, one line a header, as far as it can be read.

use std::net::{Ipv4Addr, Ipv6Addr};

use underpass_common::addr::{Mac, ShowMac};

use super::transport::ones_sum;

/// An ICMP error's quote may quote an error, and so on.
const DEEPEST: usize = 4;

pub fn decode(frame: &[u8]) -> Vec<String> {
    let mut tree = Tree::default();
    tree.ethernet(frame);
    tree.lines
}

#[derive(Default)]
struct Tree {
    lines: Vec<String>,
    depth: usize,
}

/// A big-endian number at `at`.
fn word(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes([pair[0], pair[1]]))
}

fn mac(bytes: &[u8], at: usize) -> Option<Mac> {
    bytes.get(at..at + 6)?.try_into().ok()
}

impl Tree {
    fn line(&mut self, text: String) {
        self.lines
            .push(format!("{}{text}", "  ".repeat(self.depth)));
        self.depth += 1;
    }

    fn rest(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.line(format!("{} bytes", bytes.len()));
        }
    }

    fn ethernet(&mut self, frame: &[u8]) {
        let (Some(dst), Some(src), Some(mut kind)) =
            (mac(frame, 0), mac(frame, 6), word(frame, 12))
        else {
            return self.line(format!("Ethernet, cut at {} bytes", frame.len()));
        };
        let (dst, src) = (ShowMac(dst), ShowMac(src));
        self.line(format!(
            "Ethernet {src} -> {dst}, EtherType {kind:#06x}, {} bytes",
            frame.len()
        ));
        let mut at = 14;
        while matches!(kind, 0x8100 | 0x88a8 | 0x9100) {
            let (Some(tci), Some(inner)) = (word(frame, at), word(frame, at + 2)) else {
                return self.line("VLAN tag, cut".into());
            };
            self.line(format!(
                "VLAN {}, priority {}, EtherType {inner:#06x}",
                tci & 0xfff,
                tci >> 13
            ));
            kind = inner;
            at += 4;
        }
        match kind {
            0x0800 => self.v4(&frame[at..]),
            0x86dd => self.v6(&frame[at..]),
            0x0806 => self.arp(&frame[at..]),
            _ => self.rest(&frame[at..]),
        }
    }

    fn arp(&mut self, bytes: &[u8]) {
        let address = |at: usize| {
            let four: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
            Some(Ipv4Addr::from(four))
        };
        self.line(format!(
            "ARP operation {:?}, sender {:?} {:?}, target {:?}",
            word(bytes, 6),
            mac(bytes, 8).map(|mac| ShowMac(mac).to_string()),
            address(14),
            address(24)
        ));
    }

    fn v4(&mut self, bytes: &[u8]) {
        let Some(header) = bytes.first_chunk::<20>() else {
            return self.line(format!("IPv4, cut at {} bytes", bytes.len()));
        };
        let len = usize::from(header[0] & 0xf) * 4;
        let (total, id, fragment) = (word(header, 2), word(header, 4), word(header, 6));
        let [src, dst] = [12, 16]
            .map(|at| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]));
        let fragment = fragment.unwrap_or_default();
        let sum = bytes.get(..len.max(20)).map(|header| ones_sum(header, 0));
        self.line(format!(
            "IPv4 {src} -> {dst}, version {}, header {len} bytes, TOS {:#04x}, total {}, id {:#06x}, \
             flags {:#x}, offset {}, TTL {}, protocol {}, checksum {}",
            header[0] >> 4,
            header[1],
            total.unwrap_or_default(),
            id.unwrap_or_default(),
            fragment >> 13,
            (fragment & 0x1fff) * 8,
            header[8],
            header[9],
            if sum == Some(0xffff) { "right" } else { "wrong" },
        ));
        if len > 20 {
            self.line(format!("options {:02x?}", bytes.get(20..len)));
        }
        let behind = bytes.get(len.max(20)..).unwrap_or_default();
        let said = usize::from(total.unwrap_or_default()).saturating_sub(len);
        let (packet, trailer) = behind.split_at(said.min(behind.len()));
        if said > behind.len() {
            self.line(format!("({} bytes are missing)", said - behind.len()));
        }
        if fragment & 0x1fff == 0 {
            self.transport(header[9], packet);
        } else {
            self.rest(packet);
        }
        if !trailer.is_empty() {
            self.line(format!("{} bytes behind the packet", trailer.len()));
        }
    }

    fn v6(&mut self, bytes: &[u8]) {
        let Some(header) = bytes.first_chunk::<40>() else {
            return self.line(format!("IPv6, cut at {} bytes", bytes.len()));
        };
        let address = |at: usize| {
            let sixteen: [u8; 16] = header[at..at + 16].try_into().unwrap_or_default();
            Ipv6Addr::from(sixteen)
        };
        let first = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
        let said = usize::from(word(header, 4).unwrap_or_default());
        self.line(format!(
            "IPv6 {} -> {}, version {}, class {:#04x}, flow label {:#07x}, payload {said}, \
             next header {}, hop limit {}",
            address(8),
            address(24),
            first >> 28,
            first >> 20 & 0xff,
            first & 0xf_ffff,
            header[6],
            header[7],
        ));
        let behind = &bytes[40..];
        let (mut packet, trailer) = behind.split_at(said.min(behind.len()));
        if said > behind.len() {
            self.line(format!("({} bytes are missing)", said - behind.len()));
        }
        let mut next = header[6];
        // Hop-by-hop, routing, fragment, destination options, and what is built like them.
        while matches!(next, 0 | 43 | 44 | 60 | 135 | 139) && packet.len() >= 8 {
            let len = if next == 44 {
                8
            } else {
                8 + usize::from(packet[1]) * 8
            };
            let len = len.min(packet.len());
            self.line(format!("extension {next}: {:02x?}", &packet[..len.min(24)]));
            let is_later_fragment = next == 44 && packet[2..4] != [0, 0] && packet[2..4] != [0, 1];
            next = packet[0];
            packet = &packet[len..];
            if is_later_fragment {
                self.rest(packet);
                return;
            }
        }
        self.transport(next, packet);
        if !trailer.is_empty() {
            self.line(format!("{} bytes behind the packet", trailer.len()));
        }
    }

    fn transport(&mut self, protocol: u8, bytes: &[u8]) {
        let ports = (word(bytes, 0), word(bytes, 2));
        match (protocol, ports) {
            (6, (Some(src), Some(dst))) if bytes.len() >= 20 => {
                let len = usize::from(bytes[12] >> 4) * 4;
                let (flags, sum) = (bytes[13], word(bytes, 16).unwrap_or_default());
                self.line(format!(
                    "TCP {src} -> {dst}, header {len} bytes, flags {flags:#04x}, checksum {sum:#06x}"
                ));
                self.rest(bytes.get(len.max(20)..).unwrap_or_default());
            }
            (17, (Some(src), Some(dst))) if bytes.len() >= 8 => {
                let (len, sum) = (word(bytes, 4), word(bytes, 6));
                let (len, sum) = (len.unwrap_or_default(), sum.unwrap_or_default());
                self.line(format!(
                    "UDP {src} -> {dst}, length {len}, checksum {sum:#06x}"
                ));
                self.rest(&bytes[8..]);
            }
            (1 | 58, (Some(_), Some(sum))) if bytes.len() >= 8 => {
                let (kind, code) = (bytes[0], bytes[1]);
                let name = if protocol == 1 { "ICMP" } else { "ICMPv6" };
                self.line(format!(
                    "{name} type {kind}, code {code}, checksum {sum:#06x}, {:02x?}",
                    &bytes[4..8]
                ));
                match (protocol, kind) {
                    _ if self.depth > 3 * DEEPEST => self.rest(&bytes[8..]),
                    (1, 3..=5 | 11 | 12) => self.v4(&bytes[8..]),
                    (58, 1..=4) => self.v6(&bytes[8..]),
                    _ => self.rest(&bytes[8..]),
                }
            }
            _ => self.line(format!("protocol {protocol}, {} bytes", bytes.len())),
        }
    }
}

#[test]
fn a_frame_is_told_header_by_header() {
    let frame: Vec<u8> = [
        &[0xff; 6][..],
        &[2, 0, 0, 0, 0, 1],
        &[0x81, 0, 0x60, 5, 8, 0],
        &[
            0x45, 0, 0, 28, 0, 1, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ],
        &[0, 53, 0x9c, 0x40, 0, 8, 0, 0],
        &[0xaa],
    ]
    .concat();
    let lines = decode(&frame);
    let has = |line: usize, text: &str| lines[line].contains(text);
    assert!(
        has(0, "02:00:00:00:00:01 -> ff:ff:ff:ff:ff:ff"),
        "{lines:#?}"
    );
    assert!(has(1, "VLAN 5, priority 3"), "{lines:#?}");
    assert!(has(2, "10.0.0.1 -> 10.0.0.2") && has(2, "TTL 64") && has(2, "checksum wrong"));
    assert!(has(3, "UDP 53 -> 40000, length 8"), "{lines:#?}");
    assert!(has(4, "1 bytes behind the packet"), "{lines:#?}");
}

#[test]
fn no_frame_is_too_short_or_too_odd_to_be_told() {
    let mut dice = super::dice::Dice::new(7);
    for len in 0..120 {
        let mut bytes = dice.bytes(len);
        assert!(!decode(&bytes).is_empty());
        for kind in [[8, 0], [0x86, 0xdd], [8, 6], [0x81, 0]] {
            if len >= 14 {
                bytes[12..14].copy_from_slice(&kind);
                assert!(!decode(&bytes).is_empty());
            }
        }
    }
}
