//! The exits: what the kernel sends tells which directions it forwards unchanged, and whither.

use core::mem::MaybeUninit;

use underpass_common::{
    flow::Direction,
    pod::PodState,
    settings::Settings,
    tag,
    verdict::{Hook, Verdict},
};

use crate::{
    entrance::NEXT,
    family::{Family, IpVersion, V4, V6},
    flow::{self, Entry, Now, Witnessed},
    maps,
    packet::{Buffer as _, ETHERNET, Skb},
    packet_trace,
    parse::{Packet, parse},
    stats,
    words::{Entrance, Key, Mac, WayOut},
};

/// Egress of the uplink.
#[inline(always)]
pub fn to_wire(skb: Skb) -> i32 {
    leave::<ToWire>(skb)
}

/// Egress of a pod's host-side veth.
#[inline(always)]
pub fn to_pod(skb: Skb) -> i32 {
    leave::<ToPod>(skb)
}

/// What differs between the two exits.
trait Side {
    const HOOK: Hook;

    /// Looks at what the kernel sends. Both ways out of it are a verdict.
    fn observe<F: Family>(skb: Skb, witness: u16) -> Result<Verdict, Verdict>;
}

/// An exit only watches. Fast packets have been counted at the entrance and pass at once.
#[inline(always)]
fn leave<S: Side>(skb: Skb) -> i32 {
    let witness = skb.witness();
    if witness != tag::NONE {
        // It has served: nobody behind us should find it.
        skb.set_witness(tag::NONE);
    }
    if witness & tag::FAST == 0 {
        let verdict = match skb.family() {
            Some(IpVersion::V4) => Ok(leave_v4::<S>(skb, witness)),
            Some(IpVersion::V6) => Ok(leave_v6::<S>(skb, witness)),
            None => settings().map(|_| Verdict::NotIp),
        };
        let (Ok(verdict) | Err(verdict)) = verdict;
        stats::count(skb, S::HOOK, verdict);
        packet_trace::packet(skb, S::HOOK, verdict as u32);
    }
    NEXT
}

/// Each family on a stack of its own, as at the entrances.
#[inline(never)]
fn leave_v4<S: Side>(skb: Skb, witness: u16) -> Verdict {
    let (Ok(verdict) | Err(verdict)) = S::observe::<V4>(skb, witness);
    verdict
}

#[inline(never)]
fn leave_v6<S: Side>(skb: Skb, witness: u16) -> Verdict {
    let (Ok(verdict) | Err(verdict)) = S::observe::<V6>(skb, witness);
    verdict
}

struct ToWire;

impl Side for ToWire {
    const HOOK: Hook = Hook::ToWire;

    #[inline(always)]
    fn observe<F: Family>(skb: Skb, witness: u16) -> Result<Verdict, Verdict> {
        let mut place = MaybeUninit::uninit();
        let settings = settings()?;
        // Most of what leaves by an uplink is the host's own.
        let is_own = F::is_own(settings, &F::source(&skb.frame(ETHERNET + F::HEADER))?);
        if !is_own && !settings.has_transit() {
            return Err(Verdict::NotPodTraffic);
        }
        let now = Now::of(settings);
        let packet = parse::<F, Skb>(skb, &mut place)?;
        let named = packet.kind.names_flow();
        named.map_err(|why| if is_own { why } else { Verdict::NotPodTraffic })?;
        let key = packet.tuple.key_from_pod();
        let entry = Entry::find::<F>(&key);
        let entrance = match is_own {
            true => entrance_of::<F>(&packet.tuple.src),
            false => Entrance::of_wire(settings, skb.came_in_by()),
        };
        if witness != packet.tuple.tag(settings.tag_seed, &entrance) {
            return Err(match (is_own, entry) {
                (true, _) => unwitnessed(entry),
                (false, Some(entry)) => unwitnessed_in_transit::<F>(entry, packet),
                // This host's own, most likely.
                (false, None) => Verdict::NotPodTraffic,
            });
        }
        let way_out = F::to_peer(packet.tuple.dst).ok_or(Verdict::NoRoute)?;
        if way_out != sent(skb, packet) {
            if let Some(entry) = entry {
                flow::clear(entry.egress());
            }
            return Err(Verdict::OtherNextHop);
        }
        let witnessed = Witnessed {
            way_out,
            entrance,
            is_mid_stream: packet.is_mid_stream(),
        };
        confirm::<F>(&key, entry, Entry::egress, &witnessed, now)
    }
}

/// [`unwitnessed`] where each direction is a flow of its own.
#[inline(always)]
fn unwitnessed_in_transit<F: Family>(entry: Entry, packet: &Packet<F::Addr>) -> Verdict {
    flow::clear(entry.egress());
    // The answers' flow, seen from who answers.
    if let Some(answers) = Entry::of_answers::<F>(&packet.tuple) {
        flow::clear(answers.egress());
    }
    Verdict::Unwitnessed
}

struct ToPod;

impl Side for ToPod {
    const HOOK: Hook = Hook::ToPod;

    #[inline(always)]
    fn observe<F: Family>(skb: Skb, witness: u16) -> Result<Verdict, Verdict> {
        let mut place = MaybeUninit::uninit();
        let settings = settings()?;
        let now = Now::of(settings);
        let packet = parse::<F, Skb>(skb, &mut place)?;
        if !F::is_own(settings, &packet.tuple.dst) {
            return Err(Verdict::NotPodTraffic);
        }
        let key = packet.tuple.key_to_pod();
        // Without ports the key would be that of a ping with the identifier 0.
        let entry = match packet.kind.names_flow() {
            Ok(()) => Entry::find::<F>(&key),
            Err(_) => None,
        };
        let entrance = Entrance::of_wire(settings, skb.came_in_by());
        if witness != packet.tuple.tag(settings.tag_seed, &entrance) {
            return Err(unwitnessed(entry));
        }
        let endpoint = endpoint(skb, packet)?;
        if F::endpoint(&packet.tuple.dst).is_none_or(|known| known != endpoint)
            && F::learn_endpoint(&packet.tuple.dst, &endpoint).is_err()
        {
            return Err(Verdict::NoEndpoint);
        }
        packet.kind.names_flow()?;
        let witnessed = Witnessed {
            way_out: endpoint,
            entrance,
            is_mid_stream: packet.is_mid_stream(),
        };
        confirm::<F>(&key, entry, Entry::ingress, &witnessed, now)
    }
}

/// The settings, where offload is on.
#[inline(always)]
fn settings() -> Result<&'static Settings, Verdict> {
    maps::settings()
        .filter(|settings| !settings.is_off())
        .ok_or(Verdict::Off)
}

/// Where a packet with this source must have come in: at the pod's own veth where that is known, so
/// that another pod gains nothing by its address; else where this CPU's last one did.
#[inline(always)]
fn entrance_of<F: Family>(src: &F::Addr) -> Entrance {
    if let Some(endpoint) = F::endpoint(src) {
        return Entrance {
            ifindex: endpoint.ifindex,
            mac: endpoint.macs.src(),
        };
    }
    match maps::LAST_STAMPED.get(0) {
        // SAFETY: this CPU's own entry, in words.
        Some(last) => unsafe { *core::ptr::from_ref(last).cast::<Entrance>() },
        None => Entrance::WIRE,
    }
}

/// Guard 2: somebody else, NAT, sends packets of this tuple. What was confirmed is no longer true,
/// and the answers to these packets need the kernel too.
#[inline(always)]
fn unwitnessed(entry: Option<Entry>) -> Verdict {
    if let Some(entry) = entry {
        flow::clear(entry.egress());
        flow::clear(entry.ingress());
    }
    Verdict::Unwitnessed
}

/// The way out that the kernel itself took.
#[inline(always)]
fn sent<A>(skb: Skb, packet: &Packet<A>) -> WayOut {
    WayOut {
        ifindex: skb.ifindex(),
        macs: packet.macs,
    }
}

/// The endpoint that the kernel's own frame shows. A bridge floods frames to MACs it has forgotten:
/// only the port whose far end has that MAC is the right one.
#[inline(always)]
fn endpoint<A>(skb: Skb, packet: &Packet<A>) -> Result<WayOut, Verdict> {
    let ifindex = skb.ifindex();
    // SAFETY: read at once; the agent replaces entries as a whole.
    let pod = unsafe { maps::PODS.get(ifindex) }.ok_or(Verdict::NoEndpoint)?;
    if pod.state != PodState::Attached as u8 {
        return Err(Verdict::NoEndpoint);
    }
    if Mac::of(pod.mac) != packet.macs.dst() {
        return Err(Verdict::OtherNextHop);
    }
    Ok(sent(skb, packet))
}

/// Confirms a direction in the flow's entry. Where there is none yet, one without a confirmation is
/// made first.
#[inline(always)]
fn confirm<F: Family>(
    key: &Key<F::Addr>,
    entry: Option<Entry>,
    direction: impl FnOnce(Entry) -> *mut Direction,
    witnessed: &Witnessed,
    now: Now,
) -> Result<Verdict, Verdict> {
    let entry = match entry {
        Some(entry) => entry,
        None => Entry::make::<F>(key).ok_or(Verdict::FlowTableFull)?,
    };
    witnessed.confirm(entry, key.check(), direction(entry), now);
    Ok(Verdict::Confirmed)
}
