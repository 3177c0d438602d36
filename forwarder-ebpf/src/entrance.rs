//! The entrances: a packet takes the fast path here, or is stamped and left to the kernel.

use core::mem::MaybeUninit;

use underpass_common::{
    flow::Direction,
    settings::{Offload, Settings},
    tag,
    verdict::{Hook, Verdict},
};

use crate::{
    family::{Family, IpVersion, V4, V6},
    flow::{self, Cached, Entry, Now},
    icmp_error, maps,
    packet::{Buffer as _, Skb},
    packet_trace,
    parse::{Kind, Packet, parse},
    redirect, rewrite, stats,
    words::{Entrance, Key, Tuple, WayOut},
};

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

/// Ingress of the uplink.
#[inline(always)]
pub fn from_wire(skb: Skb) -> i32 {
    enter::<FromWire>(skb)
}

/// What differs between the two entrances.
pub trait Side {
    const HOOK: Hook;

    /// Where the packet came in, as far as a confirmation depends on it.
    fn entrance<A>(skb: Skb, packet: &Packet<A>) -> Entrance;
    /// True where the packet belongs to this node's pods.
    fn is_pod_traffic<F: Family>(settings: &Settings, packet: &Packet<F::Addr>) -> bool;
    fn key<F: Family>(packet: &Packet<F::Addr>) -> Key<F::Addr>;
    /// The flow of the packet that an ICMP error quotes, which went the other way; `None` where the
    /// error is not its sender's to get.
    fn quoted_key<F: Family>(
        error: &Tuple<F::Addr>,
        quoted: &Tuple<F::Addr>,
    ) -> Option<Key<F::Addr>>;
    /// True where the kernel too would believe that an ICMP error comes from where it says.
    fn is_from_there<F: Family>(skb: Skb, error: &Packet<F::Addr>) -> bool;
    /// This side's direction of a flow, and the opposite one.
    fn directions(entry: Entry) -> (*mut Direction, *mut Direction);
    /// The way out as trie or endpoints have it now.
    fn look_up<F: Family>(packet: &Packet<F::Addr>) -> Result<WayOut, Verdict>;
    /// True where a packet may pass by the trie alone, without a confirmation.
    fn may_always<F: Family>(packet: &Packet<F::Addr>, entrance: &Entrance) -> bool;
    /// Leaves a note for the exit, beside the tag.
    fn note(entrance: Entrance);
    fn redirect(skb: Skb, way_out: &WayOut) -> i32;
}

/// Each family on a stack of its own: both in one function would not fit BPF's 512 bytes.
#[inline(always)]
fn enter<S: Side>(skb: Skb) -> i32 {
    let end = match skb.family() {
        Some(IpVersion::V4) => enter_v4::<S>(skb),
        Some(IpVersion::V6) => enter_v6::<S>(skb),
        None => {
            // See `decide`.
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
    // Whatever stands there comes from a pod or from another hook of ours: it is no witness here.
    skb.set_witness(tag::NONE);
    let settings = maps::settings().ok_or(Verdict::Off)?;
    if settings.is_off() {
        return Err(Verdict::Off);
    }
    let packet = parse::<F, Skb>(skb, place)?;
    if !S::is_pod_traffic::<F>(settings, packet) {
        return Err(Verdict::NotPodTraffic);
    }
    if S::HOOK as u32 == Hook::FromWire as u32 && !skb.is_for_this_host() {
        return Err(Verdict::NotForUs);
    }
    let entrance = S::entrance(skb, packet);
    let decision = route::<F, S>(skb, packet, &entrance, settings);
    if decision.is_err() {
        skb.set_witness(packet.tuple.tag(settings.tag_seed, &entrance));
        S::note(entrance);
    }
    decision.map(|way_out| (packet, way_out))
}

/// The way out of a packet that may be fast.
#[inline(always)]
fn route<F: Family, S: Side>(
    skb: Skb,
    packet: &Packet<F::Addr>,
    entrance: &Entrance,
    settings: &Settings,
) -> Result<WayOut, Verdict> {
    let way_out = if settings.offload == Offload::Always as u8 {
        if !S::may_always::<F>(packet, entrance) {
            return Err(Verdict::OtherEntrance);
        }
        S::look_up::<F>(packet)?
    } else {
        confirmed::<F, S>(skb, packet, entrance, settings)?
    };
    if packet.hops <= 1 {
        return Err(Verdict::TtlExpired);
    }
    redirect::check(skb, packet, &way_out)?;
    Ok(way_out)
}

/// The way out of a direction that the kernel has confirmed.
#[inline(always)]
fn confirmed<F: Family, S: Side>(
    skb: Skb,
    packet: &Packet<F::Addr>,
    entrance: &Entrance,
    settings: &Settings,
) -> Result<WayOut, Verdict> {
    let now = Now::of(settings);
    if packet.kind == Kind::IcmpError {
        icmp_error::follow::<F, S>(skb, packet, entrance, &now)?;
        if !S::is_from_there::<F>(skb, packet) {
            return Err(Verdict::Icmp);
        }
        return S::look_up::<F>(packet);
    }
    packet.kind.names_flow()?;
    let key = S::key::<F>(packet);
    let entry = Entry::find::<F>(&key);
    let flags = packet.tcp_flags;
    if packet.kind == Kind::Tcp && (flags.is_syn() || !flags.is_ack()) {
        if let Some(entry) = entry
            && flags.is_syn()
        {
            let (own, other) = S::directions(entry);
            flow::forget_on_syn(own, other, flags.is_ack());
        }
        return Err(Verdict::TcpOpening);
    }
    let entry = entry.ok_or(Verdict::Unconfirmed)?;
    let (own, _) = S::directions(entry);
    match flow::way_out(entry, &key, own, entrance, flags, now)? {
        Cached::Fresh(way_out) => Ok(way_out),
        Cached::Outdated => {
            let way_out = S::look_up::<F>(packet)?;
            flow::refresh(entry, &key, own, way_out, now);
            Ok(way_out)
        }
    }
}

struct FromPod;

impl Side for FromPod {
    const HOOK: Hook = Hook::FromPod;

    #[inline(always)]
    fn entrance<A>(skb: Skb, packet: &Packet<A>) -> Entrance {
        Entrance {
            ifindex: skb.ifindex(),
            mac: packet.macs.dst(),
        }
    }

    #[inline(always)]
    fn is_pod_traffic<F: Family>(settings: &Settings, packet: &Packet<F::Addr>) -> bool {
        F::is_own(settings, &packet.tuple.src)
    }

    #[inline(always)]
    fn key<F: Family>(packet: &Packet<F::Addr>) -> Key<F::Addr> {
        packet.tuple.key_from_pod()
    }

    #[inline(always)]
    fn quoted_key<F: Family>(
        error: &Tuple<F::Addr>,
        quoted: &Tuple<F::Addr>,
    ) -> Option<Key<F::Addr>> {
        (quoted.dst == error.src && quoted.src == error.dst).then(|| quoted.key_to_pod())
    }

    /// The entrance of the confirmed direction tells whose packets these are.
    #[inline(always)]
    fn is_from_there<F: Family>(_: Skb, _: &Packet<F::Addr>) -> bool {
        true
    }

    #[inline(always)]
    fn directions(entry: Entry) -> (*mut Direction, *mut Direction) {
        (entry.egress(), entry.ingress())
    }

    #[inline(always)]
    fn look_up<F: Family>(packet: &Packet<F::Addr>) -> Result<WayOut, Verdict> {
        match F::route(packet.tuple.dst) {
            Some(route) if !route.is_kernels() => Ok(route),
            _ => Err(Verdict::NoRoute),
        }
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

struct FromWire;

impl Side for FromWire {
    const HOOK: Hook = Hook::FromWire;

    #[inline(always)]
    fn entrance<A>(_: Skb, _: &Packet<A>) -> Entrance {
        Entrance::WIRE
    }

    #[inline(always)]
    fn is_pod_traffic<F: Family>(settings: &Settings, packet: &Packet<F::Addr>) -> bool {
        F::is_own(settings, &packet.tuple.dst)
    }

    #[inline(always)]
    fn key<F: Family>(packet: &Packet<F::Addr>) -> Key<F::Addr> {
        packet.tuple.key_to_pod()
    }

    /// Not only the far pod reports errors: any router on the way does.
    #[inline(always)]
    fn quoted_key<F: Family>(
        error: &Tuple<F::Addr>,
        quoted: &Tuple<F::Addr>,
    ) -> Option<Key<F::Addr>> {
        (quoted.src == error.dst).then(|| quoted.key_from_pod())
    }

    #[inline(never)]
    fn is_from_there<F: Family>(skb: Skb, error: &Packet<F::Addr>) -> bool {
        let Tuple { src, dst, .. } = &error.tuple;
        F::may_be_source(src) && skb.leads_here(&mut F::fib_question(dst, src))
    }

    #[inline(always)]
    fn directions(entry: Entry) -> (*mut Direction, *mut Direction) {
        (entry.ingress(), entry.egress())
    }

    #[inline(always)]
    fn look_up<F: Family>(packet: &Packet<F::Addr>) -> Result<WayOut, Verdict> {
        F::endpoint(&packet.tuple.dst).ok_or(Verdict::NoEndpoint)
    }

    #[inline(always)]
    fn may_always<F: Family>(_: &Packet<F::Addr>, _: &Entrance) -> bool {
        true
    }

    #[inline(always)]
    fn note(_: Entrance) {}

    #[inline(always)]
    fn redirect(skb: Skb, way_out: &WayOut) -> i32 {
        redirect::to_pod(skb, way_out)
    }
}
