//! What other nodes send to this node's pods.

use underpass_common::{
    addr::Address,
    flow::Direction,
    settings::Settings,
    verdict::{Hook, Verdict},
};

use super::{Side, leads_there};
use crate::{
    family::Family,
    flow::{self, Entry, Found},
    packet::{Buffer as _, Frame, OutOfBounds, Skb},
    parse::Packet,
    redirect,
    words::{Entrance, Tuple, WayOut},
};

/// Ingress of an uplink.
pub struct FromWire;

impl Side for FromWire {
    const HOOK: Hook = Hook::FromWire;

    #[inline(always)]
    fn entrance<A>(skb: Skb, settings: &Settings, _: &Packet<A>) -> Entrance {
        Entrance::of_wire(settings, skb.ifindex())
    }

    #[inline(always)]
    fn is_pod_traffic<F: Family>(settings: &Settings, frame: &Frame) -> Result<bool, OutOfBounds> {
        Ok(F::is_own(settings, &F::destination(frame)?))
    }

    #[inline(always)]
    fn find<F: Family>(packet: &Tuple<F::Addr>) -> Found {
        Found::by::<F>(&packet.key_to_pod())
    }

    /// Not only the far pod reports errors: any router on the way does.
    #[inline(always)]
    fn may_report<A: Address>(error: &Tuple<A>, quoted: &Tuple<A>) -> bool {
        quoted.src == error.dst
    }

    #[inline(always)]
    fn find_quoted<F: Family>(quoted: &Tuple<F::Addr>) -> Found {
        Found::by::<F>(&quoted.key_from_pod())
    }

    #[inline(always)]
    fn is_from_there<F: Family>(skb: Skb, error: &Packet<F::Addr>) -> bool {
        leads_there::<F>(skb, &error.tuple)
    }

    #[inline(always)]
    fn own(entry: Entry) -> *mut Direction {
        entry.ingress()
    }

    #[inline(always)]
    fn forget_answers<F: Family>(entry: Entry, _: &Tuple<F::Addr>) {
        flow::clear(entry.egress());
    }

    #[inline(always)]
    fn other<F: Family>(entry: Entry, _: &Tuple<F::Addr>) -> Option<*mut Direction> {
        Some(entry.egress())
    }

    #[inline(always)]
    fn look_up<F: Family>(packet: &Packet<F::Addr>) -> Result<WayOut, Verdict> {
        F::endpoint(&packet.tuple.dst).ok_or(Verdict::NoEndpoint)
    }

    #[inline(always)]
    fn redirect(skb: Skb, way_out: &WayOut) -> i32 {
        redirect::to_pod(skb, way_out)
    }
}
