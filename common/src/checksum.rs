//! IPv4 header checksum (RFC 791, RFC 1071) and its change when a router takes one off the TTL; what
//! stands in a transport header's checksum field before there is a checksum.

/// True where the checksum of an IPv4 header without options is right (RFC 1071: the ones'
/// complement sum over the header, checksum included, is all ones).
#[inline(always)]
pub fn ipv4_header_is_valid(header: &[u32; 5]) -> bool {
    let mut sum = 0u64;
    let mut word = 0;
    while word < 5 {
        sum += u64::from(header[word]);
        word += 1;
    }
    // A sum of five 32-bit words has at most 35 bits; three folds bring it to 16.
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum == 0xffff
}

/// The IPv4 header checksum, in network order, after the TTL went down by one.
///
/// The same arithmetic as `ip_decrease_ttl()` in the kernel's `include/net/ip.h` (RFC 1141), bit for
/// bit, so that a packet forwarded here cannot be told from one that the kernel forwarded.
#[inline(always)]
pub fn after_ttl_decrement(checksum: [u8; 2]) -> [u8; 2] {
    let sum = u32::from(u16::from_ne_bytes(checksum)) + u32::from(0x0100u16.to_be());
    let carry = u32::from(sum >= 0xffff);
    ((sum + carry) as u16).to_ne_bytes()
}

/// The ones' complement sum over the pseudo header of TCP and UDP (RFC 9293, RFC 768; RFC 8200 for
/// IPv6), in network order as the machine loads it: 1 ..= 0xffff.
///
/// A sender that leaves the checksum to its NIC puts this into the field, for the NIC to go on from
/// (`CHECKSUM_PARTIAL`, `__tcp_v4_send_check()` in the kernel's `net/ipv4/tcp_ipv4.c`). Where no NIC is
/// on the way, as between veths, that is what arrives. `src` and `dst` are addresses as they stand in
/// memory; `len` is that of transport header and payload, in bytes.
#[inline(always)]
pub fn pseudo_header_sum(src: &[u32], dst: &[u32], protocol: u8, len: u32) -> u16 {
    let mut sum = u64::from(len.to_be()) + u64::from(u32::from(protocol).to_be());
    for word in src {
        sum += u64::from(*word);
    }
    for word in dst {
        sum += u64::from(*word);
    }
    // Ten 32-bit words make at most 36 bits.
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071, written down as the RFC says it: the slow way.
    fn checksum_of(header: &[u8; 20]) -> [u8; 2] {
        let mut sum = 0u32;
        for pair in header.chunks_exact(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (!(sum as u16)).to_be_bytes()
    }

    fn words(header: &[u8; 20]) -> [u32; 5] {
        core::array::from_fn(|word| {
            u32::from_ne_bytes(header[word * 4..word * 4 + 4].try_into().unwrap())
        })
    }

    fn with_checksum(mut header: [u8; 20]) -> [u8; 20] {
        header[10..12].fill(0);
        let checksum = checksum_of(&header);
        header[10..12].copy_from_slice(&checksum);
        header
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn a_right_header_is_valid(header: [u8; 20]) {
            prop_assert!(ipv4_header_is_valid(&words(&with_checksum(header))));
        }

        #[test]
        fn a_flipped_bit_makes_it_invalid(header: [u8; 20], bit in 0usize..160) {
            let mut header = with_checksum(header);
            header[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!ipv4_header_is_valid(&words(&header)));
        }

        #[test]
        fn the_pseudo_header_is_summed_as_the_rfc_says(src: [u8; 16], dst: [u8; 16], v6: bool, protocol: u8, len in 8u32..=0xffff) {
            let used = if v6 { 16 } else { 4 };
            let mut pseudo: std::vec::Vec<u8> = [&src[..used], &dst[..used]].concat();
            pseudo.extend(len.to_be_bytes());
            pseudo.extend(u32::from(protocol).to_be_bytes());
            let mut sum = 0u32;
            for pair in pseudo.chunks_exact(2) {
                sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
            }
            while sum > 0xffff {
                sum = (sum & 0xffff) + (sum >> 16);
            }
            let in_words = |address: &[u8]| -> std::vec::Vec<u32> {
                address.chunks_exact(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap())).collect()
            };
            let ours = pseudo_header_sum(&in_words(&src[..used]), &in_words(&dst[..used]), protocol, len);
            prop_assert_eq!(ours.to_ne_bytes(), (sum as u16).to_be_bytes());
            prop_assert_ne!(ours, 0);
        }

        #[test]
        fn a_decremented_ttl_leaves_the_header_valid(header: [u8; 20], ttl in 1u8..) {
            let mut header = header;
            header[8] = ttl;
            let mut header = with_checksum(header);
            header[8] -= 1;
            let patched = after_ttl_decrement([header[10], header[11]]);
            header[10..12].copy_from_slice(&patched);
            prop_assert!(ipv4_header_is_valid(&words(&header)));
        }
    }

    #[test]
    fn the_edges_are_the_kernels() {
        // check + htons(0x0100), and one more where that reaches 0xffff: see ip_decrease_ttl().
        for before in 0..=u16::MAX {
            let sum = u32::from(before) + u32::from(0x0100u16.to_be());
            let after = (sum + u32::from(sum >= 0xffff)) as u16;
            assert_eq!(
                after_ttl_decrement(before.to_ne_bytes()),
                after.to_ne_bytes()
            );
        }
        // In the order of the wire: 0xfeff + 0x0100 reaches all ones, which is written as zero.
        assert_eq!(after_ttl_decrement([0xfe, 0xff]), [0x00, 0x00]);
        assert_eq!(after_ttl_decrement([0xff, 0xff]), [0x01, 0x00]);
    }
}
