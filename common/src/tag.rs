//! The witness that a packet carries through the kernel, in `skb->tc_index`.
//!
//! 16 bits: the highest says "fast, let me pass"; the lower 15 are the tag that an entrance stamps
//! on a packet which it leaves to the kernel, and that an exit computes again from what the kernel
//! is about to send.

use crate::addr::Address;
use crate::flow::{Entrance, Tuple};

/// Set on a redirected packet: an exit lets it pass without a look.
pub const FAST: u16 = 0x8000;
/// No tag: the packet came by none of our entrances.
pub const NONE: u16 = 0;

/// The tag of a packet with `tuple` that came in at `entrance`: 1 ..= 0x7fff.
///
/// `seed` is the agent's, drawn at random, so that nobody can make two tuples of one tag on purpose.
#[inline(always)]
pub fn tag<A: Address>(seed: u32, tuple: &Tuple<A>, entrance: &Entrance) -> u16 {
    let ports = [tuple.src_port, tuple.dst_port].map(u16::from_ne_bytes);
    let [a, b, c, d, e, f] = entrance.mac;
    let parts = Parts {
        addresses: [tuple.src.fold(), tuple.dst.fold()],
        ports,
        protocol: tuple.protocol,
        icmp_type: tuple.icmp_type,
        mac: u64::from_ne_bytes([a, b, c, d, e, f, 0, 0]),
        ifindex: entrance.ifindex,
    };
    parts.tag(seed)
}

/// What a tag is made of, as words.
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    /// Source and destination, [folded](Address::fold).
    pub addresses: [u64; 2],
    /// Source and destination port, as the machine loads them.
    pub ports: [u16; 2],
    /// IP protocol number.
    pub protocol: u8,
    /// ICMP type, else 0.
    pub icmp_type: u8,
    /// The entrance's MAC as the machine loads it, with two zeros behind it.
    pub mac: u64,
    /// The entrance's interface index.
    pub ifindex: u32,
}

impl Parts {
    /// See [`tag`].
    #[inline(always)]
    pub fn tag(self, seed: u32) -> u16 {
        let [src, dst] = self.addresses;
        let [src_port, dst_port] = self.ports.map(u64::from);
        let ports = src_port << 16 | dst_port;
        let mut hash = mix(u64::from(seed), src);
        hash = mix(hash, dst);
        hash = mix(
            hash,
            ports << 16 | u64::from(self.protocol) << 8 | u64::from(self.icmp_type),
        );
        hash = mix(hash, self.mac);
        hash = mix(hash, u64::from(self.ifindex));
        folded(hash)
    }
}

/// 15 bits of a hash, and never 0, which means "no tag".
#[inline(always)]
fn folded(hash: u64) -> u16 {
    match (hash >> 49) as u16 {
        NONE => 1,
        tag => tag,
    }
}

/// One round of a multiply-xorshift hash (the finalizer of MurmurHash3, by Austin Appleby).
#[inline(always)]
fn mix(hash: u64, word: u64) -> u64 {
    let mut x = hash ^ word;
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x.wrapping_mul(0xc4ce_b9fe_1a85_ec53)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn tuple(src: u32, dst: u32, src_port: u16, dst_port: u16) -> Tuple<[u8; 4]> {
        Tuple {
            src: src.to_be_bytes(),
            dst: dst.to_be_bytes(),
            src_port: src_port.to_be_bytes(),
            dst_port: dst_port.to_be_bytes(),
            protocol: 6,
            icmp_type: 0,
        }
    }

    proptest! {
        #[test]
        fn a_tag_fits_its_bits_and_is_never_none(seed: u32, src: u32, dst: u32, sport: u16, dport: u16) {
            let tag = tag(seed, &tuple(src, dst, sport, dport), &Entrance::WIRE);
            prop_assert!(tag != NONE && tag & FAST == 0);
        }
    }

    /// Neighbouring tuples, such as real traffic has, spread over the tags as chance would.
    #[test]
    fn neighbouring_tuples_rarely_share_a_tag() {
        let mut seen = BTreeMap::<u16, u32>::new();
        let count = 0x7fff;
        for n in 0..count {
            let tuple = tuple(
                0x0af4_0102,
                0x0af4_0200 + n % 250,
                32768 + (n / 250) as u16,
                80,
            );
            *seen.entry(tag(7, &tuple, &Entrance::WIRE)).or_default() += 1;
        }
        // Throwing n balls into n bins leaves about 1/e of the bins empty.
        let empty = 1.0 - seen.len() as f64 / f64::from(count);
        assert!((0.35..0.39).contains(&empty), "{empty} of the tags unused");
        assert!(seen.values().all(|&balls| balls < 12));
    }

    #[test]
    fn what_comes_in_elsewhere_has_another_tag() {
        let tuple = tuple(1, 2, 3, 4);
        let pod = Entrance {
            ifindex: 5,
            mac: [2, 0, 0, 0, 0, 1],
            _pad: [0; 2],
        };
        let other_veth = Entrance { ifindex: 6, ..pod };
        let other_gateway = Entrance {
            mac: [2, 0, 0, 0, 0, 2],
            ..pod
        };
        let tags = [&pod, &other_veth, &other_gateway, &Entrance::WIRE].map(|e| tag(9, &tuple, e));
        for (n, one) in tags.iter().enumerate() {
            assert!(tags[n + 1..].iter().all(|two| one != two));
        }
    }
}
