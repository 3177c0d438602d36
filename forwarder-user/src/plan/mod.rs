//! What should be in the maps, on the interfaces and in the kernel's tables, given what the world is
//! like: a pure function.

mod claims;
mod elsewhere;
mod overlap;
mod parse;
mod peers;
mod pods;
mod problem;
mod records;
mod table;
mod uplink;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use underpass_common::peer::Refusal;
use underpass_common::route::Route;
use underpass_common::settings::MAX_POD_CIDRS;

use crate::config::{Config, Ingress};
use crate::world::World;
use crate::world::kernel::Kernel;
use crate::world::netlink::NextHop;
use claims::{Claim, Rules};
use table::Table;

pub use peers::{PeerFamilyPlan, PeerPlan};
pub use pods::PodPlan;
pub use problem::{Problem, Subject};
pub use records::{peer_key, peer_name, pod_cidrs_of, put_pod_cidrs};
pub use uplink::Uplink;

/// The desired state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The interfaces on the nodes' L2 segments, the main one first. None: nothing can go fast. A problem says why
    /// one is not there.
    pub uplinks: Vec<Uplink>,
    /// Whether what nodes send to one another by this node may go fast, from one uplink to another.
    pub transit: bool,
    /// The uplinks where XDP is to be, by interface index.
    pub xdp: BTreeSet<u32>,
    /// Why it is not to be on others, though it was asked for, by interface index.
    pub no_xdp: BTreeMap<u32, String>,
    /// The uplinks that XDP may hand frames in transit to, by interface index.
    pub xdp_uplinks: BTreeSet<u32>,
    /// The trie: the peers' podCIDRs, and exceptions from them.
    pub routes: BTreeMap<IpNet, Route>,
    /// Peers' addresses that the kernel is asked to keep resolved, by interface index.
    pub neighbours: BTreeSet<(u32, IpAddr)>,
    /// The kernel's routes that are ours to keep.
    pub kernel_routes: BTreeMap<IpNet, NextHop>,
    /// Pods' veths, by interface index.
    pub pods: BTreeMap<u32, PodPlan>,
    /// This node's own podCIDRs, IPv4 first; at most [`MAX_POD_CIDRS`] of a family. Without those
    /// that the kernel keeps an MTU for which only it can honour.
    pub own_pod_cidrs: Vec<IpNet>,
    /// What became of the other nodes' claims, by node name.
    pub peers: BTreeMap<String, PeerPlan>,
    /// Policy rules, and routes that lead pods' addresses elsewhere, in one number: where it is
    /// another one, every flow is to be confirmed anew.
    pub routing_digest: u64,
    /// What somebody should know, ordered by subject.
    pub problems: Vec<Problem>,
}

impl Plan {
    /// The uplink that every node has, where it can be used.
    pub fn main_uplink(&self) -> Option<&Uplink> {
        self.uplinks.iter().find(|uplink| uplink.is_main)
    }

    /// The uplink with this interface index.
    pub fn uplink(&self, ifindex: u32) -> Option<&Uplink> {
        self.uplinks.iter().find(|uplink| uplink.ifindex == ifindex)
    }
}

/// Plans. `None` while the nodes have not been read once: nothing must be concluded from that.
pub fn plan(config: &Config, world: &World) -> Option<Plan> {
    let nodes = world.nodes.as_deref()?;
    let kernel = &world.kernel;
    let table = Table::new(&kernel.routes);
    let local: Vec<IpAddr> = kernel
        .addresses
        .values()
        .flatten()
        .map(IpNet::addr)
        .collect();
    let claims = claims::judge(
        nodes,
        &Rules {
            own_name: &config.node_name,
            cluster_cidrs: &config.cluster_cidrs,
            local_addresses: &local,
        },
    );
    let mut problems = Vec::new();
    let own_pod_cidrs = own_pod_cidrs(config, claims.own.as_ref(), &mut problems);
    let own_addresses = claims.own.map(|own| own.addresses).unwrap_or_default();
    let uplinks = uplink::find_all(
        config,
        &own_addresses,
        &own_pod_cidrs,
        kernel,
        &table,
        &mut problems,
    );
    let surroundings = peers::Surroundings {
        config,
        kernel,
        table: &table,
        uplinks: &uplinks,
    };
    let peers = surroundings.place_all(claims.peers);
    let mut pods = BTreeMap::new();
    for pod in pods::find(kernel, &table, &own_pod_cidrs, &uplinks, config.ingress) {
        problems.extend(pod.problem());
        pods.insert(pod.ifindex, pod);
    }
    let places = elsewhere::Places {
        kernel,
        table: &table,
        own_pod_cidrs: &own_pod_cidrs,
        pods: &pods,
        peers: &peers.peers,
        uplinks: &uplinks,
    };
    let routing_digest = elsewhere::digest(&kernel.rules, &places.elsewhere());
    let own_pod_cidrs = of_full_width(own_pod_cidrs, kernel, &table, &mut problems);
    let own_pod_cidrs = of_whole_flows(own_pod_cidrs, kernel, &mut problems);
    problems.extend(peers.problems);
    problems.sort();
    let transit = uplinks.len() > 1;
    let xdp = xdp(config, &uplinks, transit, kernel);
    Some(Plan {
        uplinks,
        transit,
        xdp: xdp.on,
        no_xdp: xdp.not_on,
        xdp_uplinks: xdp.to,
        routes: peers.routes,
        neighbours: peers.neighbours,
        kernel_routes: peers.kernel_routes,
        pods,
        own_pod_cidrs,
        peers: peers.peers,
        routing_digest,
        problems,
    })
}

/// XDP on the uplinks.
#[derive(Default)]
struct Xdp {
    on: BTreeSet<u32>,
    not_on: BTreeMap<u32, String>,
    to: BTreeSet<u32>,
}

fn xdp(config: &Config, uplinks: &[Uplink], transit: bool, kernel: &Kernel) -> Xdp {
    let mut xdp = Xdp::default();
    if config.ingress != Ingress::Xdp {
        return xdp;
    }
    for uplink in uplinks {
        match uplink::unfit_for_xdp(uplink, kernel) {
            None => {
                xdp.on.insert(uplink.ifindex);
            }
            Some(why) => {
                xdp.not_on.insert(uplink.ifindex, why);
            }
        }
        if transit && uplink::takes_from_xdp(uplink, kernel) {
            xdp.to.insert(uplink.ifindex);
        }
    }
    xdp
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn has(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self == Self::V4)
    }
}

fn own_pod_cidrs(config: &Config, own: Option<&Claim>, problems: &mut Vec<Problem>) -> Vec<IpNet> {
    let mut tell = |text: String| {
        let text = format!("{}: {text}", config.nodes_source);
        problems.push(Problem::new(Subject::OwnNode, text));
    };
    let without = "without its own podCIDR nothing is carried to this node's pods";
    let Some(own) = own else {
        tell(format!(
            "no Node is named {:?}, as --node-name says this one is; {without}",
            config.node_name
        ));
        return Vec::new();
    };
    match &own.refused {
        // The podCIDRs are good, and the uplink may be found without an address.
        Some(refused) if refused.code == Refusal::NoAddress => {}
        Some(refused) => {
            tell(format!("{} (this node itself); {without}", refused.detail));
            return Vec::new();
        }
        None => {}
    }
    let (v4, v6): (Vec<IpNet>, Vec<IpNet>) = own
        .pod_cidrs
        .iter()
        .partition(|cidr| matches!(cidr, IpNet::V4(_)));
    for (family, cidrs) in [("IPv4", &v4), ("IPv6", &v6)] {
        if cidrs.len() > MAX_POD_CIDRS {
            let count = cidrs.len();
            tell(format!(
                "node {} (this node itself): spec.podCIDRs has {count} {family} CIDRs; \
                 only the first {MAX_POD_CIDRS} are carried",
                config.node_name
            ));
        }
    }
    let first = |cidrs: Vec<IpNet>| cidrs.into_iter().take(MAX_POD_CIDRS);
    first(v4).chain(first(v6)).collect()
}

/// Leaves out those of our podCIDRs to which the kernel forwards no packet as large as the pods'
/// interfaces would take. Both directions are the kernel's then.
fn of_full_width(
    own: Vec<IpNet>,
    kernel: &Kernel,
    table: &Table<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<IpNet> {
    let narrow = |cidr: &IpNet| {
        let mut routes = table.at_or_inside(*cidr).filter_map(|(_, route)| {
            let link = kernel.links.get(&table::leaves_by(route)?)?;
            link.is_narrowed_by(route).then_some((route, link))
        });
        let (route, link) = routes.next()?;
        Some(format!(
            "this node's podCIDR {cidr}: the kernel's route to {} by {} carries less than the MTU of \
             {} bytes (an MTU of its own, or net.ipv6.conf.{}.mtu); its traffic stays with the kernel",
            route.destination, link.name, link.mtu, link.name
        ))
    };
    let carried = |cidr: &IpNet| match narrow(cidr) {
        Some(text) => {
            problems.push(Problem::new(Subject::OwnNode, text));
            false
        }
        None => true,
    };
    own.into_iter().filter(carried).collect()
}

/// Leaves out those of our podCIDRs whose family has a policy rule that tells packets of one flow apart:
/// what the kernel did with one packet says nothing of the next then.
fn of_whole_flows(mut own: Vec<IpNet>, kernel: &Kernel, problems: &mut Vec<Problem>) -> Vec<IpNet> {
    for rule in kernel.rules.iter().filter(|rule| rule.splits_flows) {
        let before = own.len();
        own.retain(|cidr| cidr.addr().is_ipv6() != rule.is_ipv6);
        if own.len() < before {
            let text = format!(
                "the policy rule \"{}\" tells packets of one flow apart; the traffic of its family \
                 stays with the kernel",
                rule.text
            );
            problems.push(Problem::new(Subject::OwnNode, text));
        }
    }
    own
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fixtures;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;
