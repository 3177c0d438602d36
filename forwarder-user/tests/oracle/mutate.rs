//! What can be wrong with a packet, or unusual about it.

use std::net::IpAddr;

use underpass_common::addr::Mac;

use super::cast::{
    BLACKHOLED, Family, OVERRIDDEN, POD_MTU, PROHIBITED, Place, SMALL_MTU, STRANGER_MAC,
    UPLINK_MTU, node_addresses, outside, remote, remote_pods, special,
};
use super::dice::Dice;
use super::packet::{DF, MF, Packet};
use super::transport::{ACK, Checksum, FIN, PSH, RST, SYN, Transport};

type Change = fn(&mut Packet, &mut Dice);

/// By name, the more often the more they are wanted. One that does not fit a packet leaves it as it is.
const CHANGES: &[(&str, Change)] = &[
    ("hops", hops),
    ("hops", hops),
    ("hops", hops),
    ("tos", |packet, dice| packet.tos = dice.u8()),
    ("id", |packet, dice| packet.id = dice.u32()),
    ("don't fragment", |packet, _| packet.fragment |= DF),
    ("reserved flag", |packet, _| packet.fragment |= 0x8000),
    ("fragment", fragment),
    ("options", options),
    ("header words", |packet, dice| {
        packet.header_words = Some(dice.u8() & 0xf);
    }),
    ("version", |packet, dice| {
        packet.version = Some(dice.u8() & 0xf)
    }),
    ("length", length),
    ("header checksum", |packet, dice| {
        packet.header_checksum_error = dice.pick(&[1, 0x100, 0xffff]);
    }),
    ("protocol", protocol),
    ("checksum", |packet, dice| {
        let error = dice.u16();
        packet.checksum = dice.pick(&[Checksum::Zero, Checksum::OffBy(error)]);
    }),
    ("TCP flags", tcp_flags),
    ("TCP flags", tcp_flags),
    ("TCP flags", tcp_flags),
    ("TCP flags", tcp_flags),
    ("TCP flags", tcp_flags),
    ("TCP flags", tcp_flags),
    ("TCP offset", tcp_offset),
    ("TCP options", tcp_options),
    ("UDP length", udp_length),
    ("ICMP", icmp),
    ("source", |packet, dice| {
        packet.src = address(family(packet), dice)
    }),
    ("destination", |packet, dice| {
        packet.dst = address(family(packet), dice)
    }),
    ("destination MAC", |packet, dice| packet.dst_mac = mac(dice)),
    ("source MAC", |packet, dice| packet.src_mac = mac(dice)),
    ("VLAN tags", tags),
    ("EtherType", |packet, dice| {
        let any = dice.u16();
        packet.ethertype = Some(dice.pick(&[0x0800, 0x86dd, 0x0806, 0x8847, 0x88cc, 46, any]));
    }),
    ("trailer", |packet, dice| {
        let len = 1 + dice.below(40);
        packet.trailer = dice.bytes(len);
    }),
    ("padded", pad),
    ("cut", |packet, dice| {
        let most = packet.transport_at() + packet.transport.header_len() + 4;
        packet.cut_at = Some(14 + dice.below(most - 14));
    }),
    ("size", size),
    ("size", size),
    ("size", size),
    ("extensions", extensions),
    ("extensions", extensions),
];

/// Changes a packet by one thing, and tells by which.
pub fn change(packet: &mut Packet, dice: &mut Dice) -> &'static str {
    let (name, change) = dice.pick(CHANGES);
    change(packet, dice);
    name
}

/// Changes a frame's bytes.
pub fn spoil(frame: &mut [u8], dice: &mut Dice) {
    // Where an IPv6 destination names a host: each would be a neighbour to be looked for, in a table
    // that all of the machine shares.
    const HOST: std::ops::Range<usize> = 46..54;
    for _ in 0..=dice.below(3) {
        let place = dice.below(frame.len().min(100));
        if !HOST.contains(&place) {
            frame[place] = match dice.once_in(2) {
                true => frame[place] ^ 1 << dice.below(8),
                false => dice.u8(),
            };
        }
    }
}

fn family(packet: &Packet) -> Family {
    match packet.is_v6() {
        true => Family::V6,
        false => Family::V4,
    }
}

fn hops(packet: &mut Packet, dice: &mut Dice) {
    let any = dice.u8();
    packet.hops = dice.pick(&[0, 1, 1, 2, 3, 255, any]);
}

/// About as large as one of the MTUs, or as large as none.
fn size(packet: &mut Packet, dice: &mut Dice) {
    let mtu = dice.pick(&[1280, SMALL_MTU, UPLINK_MTU, UPLINK_MTU, 2500, POD_MTU]);
    let len = usize::from(mtu) - 90 + dice.below(80);
    packet.payload = dice.bytes(len);
}

fn fragment(packet: &mut Packet, dice: &mut Dice) {
    let offset = dice.pick(&[0, 1, 100, 0x1fff]);
    let more = dice.pick(&[0, MF]);
    if packet.is_v6() {
        let word = (offset << 3 | u16::from(more != 0)).to_be_bytes();
        let id = dice.u32().to_be_bytes();
        packet
            .extensions
            .push((44, [&[0], &word[..], &id[..]].concat()));
    } else {
        packet.fragment |= more | offset;
    }
}

fn options(packet: &mut Packet, dice: &mut Dice) {
    if packet.is_v6() {
        return;
    }
    packet.options = match dice.below(6) {
        0 => vec![1; 4],
        1 => vec![0; 4],
        // Router alert, record route, timestamp, loose source route.
        2 => vec![148, 4, 0, 0],
        3 => vec![7, 7, 4, 0, 0, 0, 0, 0],
        4 => [&[131, 7, 4][..], &dice.bytes(4), &[0]].concat(),
        _ => {
            let words = 1 + dice.below(10);
            dice.bytes(words * 4)
        }
    };
}

fn length(packet: &mut Packet, dice: &mut Dice) {
    let right = packet.ip_bytes().len() as u16 - if packet.is_v6() { 40 } else { 0 };
    let (less, any) = (dice.below(40) as u16, dice.u16());
    let (shorter, longer) = (right.saturating_sub(less), right.saturating_add(less));
    packet.length = Some(dice.pick(&[0, shorter, shorter, longer, 20, 28, any]));
}

fn protocol(packet: &mut Packet, dice: &mut Dice) {
    let any = dice.u8();
    packet.protocol = Some(dice.pick(&[
        0, 1, 2, 4, 6, 17, 41, 43, 44, 47, 50, 51, 58, 59, 60, 132, any,
    ]));
}

fn tcp_flags(packet: &mut Packet, dice: &mut Dice) {
    let any = dice.u8();
    if let Transport::Tcp { flags, .. } = &mut packet.transport {
        *flags = dice.pick(&[
            SYN,
            SYN | ACK,
            FIN | ACK,
            FIN | ACK,
            RST,
            RST | ACK,
            0,
            PSH,
            0xff,
            any,
        ]);
    }
}

fn tcp_offset(packet: &mut Packet, dice: &mut Dice) {
    let any = dice.u8() & 0xf;
    if let Transport::Tcp { offset, .. } = &mut packet.transport {
        *offset = Some(any);
    }
}

fn tcp_options(packet: &mut Packet, dice: &mut Dice) {
    let any = dice.bytes(40);
    if let Transport::Tcp { options, .. } = &mut packet.transport {
        *options = match dice.below(3) {
            // Timestamps; an MSS.
            0 => [&[1, 1, 8, 10][..], &any[..8]].concat(),
            1 => vec![2, 4, 5, 0xb4],
            _ => any[..4 * dice.below(11)].to_vec(),
        };
    }
}

fn udp_length(packet: &mut Packet, dice: &mut Dice) {
    let any = dice.u16();
    if let Transport::Udp { length, .. } = &mut packet.transport {
        *length = Some(dice.pick(&[0, 7, 8, 9, 0xffff, any]));
    }
}

fn icmp(packet: &mut Packet, dice: &mut Dice) {
    let (any, word) = (dice.u8(), dice.u32());
    let kinds: &[u8] = match packet.is_v6() {
        true => &[
            1, 2, 3, 4, 100, 128, 129, 131, 132, 133, 134, 135, 136, 137, 143, 144, any,
        ],
        false => &[0, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15, 17, 30, 42, any],
    };
    let kind = match dice.pick(kinds) {
        // The kernel answers an MLD query after a random time.
        130 => 255,
        kind => kind,
    };
    packet.transport = Transport::Icmp {
        kind,
        code: dice.pick(&[0, 0, 0, 1, 2, 3, 4, 5, 13, any]),
        rest: word.to_be_bytes(),
    };
}

/// An address that somebody else has, or nobody.
pub fn address(family: Family, dice: &mut Dice) -> IpAddr {
    match dice.below(7) {
        0 => dice.pick(&node_addresses(family)),
        1 => dice.pick(&special(family)),
        2 => dice.pick(&outside(family)),
        3 => dice.pick(&remote_pods(family)),
        4 => remote(family, 3, dice.pick(&[OVERRIDDEN, BLACKHOLED, PROHIBITED])),
        _ => dice.pick(&Place::PODS).address(family),
    }
}

fn mac(dice: &mut Dice) -> Mac {
    let (someone, node) = (dice.pick(&Place::ALL), dice.pick(&Place::ALL));
    dice.pick(&[
        someone.mac(),
        node.gateway_mac(),
        STRANGER_MAC,
        [0xff; 6],
        [0; 6],
        [1, 0, 0x5e, 0, 0, 1],
        [0x33, 0x33, 0, 0, 0, 1],
        [1, 0x80, 0xc2, 0, 0, 0],
    ])
}

fn tags(packet: &mut Packet, dice: &mut Dice) {
    for _ in 0..=dice.below(2) {
        let tpid = dice.pick(&[0x8100, 0x8100, 0x88a8, 0x9100]);
        // A tag of VLAN 0 has a priority only.
        let tci = dice.pick(&[0, 0xe000, 5, 0x6005, 0xfff]);
        packet.tags.push([tpid, tci]);
    }
}

/// To the shortest frame, as a network card does, but not with zeros: padding must not reach anybody.
fn pad(packet: &mut Packet, _: &mut Dice) {
    const SHORTEST: usize = 60;
    let len = packet.bytes().len();
    if len < SHORTEST {
        packet
            .trailer
            .resize(packet.trailer.len() + SHORTEST - len, 0xaa);
    }
}

/// IPv6's extension headers, in any order.
fn extensions(packet: &mut Packet, dice: &mut Dice) {
    if !packet.is_v6() {
        return;
    }
    for _ in 0..=dice.below(3) {
        let word = dice.u32().to_be_bytes();
        let padding = vec![0, 1, 4, 0, 0, 0, 0];
        let extension = match dice.below(8) {
            // Hop-by-hop and destination options: padding, router alert, a jumbogram's length, one to
            // complain about.
            0 => (0, padding),
            1 => (60, padding),
            2 => (0, vec![0, 5, 2, 0, 0, 1, 0]),
            3 => (0, [&[0, 0xc2, 4][..], &word].concat()),
            4 => (dice.pick(&[0, 60]), vec![0, 0xc3, 4, 0, 0, 0, 0]),
            // Routing headers of several kinds, an atomic fragment.
            5 => {
                let kind = dice.pick(&[0, 2, 3, 4, 254]);
                (43, vec![0, kind, dice.pick(&[0, 1]), 0, 0, 0, 0])
            }
            6 => (44, [&[0, 0, 0][..], &word].concat()),
            _ => (dice.pick(&[51, 59, 135, 139, 253]), dice.bytes(7)),
        };
        packet.extensions.push(extension);
    }
}
