//! Reading: the kernel's tables, whole.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::route::{RouteHeader, RouteMessage};
use netlink_packet_route::rule::RuleMessage;
use netlink_packet_route::tc::TcMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage, address::AddressMessage};
use nix::errno::Errno;
use tracing::debug;
use underpass_common::addr::Mac;

use super::ask::{Failure, or_none};
use super::{Netlink, decode, device, mirror, rules};
use crate::world::kernel::{Kernel, KernelRoute, Link, LinkKind, PolicyRule, VethPeer};

pub(super) const FAMILIES: [AddressFamily; 2] = [AddressFamily::Inet, AddressFamily::Inet6];

/// The kernel has no such table: nothing has been put into it yet, or it was built or booted
/// without that family.
pub(super) const NO_TABLE: [Errno; 3] = [Errno::ENOENT, Errno::EAFNOSUPPORT, Errno::EOPNOTSUPP];

impl Netlink {
    /// Reads everything the mirror holds.
    ///
    /// Subscribe first, read then: that is the order in which [`connect`](Self::connect) does it,
    /// so that an event between the two is applied twice and never missed.
    ///
    /// # Errors
    /// Where the kernel refuses to show a table, or the connection is closed.
    pub async fn read_all(&self) -> Result<Kernel> {
        let mut kernel = Kernel {
            links: self.read_links().await?,
            addresses: self.read_addresses().await?,
            ..Kernel::default()
        };
        mirror::fill_in_local_peers(&mut kernel);
        self.read_neighbours(&mut kernel).await?;
        kernel.routes = self.read_routes().await?;
        kernel.rules = self.read_rules().await?;
        self.read_qdiscs(&mut kernel).await?;
        Ok(kernel)
    }

    pub(super) async fn read_links(&self) -> Result<BTreeMap<u32, Link>> {
        let mut request = LinkMessage::default();
        request.attributes.push(without_statistics());
        let table = self
            .dump(RouteNetlinkMessage::GetLink(request))
            .await
            .context("read the links")?;
        let mut links = BTreeMap::new();
        for message in table {
            if let RouteNetlinkMessage::NewLink(message) = message
                && let Some(mut link) = decode::link(&message)
            {
                if let LinkKind::Veth(peer) = &mut link.kind {
                    peer.mac = self.read_peer_mac(peer).await;
                }
                links.insert(link.ifindex, link);
            }
        }
        Ok(links)
    }

    /// One link, without its queueing disciplines and its peer's MAC; `None`: there is none.
    pub(super) async fn read_link(&self, ifindex: u32) -> Result<Option<Link>> {
        let mut request = LinkMessage::default();
        request.header.index = ifindex;
        self.get_link(request)
            .await
            .with_context(|| format!("read the link with index {ifindex}"))
    }

    async fn get_link(&self, request: LinkMessage) -> Result<Option<Link>, Failure> {
        let message = self.get_link_message(request).await?;
        Ok(message.and_then(|message| decode::link(&message)))
    }

    /// All that the kernel tells of one link; `None`: there is none.
    pub(super) async fn get_link_message(
        &self,
        mut request: LinkMessage,
    ) -> Result<Option<LinkMessage>, Failure> {
        request.attributes.push(without_statistics());
        let answer = self.get(RouteNetlinkMessage::GetLink(request)).await;
        Ok(match or_none(answer, &[Errno::ENODEV])? {
            Some(RouteNetlinkMessage::NewLink(message)) => Some(message),
            _ => None,
        })
    }

    /// The MAC of a veth's peer in another namespace, read without entering it (needs
    /// CAP_NET_ADMIN there). `None` where it can't be read, as while a pod comes or goes.
    pub(super) async fn read_peer_mac(&self, peer: &VethPeer) -> Option<Mac> {
        let mut request = LinkMessage::default();
        request.header.index = peer.ifindex;
        request
            .attributes
            .push(LinkAttribute::IfNetnsId(peer.netns_id?));
        match self.get_link(request).await {
            Ok(link) => link.map(|link| link.mac),
            Err(failure) => {
                debug!(
                    "can't read the veth peer with index {} in namespace {:?}: {failure}",
                    peer.ifindex, peer.netns_id
                );
                None
            }
        }
    }

    async fn read_addresses(&self) -> Result<BTreeMap<u32, Vec<IpNet>>> {
        let mut addresses: BTreeMap<u32, Vec<IpNet>> = BTreeMap::new();
        for family in FAMILIES {
            let mut request = AddressMessage::default();
            request.header.family = family;
            let answer = self.dump(RouteNetlinkMessage::GetAddress(request)).await;
            let table = or_none(answer, &NO_TABLE).context("read the interfaces' addresses")?;
            for message in table.unwrap_or_default() {
                if let RouteNetlinkMessage::NewAddress(message) = message
                    && message.header.family == family
                    && !decode::is_in_doubt(&message)
                    && let Some((ifindex, address)) = decode::address(&message)
                {
                    addresses.entry(ifindex).or_default().push(address);
                }
            }
        }
        for list in addresses.values_mut() {
            list.sort_unstable();
        }
        Ok(addresses)
    }

    async fn read_neighbours(&self, kernel: &mut Kernel) -> Result<()> {
        for message in self.dump_neighbours().await? {
            if let Some((ifindex, ip, neighbour)) = decode::neighbour(&message)
                && decode::worth_keeping(&neighbour)
            {
                kernel.neighbours.insert((ifindex, ip), neighbour);
            }
        }
        Ok(())
    }

    /// What the kernel tells of the neighbours of both families.
    pub(super) async fn dump_neighbours(&self) -> Result<Vec<NeighbourMessage>> {
        let mut neighbours = Vec::new();
        for family in FAMILIES {
            let mut request = NeighbourMessage::default();
            request.header.family = family;
            let answer = self.dump(RouteNetlinkMessage::GetNeighbour(request)).await;
            let table = or_none(answer, &NO_TABLE).context("read the neighbour table")?;
            let neighbour = |message| match message {
                RouteNetlinkMessage::NewNeighbour(message) => Some(message),
                _ => None,
            };
            neighbours.extend(table.into_iter().flatten().filter_map(neighbour));
        }
        Ok(neighbours)
    }

    /// The main table, ordered by destination and metric; equal ones as the kernel orders them.
    pub(super) async fn read_routes(&self) -> Result<Vec<KernelRoute>> {
        let mut routes = Vec::new();
        for family in FAMILIES {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            // The strict check makes a filter of it: the local table stays where it is.
            request.header.table = RouteHeader::RT_TABLE_MAIN;
            let answer = self.dump(RouteNetlinkMessage::GetRoute(request)).await;
            let table = or_none(answer, &NO_TABLE).context("read the main route table")?;
            for message in table.unwrap_or_default() {
                if let RouteNetlinkMessage::NewRoute(message) = message
                    && message.header.address_family == family
                {
                    routes.extend(decode::routes(&message));
                }
            }
        }
        routes.sort_by_key(|route| (route.destination, route.priority));
        Ok(routes)
    }

    pub(super) async fn read_rules(&self) -> Result<Vec<PolicyRule>> {
        let mut rules = Vec::new();
        for family in FAMILIES {
            let mut request = RuleMessage::default();
            request.header.family = family;
            let answer = self.dump(RouteNetlinkMessage::GetRule(request)).await;
            let table = or_none(answer, &NO_TABLE).context("read the policy rules")?;
            for message in table.unwrap_or_default() {
                if let RouteNetlinkMessage::NewRule(message) = message
                    && message.header.family == family
                {
                    rules.extend(rules::rule(&message));
                }
            }
        }
        Ok(rules)
    }

    /// Reads the queueing disciplines of all links (the kernel has no way to ask for one link's),
    /// and the filters that hang on them, and tells whether any has changed.
    pub(super) async fn read_qdiscs(&self, kernel: &mut Kernel) -> Result<bool> {
        let table = self
            .dump(RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default()))
            .await
            .context("read the queueing disciplines")?;
        let mut kinds: BTreeMap<u32, BTreeSet<&str>> = BTreeMap::new();
        for message in &table {
            if let RouteNetlinkMessage::NewQueueDiscipline(message) = message
                && let Some((ifindex, kind)) = decode::qdisc(message)
            {
                kinds.entry(ifindex).or_default().insert(kind);
            }
        }
        let mut changed = false;
        for link in kernel.links.values_mut() {
            let mut now = kinds.remove(&link.ifindex).unwrap_or_default();
            let (mut ingress, mut egress) = (Vec::new(), Vec::new());
            if now.contains("clsact") || now.contains("ingress") {
                ingress = self.read_filters(link.ifindex, FILTERS_INGRESS).await?;
            }
            // Asked for what goes out, `ingress` answers with what comes in.
            if now.contains("clsact") {
                egress = self.read_filters(link.ifindex, FILTERS_EGRESS).await?;
            }
            now.retain(|kind| decode::holds_back(kind));
            let qdiscs = now.into_iter().map(str::to_owned).collect();
            for (old, new) in [
                (&mut link.qdiscs, qdiscs),
                (&mut link.ingress_filters, ingress),
                (&mut link.egress_filters, egress),
            ] {
                changed |= *old != new;
                *old = new;
            }
        }
        Ok(changed)
    }

    /// Kinds of the filters at one place of a link that may limit or redirect.
    async fn read_filters(&self, ifindex: u32, place: u32) -> Result<Vec<String>> {
        let table = self.dump_filters(ifindex, place).await?;
        let mut kinds = BTreeSet::new();
        for message in &table {
            kinds.extend(decode::limiting_filter(message));
        }
        Ok(kinds.into_iter().map(str::to_owned).collect())
    }

    /// What the kernel tells of the filters at one place of a link; nothing where there is no such place.
    pub(super) async fn dump_filters(&self, ifindex: u32, place: u32) -> Result<Vec<TcMessage>> {
        let mut request = TcMessage::default();
        request.header.index = i32::try_from(ifindex).context("an interface index is too large")?;
        request.header.parent = place.into();
        let answer = self
            .dump(RouteNetlinkMessage::GetTrafficFilter(request))
            .await;
        // The link, or what the filters hang on, is gone by now: an event follows.
        let gone = [
            Errno::ENODEV,
            Errno::EINVAL,
            Errno::EOPNOTSUPP,
            Errno::ENOENT,
        ];
        let table = or_none(answer, &gone)
            .with_context(|| format!("read the filters on {}", device(ifindex)))?;
        let filter = |message| match message {
            RouteNetlinkMessage::NewTrafficFilter(message) => Some(message),
            _ => None,
        };
        Ok(table.into_iter().flatten().filter_map(filter).collect())
    }
}

/// `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)` of include/uapi/linux/pkt_sched.h; good for `ingress` too.
pub(super) const FILTERS_INGRESS: u32 = 0xffff_fff2;
/// `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS)`.
pub(super) const FILTERS_EGRESS: u32 = 0xffff_fff3;

/// Spares the kernel and us half a kilobyte for each link.
fn without_statistics() -> LinkAttribute {
    LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])
}
