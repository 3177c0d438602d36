//! What a router does to a packet: MACs, TTL or hop limit, header checksum. The first write.

use underpass_common::flow::WayOut;

use crate::{
    family::Family,
    packet::{ETHERNET, OutOfBounds, Skb},
    parse::Packet,
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
pub fn rewrite<F: Family>(
    skb: &Skb,
    packet: &Packet<F::Addr>,
    way_out: &WayOut,
) -> Result<(), Lost> {
    // Short frames come padded to Ethernet's 60 bytes; the kernel's ip_rcv() cuts that off too.
    if packet.frame_len < skb.len() {
        skb.trim(packet.frame_len)?;
    }
    let frame = skb.frame(ETHERNET + F::HEADER);
    frame.write_mac(0, way_out.dst_mac)?;
    frame.write_mac(6, way_out.src_mac)?;
    F::decrement_hops(&frame)?;
    Ok(())
}
