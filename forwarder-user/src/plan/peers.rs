//! What becomes of a peer whose claim has been judged: its routes, its neighbour entry, its state.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use underpass_common::addr::{Mac, NO_MAC};
use underpass_common::peer::{PeerState, Refusal};
use underpass_common::route::Route;
use underpass_common::settings::Offload;

use super::claims::{Claim, Refused};
use super::table::{Table, leaves_by};
use super::{Family, Problem, Subject, Uplink};
use crate::config::{Config, RoutesMode};
use crate::world::kernel::{Kernel, KernelRoute, Neighbour, RouteKind};
use crate::world::netlink::{NextHop, PROTOCOL};

/// What became of another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerPlan {
    /// What it claims, as far as it could be read.
    pub pod_cidrs: Vec<IpNet>,
    /// Its first InternalIP of each family.
    pub addresses: Vec<IpAddr>,
    /// The node in IPv4; `None`: it has no podCIDR of that family.
    pub v4: Option<PeerFamilyPlan>,
    /// The node in IPv6; `None`: it has no podCIDR of that family.
    pub v6: Option<PeerFamilyPlan>,
    /// How far it got: the worst of the families that it has a podCIDR and an address of.
    pub state: PeerState,
    /// Why its claim is refused.
    pub refusal: Refusal,
    /// One line on why it is not [`PeerState::Ready`].
    pub detail: Option<String>,
}

/// What became of another node in one address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerFamilyPlan {
    /// Its MAC on our segment; all zeros: unknown.
    pub mac: Mac,
    /// Interface index of the uplink on its segment; 0: it is on none of ours.
    pub uplink: u32,
    /// How far it got.
    pub state: PeerState,
    /// Why its claim is refused.
    pub refusal: Refusal,
}

impl PeerFamilyPlan {
    fn refused(refusal: Refusal) -> Self {
        Self {
            mac: NO_MAC,
            uplink: 0,
            state: PeerState::Refused,
            refusal,
        }
    }
}

impl PeerPlan {
    /// Notes how far one family got; the worst one's reason stays.
    fn meet(&mut self, name: &str, obstacle: Option<Obstacle>) -> PeerState {
        let Some((state, why)) = obstacle else {
            return PeerState::Ready;
        };
        if state > self.state {
            self.state = state;
            self.detail = Some(format!("node {name}: {why}"));
        }
        state
    }
}

/// What a peer's fate depends on besides its claim.
pub(super) struct Surroundings<'a> {
    pub config: &'a Config,
    pub kernel: &'a Kernel,
    pub table: &'a Table<'a>,
    pub uplinks: &'a [Uplink],
}

/// What the peers together need.
#[derive(Debug, Default)]
pub(super) struct Placed {
    pub peers: BTreeMap<String, PeerPlan>,
    pub routes: BTreeMap<IpNet, Route>,
    pub neighbours: BTreeSet<(u32, IpAddr)>,
    pub kernel_routes: BTreeMap<IpNet, NextHop>,
    pub problems: Vec<Problem>,
}

/// Where a node is.
struct Place {
    /// Interface index of the uplink on its segment; 0: on none of ours.
    uplink: u32,
    mac: Mac,
}

impl Place {
    const NOWHERE: Self = Self {
        uplink: 0,
        mac: NO_MAC,
    };
}

/// A state that is not [`PeerState::Ready`], and why.
type Obstacle = (PeerState, String);

impl Surroundings<'_> {
    pub(super) fn place_all(&self, claims: BTreeMap<String, Claim>) -> Placed {
        let mut placed = Placed::default();
        for (name, claim) in claims {
            let peer = match &claim.refused {
                Some(refused) => self.refuse(&name, &claim, refused, &mut placed),
                None => self.place(&name, &claim, &mut placed),
            };
            placed.peers.insert(name, peer);
        }
        placed
    }

    fn refuse(
        &self,
        name: &str,
        claim: &Claim,
        refused: &Refused,
        placed: &mut Placed,
    ) -> PeerPlan {
        let text = format!("{}: {}", self.config.nodes_source, refused.detail);
        let subject = Subject::Node(name.to_owned());
        placed.problems.push(Problem::new(subject, text));
        let family = |family: Family| {
            let mut cidrs = claim.pod_cidrs.iter();
            cidrs
                .any(|cidr| family.has(cidr.addr()))
                .then_some(PeerFamilyPlan::refused(refused.code))
        };
        PeerPlan {
            pod_cidrs: claim.pod_cidrs.clone(),
            addresses: claim.addresses.clone(),
            v4: family(Family::V4),
            v6: family(Family::V6),
            state: PeerState::Refused,
            refusal: refused.code,
            detail: Some(refused.detail.clone()),
        }
    }

    fn place(&self, name: &str, claim: &Claim, placed: &mut Placed) -> PeerPlan {
        let mut peer = PeerPlan {
            pod_cidrs: claim.pod_cidrs.clone(),
            addresses: claim.addresses.clone(),
            v4: None,
            v6: None,
            state: PeerState::Ready,
            refusal: Refusal::None,
            detail: None,
        };
        for family in [Family::V4, Family::V6] {
            let of_family = |cidr: &&IpNet| family.has(cidr.addr());
            let cidrs: Vec<IpNet> = claim.pod_cidrs.iter().filter(of_family).copied().collect();
            if cidrs.is_empty() {
                continue;
            }
            let mut addresses = claim.addresses.iter().copied();
            let placed_family = match addresses.find(|address| family.has(*address)) {
                Some(address) => {
                    let (place, obstacle) = self.place_family(name, address, &cidrs, placed);
                    PeerFamilyPlan {
                        mac: place.mac,
                        uplink: place.uplink,
                        state: peer.meet(name, obstacle),
                        refusal: Refusal::None,
                    }
                }
                // Of a podCIDR with no address beside it; the other family goes on.
                None => PeerFamilyPlan::refused(Refusal::NoAddress),
            };
            match family {
                Family::V4 => peer.v4 = Some(placed_family),
                Family::V6 => peer.v6 = Some(placed_family),
            }
        }
        peer
    }

    /// Places a peer's podCIDRs of one family, reached by its address of that family.
    fn place_family(
        &self,
        name: &str,
        address: IpAddr,
        cidrs: &[IpNet],
        placed: &mut Placed,
    ) -> (Place, Option<Obstacle>) {
        let uplink = match self.on_link(address) {
            Ok(uplink) => uplink,
            Err(why) => return (Place::NOWHERE, Some((PeerState::NotOnLink, why))),
        };
        let at = |mac| Place {
            uplink: uplink.ifindex,
            mac,
        };
        let next_hop = NextHop {
            gateway: address,
            ifindex: uplink.ifindex,
        };
        let neighbour = self.kernel.neighbours.get(&(uplink.ifindex, address));
        if neighbour.is_none_or(is_ours_to_keep) {
            placed.neighbours.insert((uplink.ifindex, address));
        }
        if self.config.routes == RoutesMode::Manage {
            for &cidr in cidrs {
                self.manage(name, cidr, next_hop, placed);
            }
        }
        let mac = neighbour.and_then(|neighbour| neighbour.mac);
        let Some(mac) = mac.filter(|mac| is_station(mac) && *mac != uplink.mac) else {
            let why = format!("its address {address} has no MAC on {}", uplink.name);
            return (at(NO_MAC), Some((PeerState::WaitingForNeighbour, why)));
        };
        if let Some(why) = self.narrow_uplink(uplink, address) {
            return (at(mac), Some((PeerState::OtherMtu, why)));
        }
        let route = Route {
            ifindex: uplink.ifindex,
            peer_mac: mac,
            own_mac: uplink.mac,
        };
        let mut obstacle = None;
        for &cidr in cidrs {
            if self.config.offload == Offload::Always {
                placed.routes.insert(cidr, route);
            } else if let Err(met) = self.follow_kernel(cidr, next_hop, route, &mut placed.routes) {
                obstacle = obstacle.max(Some(met));
            }
        }
        (at(mac), obstacle)
    }

    /// The uplink that the kernel would send a frame for `address` straight out of.
    fn on_link(&self, address: IpAddr) -> Result<&Uplink, String> {
        if self.uplinks.is_empty() {
            return Err("there is no uplink".to_owned());
        }
        let names: Vec<&str> = self.uplinks.iter().map(|uplink| &*uplink.name).collect();
        let no = |why: &str| {
            let names = names.join(", ");
            format!("its address {address} is not on-link at {names}: {why}")
        };
        let route = self
            .table
            .to(address)
            .ok_or_else(|| no("the kernel has no route to it"))?;
        let leads_to = |uplink: &&Uplink| {
            let ifindex = uplink.ifindex;
            route.kind == RouteKind::OnLink { ifindex }
        };
        let Some(uplink) = self.uplinks.iter().find(leads_to) else {
            return Err(no(&format!("the kernel routes {}", self.show(route))));
        };
        let ifindex = uplink.ifindex;
        let addresses = self.kernel.addresses.get(&ifindex);
        let is_broadcast = |net: &IpNet| {
            let has_broadcast = net.addr().is_ipv4() && net.prefix_len() < 31;
            has_broadcast && (address == net.broadcast() || address == net.network())
        };
        // RFC 4291, 2.6.1; links of two (/127) have none (RFC 6164).
        let is_anycast = |net: &IpNet| {
            let has_anycast = net.addr().is_ipv6() && net.prefix_len() < 127;
            has_anycast && address == net.network()
        };
        let segments: &[IpNet] = addresses.map_or(&[], Vec::as_slice);
        if segments.iter().any(is_broadcast) {
            return Err(no("it is the segment's broadcast address"));
        }
        if segments.iter().any(is_anycast) {
            return Err(no("it is the anycast address of the segment's routers"));
        }
        Ok(uplink)
    }

    /// Wants a kernel route of ours, unless somebody else keeps one to the same prefix.
    fn manage(&self, name: &str, cidr: IpNet, next_hop: NextHop, placed: &mut Placed) {
        let mut routes = self.table.exactly(cidr);
        match routes.find(|route| route.protocol != PROTOCOL) {
            None => {
                placed.kernel_routes.insert(cidr, next_hop);
            }
            Some(others) => {
                let text = format!(
                    "kernel route {} is somebody else's (protocol {}); it is left alone, \
                     and ours to node {name} is not added",
                    self.show(others),
                    others.protocol
                );
                placed
                    .problems
                    .push(Problem::new(Subject::KernelRoute(cidr), text));
            }
        }
    }

    /// Puts a podCIDR into the trie as far as the kernel routes it to the very same next hop: parts
    /// that it routes elsewhere are exceptions, and parts of those may be routed like the whole.
    fn follow_kernel(
        &self,
        cidr: IpNet,
        next_hop: NextHop,
        route: Route,
        routes: &mut BTreeMap<IpNet, Route>,
    ) -> Result<(), Obstacle> {
        let elsewhere = |why| (PeerState::KernelRoutesElsewhere, why);
        let covering = self
            .table
            .covering(cidr)
            .ok_or_else(|| elsewhere(format!("the kernel has no route to {cidr}")))?;
        if covering.kind != next_hop.into() {
            let why = format!("the kernel routes {cidr} by {}", self.show(covering));
            return Err(elsewhere(why));
        }
        if let Some(mtu) = covering.mtu.filter(|_| self.is_narrowed(covering)) {
            let why = format!("the kernel's route to {cidr} has an MTU of its own, {mtu}");
            return Err((PeerState::OtherMtu, why));
        }
        routes.insert(cidr, route);
        let mut enclosing = vec![(cidr, true)];
        for (part, kernel_route) in self.table.inside(cidr) {
            while enclosing
                .pop_if(|(outer, _)| !outer.contains(&part))
                .is_some()
            {}
            let same_way = kernel_route.kind == next_hop.into() && !self.is_narrowed(kernel_route);
            if enclosing
                .last()
                .is_some_and(|(_, outer)| *outer != same_way)
            {
                routes.insert(part, if same_way { route } else { Route::KERNEL });
                enclosing.push((part, same_way));
            }
        }
        Ok(())
    }

    /// Why the uplink is too narrow for its own MTU, in the family of `address`.
    fn narrow_uplink(&self, uplink: &Uplink, address: IpAddr) -> Option<String> {
        let link = self.kernel.links.get(&uplink.ifindex)?;
        let mtu = link.mtu_v6.filter(|mtu| *mtu < link.mtu)?;
        address.is_ipv6().then(|| {
            format!(
                "{} carries IPv6 packets of {mtu} bytes at most, less than its MTU {}",
                link.name, link.mtu
            )
        })
    }

    /// True where the kernel honours an MTU for this route that the interface does not show.
    fn is_narrowed(&self, route: &KernelRoute) -> bool {
        let link = leaves_by(route).and_then(|ifindex| self.kernel.links.get(&ifindex));
        link.is_some_and(|link| link.is_narrowed_by(route))
    }

    fn show(&self, route: &KernelRoute) -> String {
        let destination = route.destination;
        match route.kind {
            RouteKind::Gateway { gateway, ifindex } => {
                format!("{destination} via {gateway} on {}", self.device(ifindex))
            }
            RouteKind::OnLink { ifindex } => {
                format!("{destination} straight to {}", self.device(ifindex))
            }
            RouteKind::Other => format!("{destination} to no single next hop"),
        }
    }

    fn device(&self, ifindex: u32) -> String {
        let link = self.kernel.links.get(&ifindex);
        link.map_or_else(|| format!("interface {ifindex}"), |link| link.name.clone())
    }
}

/// An administrator's entry, or one that somebody else has the kernel keep, needs nothing from us.
fn is_ours_to_keep(neighbour: &Neighbour) -> bool {
    let others = neighbour.managed && neighbour.protocol != PROTOCOL;
    !neighbour.permanent && !others
}

/// True for the MAC of one station: neither multicast (IEEE 802's group bit) nor none.
fn is_station(mac: &Mac) -> bool {
    *mac != NO_MAC && mac[0] & 1 == 0
}
