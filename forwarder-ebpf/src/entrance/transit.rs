//! What other nodes' pods send one another, by way of this node.

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

/// Ingress of one of several uplinks. Each direction is a flow of its own.
pub struct Transit;

impl Side for Transit {
    const HOOK: Hook = Hook::FromWire;

    #[inline(always)]
    fn entrance<A>(skb: Skb, settings: &Settings, _: &Packet<A>) -> Entrance {
        Entrance::of_wire(settings, skb.ifindex())
    }

    /// What our own pods send does not come from the wire.
    #[inline(always)]
    fn is_pod_traffic<F: Family>(settings: &Settings, frame: &Frame) -> Result<bool, OutOfBounds> {
        Ok(!F::is_own(settings, &F::source(frame)?))
    }

    /// Most of what is not fast is for the host itself.
    #[inline(always)]
    fn is_known_traffic<F: Family>(packet: &Packet<F::Addr>) -> bool {
        F::to_peer(packet.tuple.dst).is_some()
    }

    #[inline(always)]
    fn find<F: Family>(packet: &Tuple<F::Addr>) -> Found {
        Found::by::<F>(&packet.key_from_pod())
    }

    /// As for [`FromWire`](super::FromWire): any router on the way reports errors.
    #[inline(always)]
    fn may_report<A: Address>(error: &Tuple<A>, quoted: &Tuple<A>) -> bool {
        quoted.src == error.dst
    }

    #[inline(always)]
    fn find_quoted<F: Family>(quoted: &Tuple<F::Addr>) -> Found {
        Found::by::<F>(&quoted.key_to_pod())
    }

    #[inline(always)]
    fn is_from_there<F: Family>(skb: Skb, error: &Packet<F::Addr>) -> bool {
        leads_there::<F>(skb, &error.tuple)
    }

    #[inline(always)]
    fn own(entry: Entry) -> *mut Direction {
        entry.egress()
    }

    #[inline(always)]
    fn forget_answers<F: Family>(_: Entry, packet: &Tuple<F::Addr>) {
        if let Some(answers) = Entry::of_answers::<F>(packet) {
            flow::clear(answers.egress());
        }
    }

    #[inline(always)]
    fn other<F: Family>(_: Entry, quoted: &Tuple<F::Addr>) -> Option<*mut Direction> {
        Entry::of_sender::<F>(quoted).map(Entry::egress)
    }

    #[inline(always)]
    fn look_up<F: Family>(packet: &Packet<F::Addr>) -> Result<WayOut, Verdict> {
        F::to_peer(packet.tuple.dst).ok_or(Verdict::NoRoute)
    }

    #[inline(always)]
    fn redirect(skb: Skb, way_out: &WayOut) -> i32 {
        redirect::to_wire(skb, way_out)
    }
}
