//! Addresses as they stand on the wire: bytes in network order.

use core::fmt;
use core::net::IpAddr;

/// A MAC address (IEEE 802 EUI-48), first byte first.
pub type Mac = [u8; 6];

/// No MAC address: what an entry without one holds.
pub const NO_MAC: Mac = [0; 6];

/// Shows a MAC address as people write it: `0a:58:0a:f4:01:02`.
#[derive(Clone, Copy)]
pub struct ShowMac(pub Mac);

impl fmt::Display for ShowMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// An IP address of either family, as bytes in network order.
pub trait Address: Copy + Eq {
    /// The address folded into 64 bits, for hashing only.
    fn fold(&self) -> u64;
    /// True where `self` lies in `network/mask`.
    fn within(&self, network: &Self, mask: &Self) -> bool;
}

impl Address for [u8; 4] {
    #[inline(always)]
    fn fold(&self) -> u64 {
        u64::from(u32::from_ne_bytes(*self))
    }

    #[inline(always)]
    fn within(&self, network: &Self, mask: &Self) -> bool {
        let difference = u32::from_ne_bytes(*self) ^ u32::from_ne_bytes(*network);
        difference & u32::from_ne_bytes(*mask) == 0
    }
}

impl Address for [u8; 16] {
    #[inline(always)]
    fn fold(&self) -> u64 {
        let all = u128::from_ne_bytes(*self);
        (all as u64) ^ ((all >> 64) as u64).rotate_left(23)
    }

    #[inline(always)]
    fn within(&self, network: &Self, mask: &Self) -> bool {
        let difference = u128::from_ne_bytes(*self) ^ u128::from_ne_bytes(*network);
        difference & u128::from_ne_bytes(*mask) == 0
    }
}

/// An IPv4 address as programs hold it: the same bytes in memory as `[u8; 4]`, in a word.
impl Address for [u32; 1] {
    #[inline(always)]
    fn fold(&self) -> u64 {
        u64::from(self[0])
    }

    #[inline(always)]
    fn within(&self, network: &Self, mask: &Self) -> bool {
        (self[0] ^ network[0]) & mask[0] == 0
    }
}

/// An IPv6 address as programs hold it: the same bytes in memory as `[u8; 16]`, in words, for the
/// compiler would move single bytes about.
impl Address for [u32; 4] {
    #[inline(always)]
    fn fold(&self) -> u64 {
        let [a, b, c, d] = self.map(u64::from);
        // As `u128::from_ne_bytes` has them, on the little-endian machines that programs are built for.
        (a | b << 32) ^ (c | d << 32).rotate_left(23)
    }

    #[inline(always)]
    fn within(&self, network: &Self, mask: &Self) -> bool {
        let mut difference = 0;
        let mut word = 0;
        while word < 4 {
            difference |= (self[word] ^ network[word]) & mask[word];
            word += 1;
        }
        difference == 0
    }
}

/// For user space, where an address may be of either family: the same values as its bytes have.
impl Address for IpAddr {
    fn fold(&self) -> u64 {
        match self {
            Self::V4(v4) => v4.octets().fold(),
            Self::V6(v6) => v6.octets().fold(),
        }
    }

    fn within(&self, network: &Self, mask: &Self) -> bool {
        match (self, network, mask) {
            (Self::V4(own), Self::V4(network), Self::V4(mask)) => {
                own.octets().within(&network.octets(), &mask.octets())
            }
            (Self::V6(own), Self::V6(network), Self::V6(mask)) => {
                own.octets().within(&network.octets(), &mask.octets())
            }
            _ => false,
        }
    }
}

/// An address block as the programs test it: an address `a` lies in it where
/// `(a ^ network) & mask == 0`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Block<A> {
    /// The block's first address.
    pub network: A,
    /// Ones where the prefix is, zeros behind it.
    pub mask: A,
}

impl<A: Address> Block<A> {
    /// True where `address` lies in this block.
    #[inline(always)]
    pub fn contains(&self, address: &A) -> bool {
        address.within(&self.network, &self.mask)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn a_mac_is_shown_as_people_write_it() {
        assert_eq!(
            ShowMac([0x0a, 0x58, 0x0a, 0xf4, 0x01, 0x02]).to_string(),
            "0a:58:0a:f4:01:02"
        );
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn an_address_in_words_is_the_same_address() {
        let bytes: [u8; 16] = core::array::from_fn(|n| (n * 17 + 3) as u8);
        let words: [u32; 4] = core::array::from_fn(|n| {
            u32::from_ne_bytes(bytes[4 * n..4 * n + 4].try_into().unwrap())
        });
        assert_eq!(words.fold(), bytes.fold());
        assert_eq!(IpAddr::from(bytes).fold(), bytes.fold());
        for bit in 0..128 {
            let (mut network, mut mask) = (words, [0; 4]);
            network[bit / 32] ^= 1 << (bit % 32);
            assert!(words.within(&network, &mask));
            mask[bit / 32] = 1 << (bit % 32);
            assert!(!words.within(&network, &mask));
        }
    }

    #[test]
    fn a_block_contains_its_own_and_nothing_beside() {
        let block = Block::<[u8; 4]> {
            network: [10, 244, 2, 0],
            mask: [255, 255, 255, 0],
        };
        assert!(block.contains(&[10, 244, 2, 0]));
        assert!(block.contains(&[10, 244, 2, 255]));
        assert!(!block.contains(&[10, 244, 3, 0]));
        let mut network = [0u8; 16];
        network[0] = 0xfd;
        let mut mask = [0u8; 16];
        mask[..8].fill(0xff);
        let block = Block { network, mask };
        let mut inside = network;
        inside[15] = 9;
        assert!(block.contains(&inside));
        inside[7] = 1;
        assert!(!block.contains(&inside));
    }
}
