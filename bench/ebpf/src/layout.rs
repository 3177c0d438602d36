//! What the benchmark's programs and its user space agree on. User space reads this very file, for a program's
//! crate is built for its own target alone.

/// A frame that waits for its turn under the program that is measured: the map `frames`. In parts as they are stored
/// into the packet, so that whoever reads the packet next finds each field within one of the stores, as the CPU's
/// store buffer wants it.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PreparedFrame {
    /// Bytes 0 to 7: destination MAC, and the source MAC's first two bytes.
    pub macs: [u8; 8],
    /// Bytes 8 to 11: the rest of the source MAC.
    pub src_mac_rest: [u8; 4],
    /// Bytes 12 and 13: the EtherType.
    pub ether_type: [u8; 2],
    /// `skb->tc_index` of the packet.
    pub tc_index: u16,
    /// Bytes 14 to 53: IPv4 and TCP header, both without options; or IPv4 and UDP header, and what follows.
    pub headers: [[u8; 8]; 5],
}

const _: () = assert!(size_of::<PreparedFrame>() == 56);

/// Length of such a frame in bytes.
pub const FRAME: usize = 54;

/// Whose turn it is: the only entry of the map `turn`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Index of the first frame of this turn's.
    pub first: u32,
    /// How many there are, less one. They are a power of two.
    pub mask: u32,
    /// How many packets there have been: the next one is `first + (packets & mask)`.
    pub packets: u32,
    /// Always 0.
    pub _pad: u32,
}

const _: () = assert!(size_of::<Turn>() == 16);

/// The MAC address to which frames that come in by a device are sent when they are to be routed: value of the map
/// `routed`, by the device's index.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Routed {
    /// The device's own, or that of the bridge it is a port of.
    pub mac: [u8; 6],
    /// Always 0.
    pub _pad: [u8; 2],
}

const _: () = assert!(size_of::<Routed>() == 8);

/// Where packets for an address go: value of the map `straight_ways`, by that address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StraightWay {
    /// The device to redirect to; of a pod its host-side veth.
    pub ifindex: u32,
    /// Destination and source MAC, as they begin a frame.
    pub macs: [u32; 3],
    /// 1: into the namespace at the device's other end; 0: out of the device.
    pub is_into_pod: u32,
}

const _: () = assert!(size_of::<StraightWay>() == 20);

/// Where a flood goes, and what its frames look like after the router: the only entry of the map `flooding`.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flooding {
    /// The device that `flood` sends by.
    pub ifindex: u32,
    /// The MAC address that a routed frame is for.
    pub dst_mac: [u8; 6],
    /// The TTL of a routed packet.
    pub ttl: u8,
    /// Always 0.
    pub _pad: u8,
}

const _: () = assert!(size_of::<Flooding>() == 12);

/// What has come to a sink: the only entry of the map `sunk`, by CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sunk {
    /// Frames of a flood as they should be.
    pub routed: u64,
    /// Frames of a flood with another MAC address or TTL.
    pub astray: u64,
}

const _: () = assert!(size_of::<Sunk>() == 16);

/// The UDP port that a flood's packets are for, as a number: discard (RFC 863).
pub const DISCARD: u16 = 9;

/// The answer of `rotate` where there is no frame or no program under test.
pub const NOT_CALLED: i32 = 0x7e57;
