//! The entrances: a packet takes the fast path here, or is stamped and left to the kernel.

mod from_pod;
mod from_wire;
mod transit;

use core::mem::MaybeUninit;

use underpass_common::{
    addr::Address,
    flow::Direction,
    settings::{Offload, Settings},
    tag,
    verdict::{Hook, Verdict},
};

use crate::{
    family::{Family, IpVersion, V4, V6},
    flow::{self, Cached, Entry, Found, Now},
    icmp_error, maps,
    packet::{Buffer as _, ETHERNET, Frame, OutOfBounds, Skb},
    packet_trace,
    parse::{Kind, Packet, parse},
    redirect, rewrite, stats,
    words::{Entrance, Tuple, WayOut},
};
use from_pod::FromPod;
use from_wire::FromWire;
use transit::Transit;

/// `TCX_NEXT` (TCX) and `TC_ACT_UNSPEC` (clsact): whoever comes after us, and then the kernel.
/// Not `TC_ACT_OK`, which would overwrite `tc_index` with a class id.
pub const NEXT: i32 = -1;
/// `TC_ACT_SHOT`.
const DROP: i32 = 2;

/// Ingress of a pod's host-side veth.
#[inline(always)]
pub fn from_pod(skb: Skb) -> i32 {
    enter::<FromPod>(skb)
}

/// Ingress of an uplink.
#[inline(always)]
pub fn from_wire(skb: Skb) -> i32 {
    if is_in_transit(skb) {
        enter::<Transit>(skb)
    } else {
        enter::<FromWire>(skb)
    }
}

/// True for a packet to none of this node's pods, where such a packet may be fast.
#[inline(always)]
fn is_in_transit(skb: Skb) -> bool {
    match maps::settings() {
        Some(settings) if settings.has_transit() => match skb.family() {
            Some(IpVersion::V4) => is_for_others::<V4>(skb, settings),
            Some(IpVersion::V6) => is_for_others::<V6>(skb, settings),
            None => false,
        },
        _ => false,
    }
}

#[inline(always)]
fn is_for_others<F: Family>(skb: Skb, settings: &Settings) -> bool {
    let frame = skb.frame(ETHERNET + F::HEADER);
    F::destination(&frame).is_ok_and(|dst| !F::is_own(settings, &dst))
}

/// What differs between the entrances.
pub trait Side {
    const HOOK: Hook;

    /// Where the packet came in, as far as a confirmation depends on it.
    fn entrance<A>(skb: Skb, settings: &Settings, packet: &Packet<A>) -> Entrance;
    /// False where the packet cannot be one of those that this side carries: one look at one address, for most
    /// of what passes an uplink is the host's own.
    fn is_pod_traffic<F: Family>(settings: &Settings, frame: &Frame) -> Result<bool, OutOfBounds>;
    /// False where it turns out not to be one after all, once it is the kernel's.
    #[inline(always)]
    fn is_known_traffic<F: Family>(_: &Packet<F::Addr>) -> bool {
        true
    }
    /// The flow of a packet.
    fn find<F: Family>(packet: &Tuple<F::Addr>) -> Found;
    /// False where the error is not its sender's to get.
    fn may_report<A: Address>(error: &Tuple<A>, quoted: &Tuple<A>) -> bool;
    /// The flow of the packet that an ICMP error quotes, which went the other way.
    fn find_quoted<F: Family>(quoted: &Tuple<F::Addr>) -> Found;
    /// True where the kernel too would believe that an ICMP error comes from where it says.
    fn is_from_there<F: Family>(skb: Skb, error: &Packet<F::Addr>) -> bool;
    /// This side's direction of a flow.
    fn own(entry: Entry) -> *mut Direction;
    /// Takes the answers to this packet off the fast path.
    fn forget_answers<F: Family>(entry: Entry, packet: &Tuple<F::Addr>);
    /// The opposite direction, in which the packet went that an ICMP error quotes.
    fn other<F: Family>(entry: Entry, quoted: &Tuple<F::Addr>) -> Option<*mut Direction>;
    /// The way out as trie or endpoints have it now.
    fn look_up<F: Family>(packet: &Packet<F::Addr>) -> Result<WayOut, Verdict>;
    /// True where a packet may pass by the trie alone, without a confirmation.
    #[inline(always)]
    fn may_always<F: Family>(_: &Packet<F::Addr>, _: &Entrance) -> bool {
        true
    }
    /// Leaves a note for the exit, beside the tag, where the exit needs one.
    #[inline(always)]
    fn note(_: Entrance) {}
    fn redirect(skb: Skb, way_out: &WayOut) -> i32;
}

/// Each family on a stack of its own: both in one function would not fit BPF's 512 bytes.
#[inline(always)]
fn enter<S: Side>(skb: Skb) -> i32 {
    // Whatever stands in the witness's place comes from a pod or from another hook of ours: it is none here.
    let end = match skb.family() {
        Some(IpVersion::V4) => {
            icmp_error::judge::<V4, S>(skb);
            enter_v4::<S>(skb)
        }
        Some(IpVersion::V6) => {
            icmp_error::judge::<V6, S>(skb);
            enter_v6::<S>(skb)
        }
        None => {
            skb.set_witness(tag::NONE);
            let is_off = maps::settings().is_none_or(|settings| settings.is_off());
            let verdict = if is_off { Verdict::Off } else { Verdict::NotIp };
            stats::count(skb, S::HOOK, verdict);
            End::new(verdict, NEXT)
        }
    };
    packet_trace::packet(skb, S::HOOK, end.verdict());
    end.answer()
}

#[inline(never)]
fn enter_v4<S: Side>(skb: Skb) -> End {
    pass::<V4, S>(skb)
}

#[inline(never)]
fn enter_v6<S: Side>(skb: Skb) -> End {
    pass::<V6, S>(skb)
}

/// A verdict's number, and what the hook answers: in the one register that a function can return.
#[derive(Clone, Copy)]
pub struct End(u64);

impl End {
    #[inline(always)]
    pub const fn new(verdict: Verdict, answer: i32) -> Self {
        Self((verdict as u64) << 32 | answer as u32 as u64)
    }

    #[inline(always)]
    pub fn verdict(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline(always)]
    pub fn answer(self) -> i32 {
        self.0 as i32
    }
}

/// A packet's way: parse, flow, route, rewrite, redirect.
#[inline(always)]
fn pass<F: Family, S: Side>(skb: Skb) -> End {
    let mut place = MaybeUninit::uninit();
    let (packet, way_out) = match decide::<F, S>(skb, &mut place) {
        Ok(decision) => decision,
        Err(verdict) => {
            stats::count(skb, S::HOOK, verdict);
            return End::new(verdict, NEXT);
        }
    };
    // From here on the packet is ours: redirected or dropped.
    if rewrite::rewrite::<F, Skb>(skb, packet, &way_out).is_err() {
        stats::count(skb, S::HOOK, Verdict::Dropped);
        return End::new(Verdict::Dropped, DROP);
    }
    stats::count(skb, S::HOOK, Verdict::Fast);
    End::new(Verdict::Fast, S::redirect(skb, &way_out))
}

/// Everything that can still say "the kernel's", before the first write.
#[inline(always)]
fn decide<F: Family, S: Side>(
    skb: Skb,
    place: &mut MaybeUninit<Packet<F::Addr>>,
) -> Result<(&Packet<F::Addr>, WayOut), Verdict> {
    let is_good_error = icmp_error::was_judged_good(skb);
    skb.set_witness(tag::NONE);
    let settings = maps::settings().ok_or(Verdict::Off)?;
    if settings.is_off() {
        return Err(Verdict::Off);
    }
    let packet = of_pods::<F, S>(skb, settings, place)?;
    let entrance = S::entrance(skb, settings, packet);
    let decision = route::<F, S>(packet, is_good_error, &entrance, settings);
    let decision = decision.and_then(|way_out| {
        if packet.hops <= 1 {
            return Err(Verdict::TtlExpired);
        }
        redirect::check(skb, packet, &way_out)?;
        Ok(way_out)
    });
    if decision.is_err() {
        if !S::is_known_traffic::<F>(packet) {
            return Err(Verdict::NotPodTraffic);
        }
        skb.set_witness(packet.tuple.tag(settings.tag_seed, &entrance));
        S::note(entrance);
    }
    decision.map(|way_out| (packet, way_out))
}

/// The packet, where it is one that this side carries.
#[inline(always)]
pub fn of_pods<'a, F: Family, S: Side>(
    skb: Skb,
    settings: &Settings,
    place: &'a mut MaybeUninit<Packet<F::Addr>>,
) -> Result<&'a Packet<F::Addr>, Verdict> {
    if !S::is_pod_traffic::<F>(settings, &skb.frame(ETHERNET + F::HEADER))? {
        return Err(Verdict::NotPodTraffic);
    }
    let packet = parse::<F, Skb>(skb, place)?;
    if S::HOOK as u32 == Hook::FromWire as u32 && !skb.is_for_this_host() {
        return Err(Verdict::NotForUs);
    }
    Ok(packet)
}

/// The way out of a packet that may be fast.
#[inline(always)]
fn route<F: Family, S: Side>(
    packet: &Packet<F::Addr>,
    is_good_error: bool,
    entrance: &Entrance,
    settings: &Settings,
) -> Result<WayOut, Verdict> {
    if settings.offload == Offload::Always as u8 {
        return match S::may_always::<F>(packet, entrance) {
            true => S::look_up::<F>(packet),
            false => Err(Verdict::OtherEntrance),
        };
    }
    if packet.kind == Kind::IcmpError {
        return match is_good_error {
            true => S::look_up::<F>(packet),
            false => Err(Verdict::Icmp),
        };
    }
    confirmed::<F, S>(packet, entrance, Now::of(settings))
}

/// The way out of a direction that the kernel has confirmed.
#[inline(always)]
fn confirmed<F: Family, S: Side>(
    packet: &Packet<F::Addr>,
    entrance: &Entrance,
    now: Now,
) -> Result<WayOut, Verdict> {
    packet.kind.names_flow()?;
    let Found { entry, check } = S::find::<F>(&packet.tuple);
    let flags = packet.tcp_flags;
    if packet.kind == Kind::Tcp && (flags.is_syn() || !flags.is_ack()) {
        if let Some(entry) = entry
            && flags.is_syn()
        {
            // Guard 1: a SYN begins anew in both directions; a SYN-ACK in its own, so that the ACK after it is
            // fast.
            flow::clear(S::own(entry));
            if !flags.is_ack() {
                S::forget_answers::<F>(entry, &packet.tuple);
            }
        }
        return Err(Verdict::TcpOpening);
    }
    let entry = entry.ok_or(Verdict::Unconfirmed)?;
    let own = S::own(entry);
    match flow::way_out(entry, check, own, entrance, flags, now)? {
        Cached::Fresh(way_out) => Ok(way_out),
        Cached::Outdated => {
            let way_out = S::look_up::<F>(packet)?;
            flow::refresh(entry, check, own, way_out, now);
            Ok(way_out)
        }
    }
}

/// Whether the kernel would send answers to an ICMP error out of the device that it came in by.
#[inline(never)]
fn leads_there<F: Family>(skb: Skb, error: &Tuple<F::Addr>) -> bool {
    let Tuple { src, dst, .. } = error;
    F::may_be_source(src) && skb.leads_here(&mut F::fib_question(dst, src))
}
