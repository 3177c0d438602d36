//! What may happen to a frame: bits flipped, bytes set, lengths that lie.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::builder::ETHERNET;
use crate::transport::internet_checksum;

/// A change of a frame.
#[derive(Clone, Debug)]
pub enum Mutation {
    Flip { bit: usize },
    Set { at: usize, to: u8 },
    Ttl(u8),
    HopLimit(u8),
    Shorten(usize),
    Lengthen(Vec<u8>),
    TotalLen(i8),
}

pub fn mutation() -> impl Strategy<Value = Mutation> {
    // As far as the ports that an error quotes.
    let header = ETHERNET + 40 + 8 + 40 + 8;
    prop_oneof![
        (0..header * 8).prop_map(|bit| Mutation::Flip { bit }),
        (0..header, any::<u8>()).prop_map(|(at, to)| Mutation::Set { at, to }),
        (0..4u8).prop_map(Mutation::Ttl),
        (0..4u8).prop_map(Mutation::HopLimit),
        (1..40usize).prop_map(Mutation::Shorten),
        vec(any::<u8>(), 1..30).prop_map(Mutation::Lengthen),
        (-30..10i8).prop_map(Mutation::TotalLen),
    ]
}

impl Mutation {
    pub fn apply(&self, frame: &mut Vec<u8>) {
        let len = frame.len();
        match self {
            Self::Flip { bit } => frame[bit / 8 % len] ^= 1 << (bit % 8),
            Self::Set { at, to } => frame[at % len] = *to,
            Self::Ttl(ttl) => drop(frame.get_mut(ETHERNET + 8).map(|byte| *byte = *ttl)),
            Self::HopLimit(hops) => drop(frame.get_mut(ETHERNET + 7).map(|byte| *byte = *hops)),
            Self::Shorten(by) => frame.truncate((len - by.min(&len)).max(ETHERNET)),
            Self::Lengthen(by) => frame.extend(by),
            Self::TotalLen(by) => {
                let at = ETHERNET + if frame[12] == 0x86 { 4 } else { 2 };
                if let Some([high, low]) = frame.get_mut(at..at + 2) {
                    let total = u16::from_be_bytes([*high, *low]).wrapping_add_signed((*by).into());
                    [*high, *low] = total.to_be_bytes();
                }
            }
        }
    }
}

/// Gives the frame a right IPv4 header checksum, so that it gets past the first check.
pub fn repair(frame: &mut [u8]) {
    if frame.get(12..14) == Some(&[0x86, 0xdd]) {
        return;
    }
    if let Some(header) = frame.get_mut(ETHERNET..ETHERNET + 20) {
        header[10..12].fill(0);
        let checksum = internet_checksum(header);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
}
