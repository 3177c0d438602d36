//! Having the kernel ask for neighbours once, and no more.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};

use super::{Netlink, decode, device};

/// How far the kernel got with a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// It has a MAC that was confirmed lately, or that an administrator has set.
    Reachable,
    /// It has a MAC, which may be an old one.
    Doubtful,
    /// It is being asked for.
    UnderWay,
    /// It was asked for in vain.
    Failed,
}

/// An entry of the neighbour table, as far as asking goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// How far the kernel got.
    pub resolution: Resolution,
    /// The kernel keeps it fresh on somebody's request, and must not be asked to do anything else.
    pub managed: bool,
}

impl Netlink {
    /// All entries of the neighbour tables, by interface index and address.
    ///
    /// # Errors
    /// Where the kernel refuses to show them.
    pub async fn resolutions(&self) -> Result<BTreeMap<(u32, IpAddr), Resolved>> {
        let mut resolutions = BTreeMap::new();
        for message in self.dump_neighbours().await? {
            if let Some((ifindex, ip, neighbour)) = decode::neighbour(&message) {
                let resolved = Resolved {
                    resolution: resolution(message.header.state),
                    managed: neighbour.managed,
                };
                resolutions.insert((ifindex, ip), resolved);
            }
        }
        Ok(resolutions)
    }

    /// Has the kernel ask for a neighbour now, as a packet to it would. `known`: there is an entry with a
    /// MAC, which is asked whether it is still right. The entry is an ordinary one, which goes by itself.
    ///
    /// Not for an entry that is permanent or kept fresh for somebody (`NTF_EXT_MANAGED`): it would lose that.
    ///
    /// # Errors
    /// Where the kernel refuses: the device is gone or down, the table is full, no `CAP_NET_ADMIN`.
    pub async fn ask_for_neighbour(&self, ifindex: u32, ip: IpAddr, known: bool) -> Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.family = decode::family(ip);
        message.header.ifindex = ifindex;
        message.attributes = vec![NeighbourAttribute::Destination(ip.into())];
        match known {
            // With its MAC kept (neigh_update() of net/core/neighbour.c); it is asked at once.
            true => message.header.state = NeighbourState::Probe,
            false => message.header.flags = NeighbourFlags::Use,
        }
        self.change(
            RouteNetlinkMessage::NewNeighbour(message),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
        .await
        .with_context(|| format!("ask for the neighbour {ip} on {}", device(ifindex)))
    }
}

/// States of include/uapi/linux/neighbour.h.
fn resolution(state: NeighbourState) -> Resolution {
    match state {
        NeighbourState::Permanent | NeighbourState::Noarp | NeighbourState::Reachable => {
            Resolution::Reachable
        }
        NeighbourState::Failed => Resolution::Failed,
        state if decode::resolved(state) => Resolution::Doubtful,
        _ => Resolution::UnderWay,
    }
}
