//! Ingress of the uplink by XDP: an entrance before the entrance.
//!
//! It carries packets of a direction that is confirmed, into pods that take them or on to the next node,
//! and does nothing else. Whatever it lets pass is untouched and uncounted, and `from_wire` of TC, which comes next,
//! does with it what it does without XDP: stamp, clear, learn, count.

use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS},
    helpers::bpf_ktime_get_coarse_ns,
};
use underpass_common::{
    checksum::pseudo_header_sum,
    flow::{Direction, PROTOCOL_TCP, PROTOCOL_UDP},
    settings::{Offload, Settings},
    verdict::{Hook, Verdict},
    xdp::Lease,
};

use crate::{
    entrance::End,
    family::{Family, IpVersion, V4, V6},
    flow::{self, Cached, Entry, Now},
    maps,
    packet::{Buffer as _, ETHERNET, Xdp},
    packet_trace,
    parse::{Kind, Packet, parse},
    rewrite, stats,
    words::{Entrance, Key, Mac, WayOut},
};

/// What a frame meets as long as nothing speaks for the fast path. The verdict is TC's to give.
const PASSED: End = End::new(Verdict::Off, XDP_PASS.cast_signed());

/// Ingress of the uplink.
#[inline(always)]
pub fn from_wire(xdp: Xdp) -> u32 {
    let carried = match xdp.family() {
        Some(IpVersion::V4) => pass_v4(xdp),
        Some(IpVersion::V6) => pass_v6(xdp),
        None => PASSED,
    };
    if carried.answer() != PASSED.answer() {
        packet_trace::packet(xdp, Hook::FromWireXdp, carried.verdict());
    }
    carried.answer().cast_unsigned()
}

/// Each family on a stack of its own, as at the other entrances.
#[inline(never)]
fn pass_v4(xdp: Xdp) -> End {
    pass::<V4>(xdp)
}

#[inline(never)]
fn pass_v6(xdp: Xdp) -> End {
    pass::<V6>(xdp)
}

/// A packet's way: parse, flow, route, rewrite, redirect.
#[inline(always)]
fn pass<F: Family>(xdp: Xdp) -> End {
    let mut place = MaybeUninit::uninit();
    let Some((packet, way)) = decide::<F>(xdp, &mut place) else {
        return PASSED;
    };
    // From here on the packet is ours: redirected or dropped.
    let is_whole = rewrite::rewrite::<F, Xdp>(xdp, packet, &way.out).is_ok();
    let redirected = match way.is_to_pod {
        true => maps::XDP_PODS.redirect(way.out.ifindex, 0),
        false => maps::XDP_UPLINKS.redirect(way.out.ifindex, 0),
    };
    let (verdict, action) = match redirected {
        Ok(action) if is_whole => (Verdict::Fast, action),
        _ => (Verdict::Dropped, XDP_DROP),
    };
    stats::count_bytes(packet.frame_len, Hook::FromWireXdp, verdict);
    End::new(verdict, action.cast_signed())
}

/// Where a packet goes.
struct Way {
    out: WayOut,
    /// Into a pod of this node; else on to another node.
    is_to_pod: bool,
}

/// Everything that can still say "not by XDP", before the first write.
#[inline(always)]
fn decide<F: Family>(
    xdp: Xdp,
    place: &mut MaybeUninit<Packet<F::Addr>>,
) -> Option<(&Packet<F::Addr>, Way)> {
    let settings = maps::settings().filter(|settings| !settings.is_off())?;
    // Most of what passes an uplink is the host's own.
    let dst = F::destination(&xdp.frame(ETHERNET + F::HEADER)).ok()?;
    let is_to_pod = F::is_own(settings, &dst);
    if !is_to_pod && !settings.has_transit() {
        return None;
    }
    let lease = lease(xdp)?;
    let packet = parse::<F, Xdp>(xdp, place).ok()?;
    if packet.macs.dst() != Mac::of(lease.uplink_mac) {
        return None;
    }
    let entrance = Entrance::of_wire(settings, lease.uplink);
    let out = match is_to_pod {
        true => to_pod::<F>(packet, settings, &entrance)?,
        false => in_transit::<F>(packet, settings, &entrance)?,
    };
    let (_, fits) = xdp.check_mtu(out.ifindex)?;
    let is_carried = fits && packet.hops > 1 && has_checksum::<F>(xdp, packet);
    is_carried.then_some((packet, Way { out, is_to_pod }))
}

/// What the agent says of the device, while XDP may carry what comes in by it.
#[inline(always)]
fn lease(xdp: Xdp) -> Option<&'static Lease> {
    // SAFETY: the agent replaces entries as a whole; one half replaced names no frame's MAC and uplink.
    let lease = unsafe { maps::XDP_LEASE.get(xdp.ifindex()) }?;
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    (now < lease.until_ns).then_some(lease)
}

/// The way into a pod, as `from_wire` would find it.
#[inline(always)]
fn to_pod<F: Family>(
    packet: &Packet<F::Addr>,
    settings: &Settings,
    entrance: &Entrance,
) -> Option<WayOut> {
    let out = if settings.offload == Offload::Always as u8 {
        F::endpoint(&packet.tuple.dst)?
    } else {
        let key = packet.tuple.key_to_pod();
        confirmed::<F>(packet, settings, &key, Entry::ingress, entrance)?
    };
    // The pod may be any that was attached; not each takes frames from XDP.
    maps::XDP_PODS.get_ifindex(out.ifindex)?;
    Some(out)
}

/// The way on to another node, likewise.
#[inline(always)]
fn in_transit<F: Family>(
    packet: &Packet<F::Addr>,
    settings: &Settings,
    entrance: &Entrance,
) -> Option<WayOut> {
    if F::is_own(settings, &packet.tuple.src) {
        return None;
    }
    let out = if settings.offload == Offload::Always as u8 {
        F::to_peer(packet.tuple.dst)?
    } else {
        let key = packet.tuple.key_from_pod();
        confirmed::<F>(packet, settings, &key, Entry::egress, entrance)?
    };
    maps::XDP_UPLINKS.get_ifindex(out.ifindex)?;
    Some(out)
}

/// The way out of a direction that the kernel has confirmed.
#[inline(always)]
fn confirmed<F: Family>(
    packet: &Packet<F::Addr>,
    settings: &Settings,
    key: &Key<F::Addr>,
    direction: impl FnOnce(Entry) -> *mut Direction,
    entrance: &Entrance,
) -> Option<WayOut> {
    let now = Now::of(settings);
    packet.kind.names_flow().ok()?;
    let flags = packet.tcp_flags;
    if packet.kind == Kind::Tcp && (flags.is_syn() || !flags.is_ack()) {
        return None;
    }
    let entry = Entry::find::<F>(key)?;
    let looked = flow::look(entry, key.check(), direction(entry), entrance, now).ok()?;
    match looked.cached {
        Cached::Fresh(way_out) if !looked.is_closed_by(flags) => Some(way_out),
        // To be looked up again, or the kernel's to see.
        _ => None,
    }
}

/// False for a packet whose sender has left the checksum to a NIC that it never met, as between veths.
/// The kernel carries that beside the packet, where it cannot be seen here, and XDP would lose it. One
/// honest checksum in 65,536 looks the same, and its packet goes by TC.
#[inline(always)]
fn has_checksum<F: Family>(xdp: Xdp, packet: &Packet<F::Addr>) -> bool {
    let protocol = packet.tuple.protocol;
    let transport = ETHERNET + F::HEADER;
    let frame = xdp.frame(transport);
    let field = if protocol == PROTOCOL_TCP {
        frame.bytes::<2>(transport + 16)
    } else if protocol == PROTOCOL_UDP {
        frame.bytes::<2>(transport + 6)
    } else {
        return true;
    };
    let Ok(field) = field else { return false };
    let len = packet.frame_len.wrapping_sub(transport as u32);
    let (src, dst) = (packet.tuple.src.as_ref(), packet.tuple.dst.as_ref());
    field.load_u16::<0>() != pseudo_header_sum(src, dst, protocol, len)
}
