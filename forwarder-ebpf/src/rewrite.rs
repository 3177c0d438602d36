//! What a router does to a packet: MACs, TTL or hop limit, header checksum, priority. The first write.

use crate::{
    family::Family,
    packet::{Buffer, ETHERNET, MacBytes, OutOfBounds},
    parse::Packet,
    words::WayOut,
};

/// After the first write there is no way back to the kernel: the packet is half ours.
pub struct Lost;

impl From<OutOfBounds> for Lost {
    #[inline(always)]
    fn from(_: OutOfBounds) -> Self {
        Lost
    }
}

/// Makes the packet what the kernel would have sent.
#[inline(always)]
pub fn rewrite<F: Family, B: Buffer>(
    buffer: B,
    packet: &Packet<F::Addr>,
    way_out: &WayOut,
) -> Result<(), Lost> {
    // Short frames come padded to Ethernet's 60 bytes; the kernel's ip_rcv() cuts that off too.
    if packet.frame_len < buffer.len() {
        buffer.trim(packet.frame_len)?;
    }
    let frame = buffer.frame(ETHERNET + F::HEADER);
    let macs: MacBytes = frame.bytes(0)?;
    macs.store(way_out.macs);
    F::decrement_hops(buffer, &frame)?;
    F::set_priority(buffer, &frame)?;
    Ok(())
}
