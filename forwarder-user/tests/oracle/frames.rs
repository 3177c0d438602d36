//! Frames as they go in and come out.

use super::cast::Place;

/// What a network card is told beside a frame: `struct virtio_net_hdr` of the kernel's
/// `virtio_net.h`, in the machine's own byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offload {
    /// [`NEEDS_CSUM`], [`DATA_VALID`].
    pub flags: u8,
    /// 0: a single packet.
    pub gso_type: u8,
    /// Bytes of headers; where the kernel says it, of what is in one piece.
    pub hdr_len: u16,
    /// Bytes of payload in each segment.
    pub gso_size: u16,
    /// Where to begin to sum.
    pub csum_start: u16,
    /// Where to put the checksum, from `csum_start` on.
    pub csum_offset: u16,
}

pub const NEEDS_CSUM: u8 = 1;
/// The kernel has found the checksum to be good.
pub const DATA_VALID: u8 = 2;
pub const GSO_TCPV4: u8 = 1;
pub const GSO_TCPV6: u8 = 4;
pub const GSO_UDP_L4: u8 = 5;
/// Beside TCP: the first segment has CWR.
pub const GSO_ECN: u8 = 0x80;

impl Offload {
    pub fn to_bytes(self) -> [u8; 10] {
        let mut bytes = [0; 10];
        bytes[0] = self.flags;
        bytes[1] = self.gso_type;
        let words = [
            self.hdr_len,
            self.gso_size,
            self.csum_start,
            self.csum_offset,
        ];
        for (place, word) in bytes[2..].chunks_mut(2).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    pub fn from_bytes(bytes: &[u8; 10]) -> Self {
        let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Self {
            flags: bytes[0],
            gso_type: bytes[1],
            hdr_len: word(2),
            gso_size: word(4),
            csum_start: word(6),
            csum_offset: word(8),
        }
    }
}

/// A frame to be put in.
#[derive(Clone, Debug)]
pub struct Injection {
    pub place: Place,
    pub offload: Offload,
    pub bytes: Vec<u8>,
    /// What it is: its flow, and what was done to it.
    pub what: Vec<&'static str>,
}

/// A frame that came out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    pub bytes: Vec<u8>,
    pub offload: Offload,
    /// A VLAN tag: TPID and TCI.
    pub tag: Option<[u16; 2]>,
    /// `PACKET_HOST` and so on: whom the receiving interface takes it to be for.
    pub packet_type: u8,
}
