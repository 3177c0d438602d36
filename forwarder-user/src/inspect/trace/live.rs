//! Takes the snapshot: reads the pins, and asks the kernel. Changes nothing.

use std::net::IpAddr;

use anyhow::Result;

use super::super::{open, peers, print, uplinks_of};
use super::{KernelWay, Question, Snapshot, Way};
use crate::cli::TraceArgs;
use crate::datapath::attach::Mechanism;
use crate::datapath::{Attachments, Pins};
use crate::world::netlink::{Found, Lookup, Netlink};

/// Everything that a walk of the packet looks at.
///
/// # Errors
/// Where no agent has run, the maps or the kernel cannot be read, or there can be no such packet.
pub(super) async fn read(args: &TraceArgs, pins: &Pins) -> Result<(Question, Snapshot)> {
    let mut snapshot = read_maps(pins)?;
    let question = Question::new(args, &snapshot)?;
    let netlink = Netlink::to_ask()?;
    snapshot.links = netlink.links().await?;
    snapshot.veth_by_mac = match question.pod {
        Some(pod) if question.way != Way::Transit && !snapshot.endpoints.contains_key(&pod) => {
            veth_by_mac(&netlink, &snapshot, pod).await?
        }
        _ => None,
    };
    snapshot.kernel = kernel_way(&netlink, &snapshot, &question).await?;
    Ok((question, snapshot))
}

fn read_maps(pins: &Pins) -> Result<Snapshot> {
    let maps = open(pins)?;
    let agent = maps.agent()?;
    let attached = Attachments::new(pins.clone(), Mechanism::of_this_kernel()).alive()?;
    Ok(Snapshot {
        node: print::text(&agent.node_name),
        // First: what is read afterwards is at least as new as its generation says.
        settings: maps.settings()?,
        uplink: agent.uplink_ifindex,
        uplinks: uplinks_of(agent.uplink_ifindex, attached.iter().copied()),
        attached,
        pods: maps.pods()?,
        endpoints: maps.endpoints()?,
        routes: maps.routes()?,
        peers: peers::read(&maps)?,
        flows: maps.flows()?,
        links: Default::default(),
        veth_by_mac: None,
        kernel: KernelWay::Unknown("not asked".into()),
    })
}

/// The veth of a pod that nothing has been learned of yet.
async fn veth_by_mac(netlink: &Netlink, known: &Snapshot, pod: IpAddr) -> Result<Option<u32>> {
    if !known.is_own(pod) {
        return Ok(None);
    }
    let to_pod = Lookup {
        to: pod,
        from: None,
    };
    let Found::Forwards { ifindex, next_hop } = netlink.look_up(&to_pod).await? else {
        return Ok(None);
    };
    // A route straight to the veth names it.
    if known.pods.contains_key(&ifindex) {
        return Ok(Some(ifindex));
    }
    let neighbour = netlink.neighbour_now(ifindex, next_hop).await?;
    let Some(mac) = neighbour.and_then(|neighbour| neighbour.mac) else {
        return Ok(None);
    };
    let with_mac = known.pods.iter().find(|(_, pod)| pod.mac == mac);
    Ok(with_mac.map(|(ifindex, _)| *ifindex))
}

async fn kernel_way(netlink: &Netlink, known: &Snapshot, question: &Question) -> Result<KernelWay> {
    let Some(packet) = lookup(known, question) else {
        return Ok(KernelWay::Unknown("where it goes is not known".into()));
    };
    Ok(match netlink.look_up(&packet).await? {
        Found::Local => KernelWay::Local,
        Found::Drops(why) => KernelWay::Drops(why),
        Found::Forwards { ifindex, next_hop } => KernelWay::Forwards {
            ifindex,
            next_hop,
            neighbour: netlink.neighbour_now(ifindex, next_hop).await?,
        },
    })
}

/// What the kernel is asked: the way of a packet that it forwards, where source and entrance are
/// known; else that of one of its own.
fn lookup(known: &Snapshot, question: &Question) -> Option<Lookup> {
    let (to, from, ifindex) = match question.way {
        // A port's packets come in by its bridge.
        Way::Out => {
            let veth = known.veth_of(question.pod);
            let link = veth.and_then(|veth| known.links.get(&veth));
            let ifindex = link.map(|link| link.master.unwrap_or(link.ifindex));
            (question.remote?, question.pod, ifindex)
        }
        Way::In => {
            let uplink = known.uplink_to(question.remote);
            (question.pod?, question.remote, uplink)
        }
        Way::Transit => {
            let uplink = known.uplink_to(question.pod);
            (question.remote?, question.pod, uplink)
        }
    };
    Some(Lookup {
        to,
        from: from.zip(ifindex),
    })
}
