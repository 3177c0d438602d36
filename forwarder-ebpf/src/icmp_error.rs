//! ICMP errors: they follow the flow of the packet that they quote.
//!
//! Conntrack may have forgotten a flow that goes past it, and then takes an error about it for
//! INVALID, which kube-proxy's rules drop: path MTU discovery (RFC 1191, RFC 8201) would end. So an
//! error about a flow whose *both* directions the kernel has confirmed goes fast, like any packet of
//! that flow in the error's own direction. Where its own direction was never confirmed, a policy
//! may forbid it: the error is the kernel's, and so is the next packet of the flow that it is about, so that
//! conntrack knows that flow when the next error comes.

use underpass_common::{
    flow::{PROTOCOL_TCP, PROTOCOL_UDP},
    verdict::Verdict,
};

use crate::{
    entrance::Side,
    family::Family,
    flow::{self, Entry, Now},
    packet::{Buffer as _, ETHERNET, Skb},
    parse::{ICMP_HEADER, Names, Packet},
    words::{Entrance, Tuple},
};

/// Bytes of the quoted transport header that every error has (RFC 792).
const QUOTED: usize = 8;

/// Whether an error may follow the flow that it is about; `Err` says why it is the kernel's. A
/// function of its own, as `parse` is.
#[inline(never)]
pub fn follow<F: Family, S: Side>(
    skb: Skb,
    packet: &Packet<F::Addr>,
    entrance: &Entrance,
    now: &Now,
) -> Result<(), Verdict> {
    let quoted = read_quoted::<F>(skb, packet).ok_or(Verdict::Icmp)?;
    let key = S::quoted_key::<F>(&packet.tuple, &quoted).ok_or(Verdict::Icmp)?;
    let entry = Entry::find::<F>(&key).ok_or(Verdict::Icmp)?;
    let (own, other) = S::directions(entry);
    if flow::way_out(entry, &key, own, entrance, packet.tcp_flags, *now).is_err() {
        flow::clear(other);
        return Err(Verdict::Icmp);
    }
    if !flow::is_confirmed(other, *now) {
        return Err(Verdict::Icmp);
    }
    Ok(())
}

/// Reads the tuple of the packet that an error quotes, in that packet's own direction. `None`: it is
/// cut off, or none that has a flow.
#[inline(always)]
fn read_quoted<F: Family>(skb: Skb, packet: &Packet<F::Addr>) -> Option<Tuple<F::Addr>> {
    let start = ETHERNET + F::HEADER + ICMP_HEADER;
    let transport = start + F::HEADER;
    let end = transport + QUOTED;
    if packet.frame_len < end as u32 {
        return None;
    }
    let frame = skb.frame(end);
    let quoted = F::quoted(&frame, start)?;
    let names = if quoted.protocol == PROTOCOL_TCP || quoted.protocol == PROTOCOL_UDP {
        Names::of_ports(&frame, transport).ok()?
    } else if quoted.protocol == F::ICMP {
        Names::of_echo::<F>(&frame, transport).ok()??
    } else {
        return None;
    };
    Some(quoted.tuple(names))
}
