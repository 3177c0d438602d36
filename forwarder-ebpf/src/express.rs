//! Ingress of the uplink by XDP: an entrance before the entrance.
//!
//! It carries packets of a direction that is confirmed, into pods that take them, and does nothing
//! else. Whatever it lets pass is untouched and uncounted, and `from_wire` of TC, which comes next,
//! does with it what it does without XDP: stamp, clear, learn, count.

use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS},
    helpers::bpf_ktime_get_coarse_ns,
};
use underpass_common::{
    checksum::pseudo_header_sum,
    flow::{PROTOCOL_TCP, PROTOCOL_UDP},
    settings::{Offload, Settings},
    verdict::{Hook, Verdict},
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
    words::{Entrance, Mac, WayOut},
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
    let Some((packet, way_out)) = decide::<F>(xdp, &mut place) else {
        return PASSED;
    };
    // From here on the packet is ours: redirected or dropped.
    let is_whole = rewrite::rewrite::<F, Xdp>(xdp, packet, &way_out).is_ok();
    let (verdict, action) = match maps::XDP_PODS.redirect(way_out.ifindex, 0) {
        Ok(action) if is_whole => (Verdict::Fast, action),
        _ => (Verdict::Dropped, XDP_DROP),
    };
    stats::count_bytes(packet.frame_len, Hook::FromWireXdp, verdict);
    End::new(verdict, action.cast_signed())
}

/// Everything that can still say "not by XDP", before the first write.
#[inline(always)]
fn decide<F: Family>(
    xdp: Xdp,
    place: &mut MaybeUninit<Packet<F::Addr>>,
) -> Option<(&Packet<F::Addr>, WayOut)> {
    let settings = maps::settings().filter(|settings| !settings.is_off())?;
    let uplink_mac = leased()?;
    let packet = parse::<F, Xdp>(xdp, place).ok()?;
    if !F::is_own(settings, &packet.tuple.dst) || packet.macs.dst() != uplink_mac {
        return None;
    }
    let way_out = route::<F>(packet, settings)?;
    // The pod may be any that was attached; not each takes frames from XDP.
    maps::XDP_PODS.get_ifindex(way_out.ifindex)?;
    let (_, fits) = xdp.check_mtu(way_out.ifindex)?;
    let is_carried = fits && packet.hops > 1 && has_checksum::<F>(xdp, packet);
    is_carried.then_some((packet, way_out))
}

/// The uplink's own MAC, while XDP may carry anything.
#[inline(always)]
fn leased() -> Option<Mac> {
    let lease = maps::XDP_LEASE.get(0)?;
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    (now < lease.until_ns).then(|| Mac::of(lease.uplink_mac))
}

/// The way out as `from_wire` would find it.
#[inline(always)]
fn route<F: Family>(packet: &Packet<F::Addr>, settings: &Settings) -> Option<WayOut> {
    if settings.offload == Offload::Always as u8 {
        return F::endpoint(&packet.tuple.dst);
    }
    let now = Now::of(settings);
    packet.kind.names_flow().ok()?;
    let flags = packet.tcp_flags;
    if packet.kind == Kind::Tcp && (flags.is_syn() || !flags.is_ack()) {
        return None;
    }
    let key = packet.tuple.key_to_pod();
    let entry = Entry::find::<F>(&key)?;
    let looked = flow::look(entry, &key, entry.ingress(), &Entrance::WIRE, now).ok()?;
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
