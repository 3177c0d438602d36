//! Looking up: what the kernel would do with one packet, by its own lookup and not by the mirror.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia,
};
use nix::errno::Errno;
use underpass_common::addr::Mac;

use super::ask::{Failure, or_none};
use super::{Netlink, decode};
use crate::world::kernel::Link;

/// A packet to ask the kernel about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// Its destination.
    pub to: IpAddr,
    /// Source and interface that it comes in by; `None`: asked as for a packet of the node's own.
    pub from: Option<(IpAddr, u32)>,
}

/// What the kernel's lookup says (`ip route get`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It goes out of an interface, to a next hop; the destination itself where that is on-link.
    Forwards {
        /// Interface index.
        ifindex: u32,
        /// Next hop.
        next_hop: IpAddr,
    },
    /// It is delivered to this node itself.
    Local,
    /// It is dropped: why, in a few words.
    Drops(String),
}

/// An entry of the neighbour table as it stands now, resolved or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeighbourNow {
    /// Its MAC, where the kernel would use it.
    pub mac: Option<Mac>,
    /// `reachable`, `stale`, `failed`, ...: the kernel's `NUD_` states, in lower case.
    pub state: String,
}

impl Netlink {
    /// All links, by interface index, without their queueing disciplines.
    ///
    /// # Errors
    /// Where the kernel refuses, or the connection is closed.
    pub async fn links(&self) -> Result<BTreeMap<u32, Link>> {
        self.read_links().await
    }

    /// Asks the kernel what it would do with a packet.
    ///
    /// # Errors
    /// Where the connection is closed; a refusal is an answer.
    pub async fn look_up(&self, packet: &Lookup) -> Result<Found> {
        match self
            .get(RouteNetlinkMessage::GetRoute(question(packet)))
            .await
        {
            Ok(RouteNetlinkMessage::NewRoute(answer)) => Ok(found(&answer, packet.to)),
            Ok(_) => Ok(Found::Drops("an answer that is no route".into())),
            Err(Failure::Refused { errno, why }) => Ok(Found::Drops(refusal(errno, why))),
            Err(failure) => Err(failure).context("look up a route"),
        }
    }

    /// An entry of the neighbour table; `None`: there is none.
    ///
    /// # Errors
    /// Where the kernel refuses, or the connection is closed.
    pub async fn neighbour_now(&self, ifindex: u32, ip: IpAddr) -> Result<Option<NeighbourNow>> {
        let mut request = NeighbourMessage::default();
        request.header.family = decode::family(ip);
        request.header.ifindex = ifindex;
        request.attributes = vec![NeighbourAttribute::Destination(ip.into())];
        let answer = self.get(RouteNetlinkMessage::GetNeighbour(request)).await;
        let answer = or_none(answer, &[Errno::ENOENT, Errno::ENODEV])
            .with_context(|| format!("read the neighbour {ip}"))?;
        Ok(match answer {
            Some(RouteNetlinkMessage::NewNeighbour(message)) => Some(NeighbourNow {
                mac: decode::neighbour(&message).and_then(|(_, _, neighbour)| neighbour.mac),
                state: message.header.state.to_string(),
            }),
            _ => None,
        })
    }
}

fn question(packet: &Lookup) -> RouteMessage {
    let mut request = RouteMessage::default();
    let header = &mut request.header;
    header.address_family = decode::family(packet.to);
    header.destination_prefix_length = decode::host_prefix(packet.to);
    let attributes = &mut request.attributes;
    attributes.push(RouteAttribute::Destination(packet.to.into()));
    if let Some((source, ifindex)) = packet.from {
        header.source_prefix_length = decode::host_prefix(source);
        attributes.push(RouteAttribute::Source(source.into()));
        attributes.push(RouteAttribute::Iif(ifindex));
    }
    request
}

fn found(answer: &RouteMessage, to: IpAddr) -> Found {
    match answer.header.kind {
        RouteType::Unicast => {}
        RouteType::Local => return Found::Local,
        RouteType::BlackHole => return Found::Drops("a blackhole route".into()),
        RouteType::Unreachable => return Found::Drops("an unreachable route".into()),
        RouteType::Prohibit => return Found::Drops("a prohibit route".into()),
        other => return Found::Drops(format!("a route of the kind {other:?}")),
    }
    let (mut ifindex, mut next_hop) = (None, to);
    for attribute in &answer.attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(v4))
            | RouteAttribute::Via(RouteVia::Inet(v4)) => next_hop = (*v4).into(),
            RouteAttribute::Gateway(RouteAddress::Inet6(v6))
            | RouteAttribute::Via(RouteVia::Inet6(v6)) => next_hop = (*v6).into(),
            _ => {}
        }
    }
    match ifindex {
        Some(ifindex) => Found::Forwards { ifindex, next_hop },
        None => Found::Drops("a route without an interface".into()),
    }
}

/// What the error numbers of a lookup mean: `fib_props` of the kernel's net/ipv4/fib_semantics.c, and
/// `__fib_validate_source()` and `ip_route_input_slow()` beside it.
fn refusal(errno: Errno, why: Option<String>) -> String {
    let meaning = match errno {
        Errno::EINVAL => "a blackhole route, or a source that may not come in there",
        Errno::EHOSTUNREACH => "an unreachable route, or forwarding is off",
        Errno::ENETUNREACH => "no route",
        Errno::EACCES => "a prohibit route",
        Errno::EXDEV => "its source may not come in there (rp_filter)",
        _ => "",
    };
    match (why, meaning) {
        (Some(why), _) => why,
        (None, "") => io::Error::from_raw_os_error(errno as i32).to_string(),
        (None, meaning) => meaning.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(kind: RouteType, attributes: Vec<RouteAttribute>) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.kind = kind;
        message.attributes = attributes;
        message
    }

    #[test]
    fn a_next_hop_is_the_gateway_or_the_destination_itself() {
        let (to, gateway): (IpAddr, IpAddr) = (
            "10.244.2.11".parse().unwrap(),
            "192.168.77.2".parse().unwrap(),
        );
        let oif = RouteAttribute::Oif(2);
        let via = RouteAttribute::Gateway(gateway.into());
        for (attributes, next_hop) in [(vec![oif.clone(), via], gateway), (vec![oif], to)] {
            let found = found(&answer(RouteType::Unicast, attributes), to);
            let expected = Found::Forwards {
                ifindex: 2,
                next_hop,
            };
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn what_is_no_way_out_says_so() {
        let to = "fd00::9".parse().unwrap();
        let oif = || vec![RouteAttribute::Oif(1)];
        assert_eq!(found(&answer(RouteType::Local, oif()), to), Found::Local);
        let dropped = found(&answer(RouteType::BlackHole, oif()), to);
        assert_eq!(dropped, Found::Drops("a blackhole route".into()));
        assert!(matches!(
            found(&answer(RouteType::Unicast, Vec::new()), to),
            Found::Drops(_)
        ));
    }

    #[test]
    fn a_forwarded_packet_is_asked_about_with_its_source_and_entrance() {
        let to = "10.244.2.11".parse().unwrap();
        let own = question(&Lookup { to, from: None });
        assert_eq!(own.attributes.len(), 1);
        assert_eq!(own.header.source_prefix_length, 0);
        let from = Some(("10.244.1.11".parse().unwrap(), 7));
        let forwarded = question(&Lookup { to, from });
        assert_eq!(forwarded.header.source_prefix_length, 32);
        assert!(forwarded.attributes.contains(&RouteAttribute::Iif(7)));
    }
}
