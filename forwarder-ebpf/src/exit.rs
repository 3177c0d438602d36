//! The exits: what the kernel sends tells which directions it forwards unchanged, and whither.

use underpass_common::{
    endpoint::Endpoint,
    flow::{Direction, Entrance, Flow, FlowKey, WayOut},
    pod::PodState,
    settings::{Offload, Settings},
    tag,
    verdict::{Hook, Verdict},
};

use crate::{
    entrance::NEXT,
    family::{Family, V4},
    flow::{self, Now, Witnessed},
    maps,
    packet::Skb,
    parse::{Kind, Packet, parse},
    stats,
};

/// Egress of the uplink.
#[inline(always)]
pub fn to_wire(skb: &Skb) -> i32 {
    leave(skb, Hook::ToWire, observe_to_wire::<V4>)
}

/// Egress of a pod's host-side veth.
#[inline(always)]
pub fn to_pod(skb: &Skb) -> i32 {
    leave(skb, Hook::ToPod, observe_to_pod::<V4>)
}

/// An exit only watches. Fast packets have been counted at the entrance and pass at once.
#[inline(always)]
fn leave(skb: &Skb, hook: Hook, observe: impl FnOnce(&Skb, u16) -> Verdict) -> i32 {
    let witness = skb.witness();
    if witness != tag::NONE {
        // It has served: nobody behind us should find it.
        skb.set_witness(tag::NONE);
    }
    if witness & tag::FAST == 0 {
        let verdict = observe(skb, witness);
        stats::count(skb, hook, verdict);
    }
    NEXT
}

#[inline(always)]
fn observe_to_wire<F: Family>(skb: &Skb, witness: u16) -> Verdict {
    match try_to_wire::<F>(skb, witness) {
        Ok(verdict) | Err(verdict) => verdict,
    }
}

#[inline(always)]
fn try_to_wire<F: Family>(skb: &Skb, witness: u16) -> Result<Verdict, Verdict> {
    let (settings, now, packet) = read::<F>(skb)?;
    if !F::is_own(settings, &packet.tuple.src) {
        return Err(Verdict::NotPodTraffic);
    }
    if packet.kind == Kind::Other {
        return Err(Verdict::Protocol);
    }
    let key = packet.tuple.from_pod();
    let flow = F::flow(&key);
    let entrance = entrance_of::<F>(&packet.tuple.src);
    if witness != tag::tag(settings.tag_seed, &packet.tuple, &entrance) {
        return Err(unwitnessed(flow));
    }
    let Some(route) = F::route(packet.tuple.dst).filter(|route| !route.is_kernels()) else {
        return Err(Verdict::NoRoute);
    };
    let way_out = WayOut::from(*route);
    if way_out != sent::<F>(skb, &packet) {
        if let Some(flow) = flow {
            flow::clear(flow::egress(flow));
        }
        return Err(Verdict::OtherNextHop);
    }
    let witnessed = Witnessed {
        way_out,
        entrance,
        kind: packet.kind,
    };
    let new = Flow {
        egress: witnessed.direction(now),
        ingress: NO_DIRECTION,
    };
    confirm::<F>(&key, flow, &new, |flow| {
        witnessed.confirm(flow::egress(flow), now);
    })
}

#[inline(always)]
fn observe_to_pod<F: Family>(skb: &Skb, witness: u16) -> Verdict {
    match try_to_pod::<F>(skb, witness) {
        Ok(verdict) | Err(verdict) => verdict,
    }
}

#[inline(always)]
fn try_to_pod<F: Family>(skb: &Skb, witness: u16) -> Result<Verdict, Verdict> {
    let (settings, now, packet) = read::<F>(skb)?;
    if !F::is_own(settings, &packet.tuple.dst) {
        return Err(Verdict::NotPodTraffic);
    }
    let key = packet.tuple.to_pod();
    // Without ports the key would be that of a ping with the identifier 0.
    let flow = match packet.kind {
        Kind::Other => None,
        _ => F::flow(&key),
    };
    if witness != tag::tag(settings.tag_seed, &packet.tuple, &Entrance::WIRE) {
        return Err(unwitnessed(flow));
    }
    let endpoint = endpoint(skb, &packet)?;
    if F::endpoint(&packet.tuple.dst).is_none_or(|known| *known != endpoint)
        && F::learn_endpoint(&packet.tuple.dst, &endpoint).is_err()
    {
        return Err(Verdict::NoEndpoint);
    }
    if packet.kind == Kind::Other {
        return Err(Verdict::Protocol);
    }
    let witnessed = Witnessed {
        way_out: endpoint.into(),
        entrance: Entrance::WIRE,
        kind: packet.kind,
    };
    let new = Flow {
        egress: NO_DIRECTION,
        ingress: witnessed.direction(now),
    };
    confirm::<F>(&key, flow, &new, |flow| {
        witnessed.confirm(flow::ingress(flow), now);
    })
}

const NO_DIRECTION: Direction = Direction {
    generation: 0,
    epoch: 0,
    way_out: WayOut {
        ifindex: 0,
        dst_mac: [0; 6],
        src_mac: [0; 6],
    },
    entrance: Entrance::WIRE,
    confirmed: underpass_common::flow::confirmed::NO,
    _pad: [0; 3],
};

/// Settings and packet, where offload is on and the packet can be read.
#[inline(always)]
fn read<F: Family>(skb: &Skb) -> Result<(&'static Settings, Now, Packet<F::Addr>), Verdict> {
    let settings = maps::settings().ok_or(Verdict::Off)?;
    if settings.offload == Offload::Off as u8 {
        return Err(Verdict::Off);
    }
    Ok((settings, Now::of(settings), parse::<F>(skb)?))
}

/// Where a packet with this source must have come in: at the pod's own veth where that is known, so
/// that another pod gains nothing by its address; else where this CPU's last one did.
#[inline(always)]
fn entrance_of<F: Family>(src: &F::Addr) -> Entrance {
    if let Some(endpoint) = F::endpoint(src) {
        return Entrance {
            ifindex: endpoint.ifindex,
            mac: endpoint.gateway_mac,
            _pad: [0; 2],
        };
    }
    match maps::LAST_STAMPED.get(0) {
        Some(last) => *last,
        None => Entrance::WIRE,
    }
}

/// Guard 2: somebody else, NAT, sends packets of this tuple. What was confirmed is no longer true,
/// and the answers to these packets need the kernel too.
#[inline(always)]
fn unwitnessed(flow: Option<*mut Flow>) -> Verdict {
    if let Some(flow) = flow {
        flow::clear(flow::egress(flow));
        flow::clear(flow::ingress(flow));
    }
    Verdict::Unwitnessed
}

/// The way out that the kernel itself took.
#[inline(always)]
fn sent<F: Family>(skb: &Skb, packet: &Packet<F::Addr>) -> WayOut {
    WayOut {
        ifindex: skb.ifindex(),
        dst_mac: packet.dst_mac,
        src_mac: packet.src_mac,
    }
}

/// The endpoint that the kernel's own frame shows. A bridge floods frames to MACs it has forgotten:
/// only the port whose far end has that MAC is the right one.
#[inline(always)]
fn endpoint<A>(skb: &Skb, packet: &Packet<A>) -> Result<Endpoint, Verdict> {
    let ifindex = skb.ifindex();
    // SAFETY: read at once; the agent replaces entries as a whole.
    let pod = unsafe { maps::PODS.get(ifindex) }.ok_or(Verdict::NoEndpoint)?;
    if pod.state != PodState::Attached as u8 {
        return Err(Verdict::NoEndpoint);
    }
    if pod.mac != packet.dst_mac {
        return Err(Verdict::OtherNextHop);
    }
    Ok(Endpoint {
        ifindex,
        pod_mac: packet.dst_mac,
        gateway_mac: packet.src_mac,
    })
}

/// Confirms a direction in the flow's entry, or makes one.
#[inline(always)]
fn confirm<F: Family>(
    key: &FlowKey<F::Addr>,
    flow: Option<*mut Flow>,
    new: &Flow,
    write: impl FnOnce(*mut Flow),
) -> Result<Verdict, Verdict> {
    let flow = match flow {
        Some(flow) => flow,
        None if F::new_flow(key, new).is_ok() => return Ok(Verdict::Confirmed),
        // Another CPU made it meanwhile, or there is no room.
        None => F::flow(key).ok_or(Verdict::FlowTableFull)?,
    };
    write(flow);
    Ok(Verdict::Confirmed)
}
