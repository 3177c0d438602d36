//! Any claims, any kernel, anything in the maps: what a plan takes, and how it is reached.

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use underpass_common::addr::NO_MAC;
use underpass_common::peer::{PeerState, Refusal};
use underpass_common::route::Route;
use underpass_common::settings::{MAX_POD_CIDRS, Settings};
use underpass_common::xdp::MAX_UPLINKS;

use super::overlap::overlap;
use super::parse::node_address;
use super::{Plan, peer_key, peer_name, plan, pod_cidrs_of, put_pod_cidrs};
use crate::config::Config;
use crate::diff::{Actual, RouteChange, diff};
use crate::fuzzing::{Bytes, assert_one_line};
use crate::world::{LinkKind, World};

pub(crate) fn run(input: &[u8]) {
    let mut bytes = Bytes::new(input);
    let mut config = world::config(&mut bytes);
    let mut world = world::world(&mut bytes);
    let actual = world::actual(&mut bytes);
    // Last, so that the seeds go on meaning what they meant.
    world::extra_uplinks(&mut bytes, &mut config, &mut world);
    let planned = plan(&config, &world).expect("the nodes have been read");
    takes_no_harm(&config, &world, &planned);
    tells_it_in_lines(&planned);
    does_not_depend_on_order(&config, world, &planned);
    survives_the_maps(&planned);
    is_reached_in_one_step(actual, &planned);
}

/// Nothing in the trie leads our own pods, a node or what lies outside the cluster anywhere.
fn takes_no_harm(config: &Config, world: &World, plan: &Plan) {
    let local = world.kernel.addresses.values().flatten().map(IpNet::addr);
    let nodes = world.nodes.iter().flatten();
    let claimed = nodes.flat_map(|node| {
        let flannels = [&node.public_ip, &node.public_ipv6].into_iter().flatten();
        node.internal_ips.iter().chain(flannels)
    });
    let addresses: Vec<IpAddr> = claimed
        .filter_map(|text| node_address(text).ok())
        .chain(local)
        .collect();
    let destinations = plan.routes.keys().chain(plan.kernel_routes.keys());
    for prefix in destinations {
        let v4 = prefix.addr().is_ipv4();
        assert_eq!(*prefix, prefix.trunc());
        assert!(prefix.prefix_len() >= if v4 { 8 } else { 32 }, "{prefix}");
        let held = addresses.iter().find(|address| prefix.contains(*address));
        assert_eq!(held, None, "{prefix} holds a node's address");
        let own = plan
            .own_pod_cidrs
            .iter()
            .find(|own| overlap(**own, *prefix));
        assert_eq!(own, None, "{prefix} overlaps our own");
        let same_family = |cluster: &&IpNet| cluster.addr().is_ipv4() == v4;
        let mut cluster = config.cluster_cidrs.iter().filter(same_family).peekable();
        assert!(
            cluster.peek().is_none() || cluster.any(|cluster| cluster.contains(prefix)),
            "{prefix} lies outside the cluster"
        );
    }
    for (prefix, route) in plan.routes.iter().filter(|(_, route)| !route.is_kernels()) {
        let uplink = plan.uplink(route.ifindex);
        let uplink = uplink.expect("a route has a way out");
        assert_eq!(route.own_mac, uplink.mac, "{prefix}");
        let mac = route.peer_mac;
        assert!(
            mac != NO_MAC && mac[0] & 1 == 0 && mac != uplink.mac,
            "{prefix} {mac:?}"
        );
    }
    for (ifindex, pod) in &plan.pods {
        let link = &world.kernel.links[ifindex];
        assert!(matches!(link.kind, LinkKind::Veth(_)), "{link:?}");
        assert_eq!(plan.uplink(*ifindex), None, "a pod is no uplink");
        assert_eq!(pod.ifindex, *ifindex);
    }
    let mut known = BTreeSet::new();
    for uplink in &plan.uplinks {
        assert!(known.insert(uplink.ifindex), "{uplink:?} is there twice");
    }
    assert!(known.is_superset(&plan.xdp) && known.is_superset(&plan.xdp_uplinks));
    assert!(known.len() <= MAX_UPLINKS);
    for v4 in [true, false] {
        let own = plan.own_pod_cidrs.iter();
        assert!(own.filter(|own| own.addr().is_ipv4() == v4).count() <= MAX_POD_CIDRS);
    }
}

/// Others' names and texts break no line of the log.
fn tells_it_in_lines(plan: &Plan) {
    for problem in &plan.problems {
        assert_one_line(&problem.text);
    }
    for (name, peer) in &plan.peers {
        let is_refused = peer.state == PeerState::Refused;
        assert_eq!(
            is_refused,
            peer.refusal != Refusal::None,
            "{name:?} {peer:?}"
        );
        assert_eq!(
            peer.state != PeerState::Ready,
            peer.detail.is_some(),
            "{name:?} {peer:?}"
        );
        peer.detail.iter().for_each(|line| assert_one_line(line));
    }
}

fn does_not_depend_on_order(config: &Config, mut world: World, planned: &Plan) {
    world.nodes.iter_mut().for_each(|nodes| nodes.reverse());
    let turned = plan(config, &world).expect("the nodes have been read");
    assert_eq!(turned.routes, planned.routes);
    assert_eq!(turned.kernel_routes, planned.kernel_routes);
    assert_eq!(turned.neighbours, planned.neighbours);
    assert_eq!(turned.own_pod_cidrs, planned.own_pod_cidrs);
    assert_eq!(turned.pods, planned.pods);
    assert_eq!(turned.uplinks, planned.uplinks);
    // Of several Nodes with one name any may stand for all: they are refused.
    let states = |plan: &Plan| -> Vec<_> {
        let peers = plan.peers.iter();
        peers
            .map(|(name, peer)| (name.clone(), peer.state, peer.refusal))
            .collect()
    };
    assert_eq!(states(&turned), states(planned));
}

/// What a restarted agent reads is what the last one wrote.
fn survives_the_maps(plan: &Plan) {
    let mut settings = Settings::default();
    put_pod_cidrs(&plan.own_pod_cidrs, &mut settings);
    assert_eq!(pod_cidrs_of(&settings), plan.own_pod_cidrs);
    for (name, peer) in &plan.peers {
        match peer_key(name) {
            Some(key) => assert_eq!(peer_name(&key), Some(name.as_str())),
            None => assert_eq!(peer.state, PeerState::Refused, "{name:?} has no entry"),
        }
    }
}

/// From anything that the maps may hold: made once, the changes leave none to make, and no step of them
/// catches what is the kernel's before and after.
fn is_reached_in_one_step(mut actual: Actual, plan: &Plan) {
    let changes = diff(&actual, plan);
    catches_nothing_on_the_way(actual.routes.clone(), &changes.routes, &plan.routes);
    actual.apply(&changes);
    let again = diff(&actual, plan);
    assert!(again.is_empty(), "{again:?}");
    assert_eq!(actual.routes, plan.routes);
    assert_eq!(actual.neighbours, plan.neighbours);
}

type Trie = BTreeMap<IpNet, Route>;

fn catches_nothing_on_the_way(mut now: Trie, changes: &[RouteChange], after: &Trie) {
    let probes = now.keys().chain(after.keys());
    let kernels: Vec<IpAddr> = probes
        .flat_map(|prefix| [prefix.network(), prefix.broadcast()])
        .filter(|address| is_kernels(&now, *address) && is_kernels(after, *address))
        .collect();
    for change in changes {
        match change {
            RouteChange::Set(prefix, route) => now.insert(*prefix, *route),
            RouteChange::Remove(prefix) => now.remove(prefix),
        };
        for address in &kernels {
            assert!(is_kernels(&now, *address), "{address} after {change:?}");
        }
    }
    assert_eq!(now, *after);
}

fn is_kernels(trie: &Trie, address: IpAddr) -> bool {
    let matching = trie.iter().filter(|(prefix, _)| prefix.contains(&address));
    matching
        .max_by_key(|(prefix, _)| prefix.prefix_len())
        .is_none_or(|(_, route)| route.is_kernels())
}
