//! Routes of our own in the kernel's main table, told from others' by their protocol number.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteScope, RouteType,
};
use nix::errno::Errno;

use super::ask::{Failure, or_none};
use super::{Netlink, PROTOCOL, decode, device};
use crate::world::kernel::RouteKind;

/// Where a route of ours leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// The next router; on-link on the device.
    pub gateway: IpAddr,
    /// Interface index of the device.
    pub ifindex: u32,
}

impl NextHop {
    fn show(&self) -> String {
        format!("via {} on {}", self.gateway, device(self.ifindex))
    }
}

/// What came of the wish to add a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteAdded {
    /// It is there now.
    Added,
    /// It was there before, with this very next hop.
    AlreadyThere,
    /// A route to this destination was there before, and it is not this one: somebody else's, or
    /// ours with another next hop. It has been left alone.
    Taken,
}

impl Netlink {
    /// Adds a route of ours, with the metric that routes have by default.
    ///
    /// The kernel itself makes sure that no route with the same destination and metric is touched.
    /// One with a *worse* metric it would let us hide: look into the mirror for those.
    ///
    /// # Errors
    /// Where the kernel refuses, as for a gateway that is not on-link or a device that is down.
    pub async fn add_route(&self, destination: IpNet, next_hop: NextHop) -> Result<RouteAdded> {
        let answer = self
            .new_route(destination, next_hop, NLM_F_CREATE | NLM_F_EXCL)
            .await;
        if or_none(answer, &[Errno::EEXIST])
            .with_context(|| format!("add the route to {destination} {}", next_hop.show()))?
            .is_some()
        {
            return Ok(RouteAdded::Added);
        }
        let same = self.read_routes().await?.into_iter().any(|route| {
            route.protocol == PROTOCOL
                && route.destination == destination
                && route.kind == next_hop.into()
        });
        Ok(if same {
            RouteAdded::AlreadyThere
        } else {
            RouteAdded::Taken
        })
    }

    /// Leads a route of ours elsewhere. There is no moment without a route, and none in which
    /// somebody else's could be hit, as `NLM_F_REPLACE` would: it asks for no protocol. Call it
    /// where the mirror shows the old one; where it is gone, the new one is there all the same.
    ///
    /// # Errors
    /// Where the kernel refuses the new route (the old one stays then) or to delete the old one.
    pub async fn replace_route(
        &self,
        destination: IpNet,
        old: NextHop,
        new: NextHop,
    ) -> Result<()> {
        // Behind the old one, which goes on carrying the packets until it is deleted.
        let answer = self
            .new_route(destination, new, NLM_F_CREATE | NLM_F_APPEND)
            .await;
        or_none(answer, &[Errno::EEXIST])
            .with_context(|| format!("lead the route to {destination} {}", new.show()))?;
        self.delete_route(destination, old).await
    }

    /// Deletes a route of ours; nobody else's can match. Where there is none, nothing happens.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub async fn delete_route(&self, destination: IpNet, next_hop: NextHop) -> Result<()> {
        let message = route(destination, next_hop);
        let answer = self.change(RouteNetlinkMessage::DelRoute(message), 0).await;
        or_none(answer, &[Errno::ESRCH, Errno::ENODEV])
            .map(|_| ())
            .with_context(|| format!("delete the route to {destination} {}", next_hop.show()))
    }

    /// Index of the interface that the kernel sends packets to `ip` out of; `None` where it has no
    /// route, or keeps them on this machine.
    ///
    /// # Errors
    /// Where the kernel refuses to answer, or the connection is closed.
    pub async fn route_to(&self, ip: IpAddr) -> Result<Option<u32>> {
        let mut message = RouteMessage::default();
        message.header.address_family = decode::family(ip);
        message.header.destination_prefix_length = decode::host_prefix(ip);
        message
            .attributes
            .push(RouteAttribute::Destination(ip.into()));
        let answer = self.get(RouteNetlinkMessage::GetRoute(message)).await;
        let no_route = [Errno::ENETUNREACH, Errno::EHOSTUNREACH, Errno::EACCES];
        let answer =
            or_none(answer, &no_route).with_context(|| format!("look up the route to {ip}"))?;
        let Some(RouteNetlinkMessage::NewRoute(mut route)) = answer else {
            return Ok(None);
        };
        // An IPv6 answer repeats the source asked for, even where none was.
        route.header.source_prefix_length = 0;
        Ok(match decode::route_kind(&route) {
            RouteKind::Gateway { ifindex, .. } | RouteKind::OnLink { ifindex } => Some(ifindex),
            RouteKind::Other => None,
        })
    }

    async fn new_route(
        &self,
        destination: IpNet,
        next_hop: NextHop,
        flags: u16,
    ) -> Result<(), Failure> {
        let message = route(destination, next_hop);
        self.change(RouteNetlinkMessage::NewRoute(message), flags)
            .await
    }
}

impl From<NextHop> for RouteKind {
    fn from(NextHop { gateway, ifindex }: NextHop) -> Self {
        Self::Gateway { gateway, ifindex }
    }
}

/// The message that adds a route of ours, or deletes it: the kernel matches all that stands in it.
fn route(destination: IpNet, next_hop: NextHop) -> RouteMessage {
    let destination = destination.trunc();
    let mut message = RouteMessage::default();
    message.header.address_family = decode::family(destination.addr());
    message.header.destination_prefix_length = destination.prefix_len();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = PROTOCOL.into();
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![
        RouteAttribute::Destination(destination.addr().into()),
        RouteAttribute::Gateway(next_hop.gateway.into()),
        RouteAttribute::Oif(next_hop.ifindex),
    ];
    message
}
