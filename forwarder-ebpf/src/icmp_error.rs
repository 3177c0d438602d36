//! ICMP errors: they follow the flow of the packet that they quote.
//!
//! Conntrack may have forgotten a flow that goes past it, and then takes an error about it for
//! INVALID, which kube-proxy's rules drop: path MTU discovery (RFC 1191, RFC 8201) would end. So an
//! error about a flow whose *both* directions the kernel has confirmed goes fast, like any packet of
//! that flow in the error's own direction. Where its own direction was never confirmed, a policy
//! may forbid it: the error is the kernel's, and so is the next packet of the flow that it is about, so that
//! conntrack knows that flow when the next error comes.

use core::mem::MaybeUninit;

use underpass_common::{
    flow::{PROTOCOL_TCP, PROTOCOL_UDP},
    settings::Offload,
    tag,
};

use crate::{
    entrance::{Side, of_pods},
    family::Family,
    flow::{self, Found, Now},
    maps,
    packet::{Buffer as _, ETHERNET, Skb},
    parse::{ICMP_HEADER, Kind, Names, Packet},
    words::{Entrance, Tuple},
};

/// Bytes of the quoted transport header that every error has (RFC 792).
const QUOTED: usize = 8;

/// Stands in the witness's place, until it is read, of an error that may go fast.
const GOOD: u16 = 1;

/// Notes beside the packet whether it is an error that may go fast. A look at two bytes, for what is none.
///
/// Not in an argument: where one path calls a function with `false` and another with `true`, the verifier of Linux 6.1
/// may look at the first alone, and drops from the program what only the other would have done.
#[inline(always)]
pub fn judge<F: Family, S: Side>(skb: Skb) {
    let frame = skb.frame(ETHERNET + F::HEADER + ICMP_HEADER);
    let is_good = F::holds_error(&frame) && may_follow::<F, S>(skb);
    skb.set_witness(if is_good { GOOD } else { tag::NONE });
}

/// What [`judge`] has noted.
#[inline(always)]
pub fn was_judged_good(skb: Skb) -> bool {
    skb.witness() == GOOD
}

/// Whether an error may follow the flow that it is about. On a stack of its own, beside that of the way that all
/// packets go.
#[inline(never)]
fn may_follow<F: Family, S: Side>(skb: Skb) -> bool {
    let mut place = MaybeUninit::uninit();
    let settings = match maps::settings() {
        Some(settings) if settings.offload == Offload::Confirmed as u8 => settings,
        _ => return false,
    };
    match of_pods::<F, S>(skb, settings, &mut place) {
        Ok(error) if error.kind == Kind::IcmpError => {
            let entrance = S::entrance(skb, settings, error);
            follow::<F, S>(skb, error, &entrance, Now::of(settings))
                && S::is_from_there::<F>(skb, error)
        }
        _ => false,
    }
}

/// False also where the next packet of the flow is to be the kernel's, too.
#[inline(always)]
fn follow<F: Family, S: Side>(
    skb: Skb,
    error: &Packet<F::Addr>,
    entrance: &Entrance,
    now: Now,
) -> bool {
    let Some(quoted) = read_quoted::<F>(skb, error) else {
        return false;
    };
    if !S::may_report(&error.tuple, &quoted) {
        return false;
    }
    let Found { entry, check } = S::find_quoted::<F>(&quoted);
    let Some(entry) = entry else {
        return false;
    };
    let own = S::own(entry);
    let is_fast = flow::way_out(entry, check, own, entrance, error.tcp_flags, now).is_ok();
    let Some(other) = S::other::<F>(entry, &quoted) else {
        return false;
    };
    if !is_fast {
        flow::clear(other);
    }
    is_fast && flow::is_confirmed(other, now)
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
