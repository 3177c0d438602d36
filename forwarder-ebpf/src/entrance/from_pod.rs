//! What this node's own pods send.

use underpass_common::{
    addr::Address,
    flow::Direction,
    settings::Settings,
    verdict::{Hook, Verdict},
};

use super::Side;
use crate::{
    family::Family,
    flow::{self, Entry, Found},
    maps,
    packet::{Buffer as _, Frame, OutOfBounds, Skb},
    parse::Packet,
    redirect,
    words::{Entrance, Tuple, WayOut},
};

/// Ingress of a pod's host-side veth.
pub struct FromPod;

impl Side for FromPod {
    const HOOK: Hook = Hook::FromPod;

    #[inline(always)]
    fn entrance<A>(skb: Skb, _: &Settings, packet: &Packet<A>) -> Entrance {
        Entrance {
            ifindex: skb.ifindex(),
            mac: packet.macs.dst(),
        }
    }

    #[inline(always)]
    fn is_pod_traffic<F: Family>(settings: &Settings, frame: &Frame) -> Result<bool, OutOfBounds> {
        Ok(F::is_own(settings, &F::source(frame)?))
    }

    #[inline(always)]
    fn find<F: Family>(packet: &Tuple<F::Addr>) -> Found {
        Found::by::<F>(&packet.key_from_pod())
    }

    #[inline(always)]
    fn may_report<A: Address>(error: &Tuple<A>, quoted: &Tuple<A>) -> bool {
        quoted.dst == error.src && quoted.src == error.dst
    }

    #[inline(always)]
    fn find_quoted<F: Family>(quoted: &Tuple<F::Addr>) -> Found {
        Found::by::<F>(&quoted.key_to_pod())
    }

    #[inline(always)]
    fn is_from_there<F: Family>(_: Skb, _: &Packet<F::Addr>) -> bool {
        true
    }

    #[inline(always)]
    fn own(entry: Entry) -> *mut Direction {
        entry.egress()
    }

    #[inline(always)]
    fn forget_answers<F: Family>(entry: Entry, _: &Tuple<F::Addr>) {
        flow::clear(entry.ingress());
    }

    #[inline(always)]
    fn other<F: Family>(entry: Entry, _: &Tuple<F::Addr>) -> Option<*mut Direction> {
        Some(entry.ingress())
    }

    #[inline(always)]
    fn look_up<F: Family>(packet: &Packet<F::Addr>) -> Result<WayOut, Verdict> {
        F::to_peer(packet.tuple.dst).ok_or(Verdict::NoRoute)
    }

    #[inline(always)]
    fn may_always<F: Family>(packet: &Packet<F::Addr>, entrance: &Entrance) -> bool {
        match F::endpoint(&packet.tuple.src) {
            Some(endpoint) => {
                endpoint.ifindex == entrance.ifindex && endpoint.macs.src() == entrance.mac
            }
            None => false,
        }
    }

    #[inline(always)]
    fn note(entrance: Entrance) {
        if let Some(last) = maps::LAST_STAMPED.get_ptr_mut(0) {
            // SAFETY: this CPU's own entry, in words.
            unsafe { *last.cast::<Entrance>() = entrance }
        }
    }

    #[inline(always)]
    fn redirect(skb: Skb, way_out: &WayOut) -> i32 {
        redirect::to_wire(skb, way_out)
    }
}
