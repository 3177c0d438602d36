//! What is put in: most of it faultless packets of flows, so that the fast path is hit; then
//! everything that may go wrong, and what is no packet of a flow at all.

use super::cast::{Family, Place, UPLINK_MTU, node_addresses};
use super::dice::Dice;
use super::flows::{Direction, Flow, Flows};
use super::frames::{GSO_ECN, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, Injection, NEEDS_CSUM, Offload};
use super::mutate;
use super::packet::Packet;
use super::transport::{Checksum, Transport, octets};

/// Makes injections by chance.
#[derive(Clone, Debug)]
pub struct Generator {
    dice: Dice,
    flows: [Flows; 2],
}

impl Generator {
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let flows = Family::BOTH.map(|family| Flows::new(family, &mut dice));
        Self { dice, flows }
    }

    /// Injections of one family, and of all kinds.
    pub fn batch(&mut self, family: Family, len: usize) -> Vec<Injection> {
        (0..len).map(|_| self.injection(family)).collect()
    }

    /// Nothing but ICMP errors about packets of flows.
    pub fn icmp_errors(&mut self, family: Family, len: usize) -> Vec<Injection> {
        let Self { dice, flows } = self;
        (0..len)
            .map(|_| icmp_error(family, &flows[family as usize].pick(dice), dice))
            .collect()
    }

    /// Nothing but faultless packets that go from one wire to the other.
    pub fn in_transit(&mut self, family: Family, len: usize) -> Vec<Injection> {
        let Self { dice, flows } = self;
        let mut packets = Vec::new();
        while packets.len() < len {
            let flow = flows[family as usize].pick(dice);
            if !flow.is_in_transit() {
                continue;
            }
            let direction = dice.pick(&[Direction::FromPod, Direction::ToPod]);
            let mut packet = flow.packet(direction, dice);
            packet.payload = payload(dice);
            let bytes = packet.bytes();
            packets.push(Injection {
                place: flow.entrance(direction),
                offload: Offload::default(),
                bytes,
                what: vec!["in transit"],
            });
        }
        packets
    }

    fn injection(&mut self, family: Family) -> Injection {
        let dice = &mut self.dice;
        let flow = self.flows[family as usize].pick(dice);
        let direction = dice.pick(&[Direction::FromPod, Direction::ToPod]);
        let place = flow.entrance(direction);
        let mut packet = flow.packet(direction, dice);
        packet.payload = payload(dice);
        let mut what = Vec::new();
        match dice.below(100) {
            0..=54 => {}
            55..=60 => {
                let about = self.flows[family as usize].pick(dice);
                return icmp_error(family, &about, dice);
            }
            61..=66 => return offloaded(place, packet, dice),
            67..=68 => return neighbour_message(family, place, dice),
            69 => return noise(family, place, dice),
            _ => {
                for _ in 0..=dice.below(3) / 2 {
                    what.push(mutate::change(&mut packet, dice));
                }
            }
        }
        finish(place, &packet, what, dice)
    }
}

/// Short in most cases.
fn payload(dice: &mut Dice) -> Vec<u8> {
    let len = match dice.below(20) {
        0 => 1000 + dice.below(520),
        1 => 1200 + dice.below(120),
        _ => dice.below(64),
    };
    dice.bytes(len)
}

fn finish(
    mut place: Place,
    packet: &Packet,
    mut what: Vec<&'static str>,
    dice: &mut Dice,
) -> Injection {
    let mut bytes = packet.bytes();
    if dice.once_in(30) {
        mutate::spoil(&mut bytes, dice);
        what.push("spoiled bytes");
    }
    if dice.once_in(60) {
        place = dice.pick(&Place::ALL);
        what.push("another entrance");
    }
    Injection {
        place,
        offload: Offload::default(),
        bytes,
        what,
    }
}

/// An ICMP error about a packet of a flow: sent by whoever was on the packet's way, to its sender.
fn icmp_error(family: Family, flow: &Flow, dice: &mut Dice) -> Injection {
    // A packet that left by the pod is answered from the wire, and the other way round.
    let direction = dice.pick(&[Direction::FromPod, Direction::ToPod]);
    let mut quoted = flow.packet(direction, dice);
    quoted.payload = payload(dice);
    quoted.hops = dice.pick(&[1, 63]);
    let mut what = vec!["ICMP error"];
    if dice.once_in(3) {
        what.push("of a changed packet");
        mutate::change(&mut quoted, dice);
    }
    let mut quote = quoted.ip_bytes();
    let kept = match dice.below(4) {
        // RFC 792: the header and eight bytes.
        0 => quoted.transport_at() - quoted.ip_at() + 8,
        1 => dice.below(quote.len()),
        _ => quote.len(),
    };
    quote.truncate(kept.min(1232));
    if dice.once_in(6) && !quote.is_empty() {
        what.push("with a spoiled quote");
        let (place, to) = (dice.below(quote.len().min(60)), dice.u8());
        quote[place] = to;
    }
    let mtu = 1200_u32 + dice.below(300) as u32;
    let (kind, code) = match family {
        Family::V4 => dice.pick(&[
            (3, 0),
            (3, 1),
            (3, 3),
            (3, 4),
            (3, 13),
            (11, 0),
            (11, 1),
            (12, 0),
            (4, 0),
            (5, 1),
        ]),
        Family::V6 => dice.pick(&[
            (1, 0),
            (1, 1),
            (1, 3),
            (1, 4),
            (2, 0),
            (3, 0),
            (3, 1),
            (4, 0),
            (4, 1),
        ]),
    };
    let router = match dice.below(8) {
        0 | 1 => Place::Wire.address(family),
        2 => quoted.src,
        3 => mutate::address(family, dice),
        _ => quoted.dst,
    };
    let place = flow.entrance(match direction {
        Direction::FromPod => Direction::ToPod,
        Direction::ToPod => Direction::FromPod,
    });
    let mut packet = Packet::new(
        [place.gateway_mac(), place.mac()],
        [router, quoted.src],
        Transport::Icmp {
            kind,
            code,
            rest: mtu.to_be_bytes(),
        },
    );
    packet.payload = quote;
    if dice.once_in(6) {
        what.push(mutate::change(&mut packet, dice));
    }
    finish(place, &packet, what, dice)
}

/// A packet whose checksum is left to the card, alone or as a train of segments.
fn offloaded(place: Place, mut packet: Packet, dice: &mut Dice) -> Injection {
    packet.checksum = Checksum::Partial;
    let mut what = vec!["partial checksum"];
    let mut gso_type = match (&packet.transport, packet.is_v6()) {
        (Transport::Tcp { .. }, false) => GSO_TCPV4,
        (Transport::Tcp { .. }, true) => GSO_TCPV6,
        (Transport::Udp { .. }, _) => GSO_UDP_L4,
        _ => 0,
    };
    let mut gso_size = 0;
    if gso_type != 0 && dice.once_in(2) {
        what.push("segment train");
        let full = UPLINK_MTU - 40 - packet.transport.header_len() as u16;
        let any = 1 + dice.below(2000) as u16;
        gso_size = dice.pick(&[full, full, 536, 1200, full + 1, full + 20, any]);
        let segments = 1 + dice.below(dice_limit(gso_size));
        let last = dice.below(usize::from(gso_size));
        packet.payload = dice.bytes(segments * usize::from(gso_size) + last);
    } else {
        gso_type = 0;
    }
    if dice.once_in(8) {
        packet.payload.truncate(60_000);
        what.push(mutate::change(&mut packet, dice));
    }
    let is_odd = dice.once_in(8);
    if is_odd && dice.once_in(3) {
        // So that the checksum may belong behind the packet's end.
        let len = 1 + dice.below(60);
        packet.trailer = dice.bytes(len);
    }
    let start = packet.transport_at();
    let offload = Offload {
        flags: NEEDS_CSUM,
        gso_type,
        hdr_len: (start + packet.transport.header_len()) as u16,
        gso_size,
        csum_start: start as u16,
        csum_offset: packet.transport.checksum_at() as u16,
    };
    let mut injection = finish(place, &packet, what, dice);
    injection.offload = offload;
    if is_odd {
        injection.what.push("odd vnet header");
        make_odd(&mut injection.offload, dice);
    }
    injection
}

fn make_odd(offload: &mut Offload, dice: &mut Dice) {
    // Not type 3, fragments of UDP (UFO): the kernel itself makes none any more, and gives those of
    // IPv6 an identification by chance.
    const TYPES: [u8; 5] = [0, GSO_TCPV4, GSO_TCPV4 | GSO_ECN, GSO_TCPV6, GSO_UDP_L4];
    let any = dice.u16();
    match dice.below(5) {
        0 => offload.csum_start = any % 120,
        1 => offload.csum_offset = any % 120,
        2 => offload.gso_size = any,
        3 => offload.hdr_len = any % 200,
        _ => offload.gso_type = dice.pick(&TYPES),
    }
}

/// So many full segments that a train stays short of 64 KiB.
fn dice_limit(gso_size: u16) -> usize {
    (60_000 / usize::from(gso_size.max(1))).clamp(1, 40)
}

/// ARP, or neighbour discovery, from who is known: whoever is not would become a neighbour.
fn neighbour_message(family: Family, place: Place, dice: &mut Dice) -> Injection {
    let [on_wire, to_pods, on_other_wire] = node_addresses(family);
    let node = match place {
        Place::Wire => on_wire,
        Place::OtherWire => on_other_wire,
        _ => to_pods,
    };
    let own = place.address(family);
    let unknown = dice.pick(&Place::PODS).address(family);
    let target = dice.pick(&[node, node, unknown]);
    let dst_mac = dice.pick(&[[0xff; 6], place.gateway_mac(), [0x33, 0x33, 0xff, 0, 0, 1]]);
    let mut bytes;
    match family {
        Family::V4 => {
            let operation = dice.pick(&[1, 1, 2]);
            bytes = [
                &dst_mac[..],
                &place.mac(),
                &[8, 6, 0, 1, 8, 0, 6, 4, 0, operation],
            ]
            .concat();
            bytes.extend(place.mac());
            bytes.extend(octets(own));
            bytes.extend([0; 6]);
            bytes.extend(octets(target));
        }
        Family::V6 => {
            let kind = dice.pick(&[135, 135, 136, 133]);
            let transport = Transport::Icmp {
                kind,
                code: 0,
                rest: [0x60, 0, 0, 0],
            };
            let mut packet = Packet::new([dst_mac, place.mac()], [own, target], transport);
            packet.hops = dice.pick(&[255, 255, 64]);
            if kind != 133 {
                packet.payload = octets(target);
            }
            packet.payload.extend([1, 1]);
            packet.payload.extend(place.mac());
            bytes = packet.bytes();
        }
    }
    Injection {
        place,
        offload: Offload::default(),
        bytes,
        what: vec!["neighbour message"],
    }
}

/// Anything, or anything behind an IP header's first byte.
fn noise(family: Family, place: Place, dice: &mut Dice) -> Injection {
    let len = 14 + dice.below(120);
    let mut bytes = dice.bytes(len);
    bytes[..6].copy_from_slice(&place.gateway_mac());
    // No group: a station's own address.
    bytes[6] &= 0xfe;
    if dice.once_in(2) && len > 14 {
        let start: [u8; 3] = match family {
            Family::V4 => [0x08, 0x00, 0x45],
            Family::V6 => [0x86, 0xdd, 0x60],
        };
        bytes[12..15].copy_from_slice(&start);
    }
    Injection {
        place,
        offload: Offload::default(),
        bytes,
        what: vec!["noise"],
    }
}
