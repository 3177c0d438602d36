//! Having the kernel keep neighbours fresh.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage,
};
use netlink_packet_route::route::RouteProtocol;
use nix::errno::Errno;

use super::ask::or_none;
use super::{Netlink, PROTOCOL, decode, device};

impl Netlink {
    /// Asks the kernel to resolve a neighbour and to keep it resolved (`NTF_EXT_MANAGED`), and
    /// marks it as ours. An entry that is there keeps its state and its MAC. Asking again changes
    /// nothing, but has an entry in doubt probed at once; by itself the kernel looks after all such
    /// entries every `net.ipv4.neigh.default.interval_probe_time_ms`, 5 s.
    ///
    /// The kernel deletes the entry when the device goes down or loses its carrier, and, in a table
    /// of more than `gc_thresh1` (128) entries, when it has failed. Ask again where the mirror
    /// shows none.
    ///
    /// The kernel makes no check of who asked before, and a permanent entry would lose its MAC:
    /// call it only where the mirror shows no entry, or one that is neither permanent nor kept for
    /// somebody else.
    ///
    /// # Errors
    /// Where the kernel refuses: the device is gone or down, the neighbour table is full
    /// (`net.ipv4.neigh.default.gc_thresh3`).
    pub async fn keep_neighbour_fresh(&self, ifindex: u32, ip: IpAddr) -> Result<()> {
        // State NUD_NONE, the default, and no MAC: the kernel finds out by itself.
        let mut message = neighbour(ifindex, ip, PROTOCOL);
        message
            .attributes
            .push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
        self.change(
            RouteNetlinkMessage::NewNeighbour(message),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
        .await
        .with_context(|| format!("keep the neighbour {ip} on {} fresh", device(ifindex)))
    }

    /// Makes an ordinary entry again of one that [`keep_neighbour_fresh`](Self::keep_neighbour_fresh)
    /// has been called for. It keeps its state and its MAC, so that traffic does not notice. Where
    /// there is no entry, nothing happens.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub async fn release_neighbour(&self, ifindex: u32, ip: IpAddr) -> Result<()> {
        // "Use" touches neither state nor MAC (__neigh_update() in net/core/neighbour.c), and
        // clears the managed flag because the request does not have it. The protocol can't be
        // cleared, only set: to the kernel's own.
        let mut message = neighbour(ifindex, ip, RouteProtocol::Kernel.into());
        message.header.flags = NeighbourFlags::Use;
        let answer = self
            .change(RouteNetlinkMessage::NewNeighbour(message), NLM_F_REPLACE)
            .await;
        or_none(answer, &[Errno::ENOENT, Errno::ENODEV])
            .map(|_| ())
            .with_context(|| format!("release the neighbour {ip} on {}", device(ifindex)))
    }
}

fn neighbour(ifindex: u32, ip: IpAddr, protocol: u8) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = decode::family(ip);
    message.header.ifindex = ifindex;
    message.attributes = vec![
        NeighbourAttribute::Destination(ip.into()),
        NeighbourAttribute::Protocol(protocol.into()),
    ];
    message
}
