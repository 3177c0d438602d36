mod dual_stack;
mod elsewhere;
mod mtu;
mod own_node;
mod peers;
mod pods;
mod transit;
mod uplink;

use proptest::prelude::*;
use underpass_common::addr::Mac;
use underpass_common::peer::PeerState;
use underpass_common::pod::PodState;

use super::fixtures::*;
use super::*;
use crate::config::{Ingress, UplinkChoice};
use crate::world::Node;
use crate::world::kernel::{KernelRoute, Link, LinkKind, PolicyRule, RouteKind, VethPeer};
use crate::world::netlink::PROTOCOL;

fn planned(config: &Config, world: &World) -> Plan {
    plan(config, world).unwrap()
}

fn way_to(n: u8) -> Route {
    Route {
        ifindex: ETH0,
        peer_mac: peer_mac(n),
        own_mac: OWN_MAC,
    }
}

fn next_hop(n: u8) -> NextHop {
    NextHop {
        gateway: ip(&format!("10.0.0.{n}")),
        ifindex: ETH0,
    }
}

fn state(plan: &Plan, name: &str) -> (PeerState, String) {
    let peer = &plan.peers[name];
    (peer.state, peer.detail.clone().unwrap_or_default())
}

fn texts(plan: &Plan) -> Vec<String> {
    plan.problems.iter().map(ToString::to_string).collect()
}

fn remove_route(world: &mut World, destination: &str) {
    let routes = &mut world.kernel.routes;
    routes.retain(|route| route.destination != net(destination));
}

#[test]
fn nothing_is_planned_before_the_nodes_have_been_read() {
    let mut world = world(3);
    world.nodes = None;
    assert_eq!(plan(&config(), &world), None);
}

#[test]
fn a_healthy_cluster_is_carried_whole() {
    let plan = planned(&config(), &world(3));
    assert_eq!(texts(&plan), [""; 0]);
    assert_eq!(plan.main_uplink().unwrap().name, "eth0");
    assert_eq!(plan.uplinks.len(), 1);
    assert!(!plan.transit);
    assert_eq!(
        plan.routes,
        BTreeMap::from([
            (net("10.244.2.0/24"), way_to(2)),
            (net("10.244.3.0/24"), way_to(3))
        ])
    );
    assert_eq!(
        plan.neighbours,
        BTreeSet::from([(ETH0, ip("10.0.0.2")), (ETH0, ip("10.0.0.3"))])
    );
    assert_eq!(plan.kernel_routes, BTreeMap::new());
    assert_eq!(plan.own_pod_cidrs, [net("10.244.1.0/24")]);
    assert_eq!(state(&plan, "node-2"), (PeerState::Ready, String::new()));
    assert_eq!(plan.peers["node-3"].v4.unwrap().mac, peer_mac(3));
    assert!(
        !plan.peers.contains_key("node-1"),
        "we are not our own peer"
    );
    let states: Vec<_> = plan
        .pods
        .values()
        .map(|pod| (pod.ifindex, pod.state))
        .collect();
    assert_eq!(
        states,
        [(POD_A, PodState::Attached), (POD_B, PodState::Attached)]
    );
    assert_eq!(plan.pods[&POD_A].mac, [2, 0, 0, 0, 2, POD_A as u8]);
}

#[test]
fn hostile_and_broken_claims_are_told_and_the_rest_works() {
    let mut world = world(3);
    world.nodes.as_mut().unwrap().extend([
        node("all", &["0.0.0.0/0"], &["10.0.0.66"]),
        node("ours", &["10.244.1.0/24"], &["10.0.0.67"]),
        node("junk", &["10.244.68.0/33"], &["10.0.0.68"]),
        node("twin-a", &["10.244.70.0/24"], &["10.0.0.70"]),
        node("twin-b", &["10.244.70.0/24"], &["10.0.0.71"]),
    ]);
    let plan = planned(&config(), &world);
    assert_eq!(plan.routes.len(), 2);
    assert_eq!(plan.neighbours.len(), 2);
    assert_eq!(
        texts(&plan),
        [
            "nodes file nodes.yaml: node all: spec.podCIDR \"0.0.0.0/0\" is too large: the prefix must be /8 or longer",
            "nodes file nodes.yaml: node junk: spec.podCIDR \"10.244.68.0/33\" is not a CIDR: the length must be a number from 0 to 32",
            "nodes file nodes.yaml: node ours: spec.podCIDR 10.244.1.0/24 overlaps this node's own 10.244.1.0/24",
            "nodes file nodes.yaml: node twin-a: spec.podCIDR 10.244.70.0/24 overlaps 10.244.70.0/24 of node twin-b",
            "nodes file nodes.yaml: node twin-b: spec.podCIDR 10.244.70.0/24 overlaps 10.244.70.0/24 of node twin-a",
        ]
    );
    assert_eq!(plan.peers["all"].state, PeerState::Refused);
    assert_eq!(plan.peers["all"].refusal, Refusal::TooShort);
    assert_eq!(plan.peers["twin-b"].refusal, Refusal::OverlapsPeer);
}

proptest! {
    #[test]
    fn no_world_can_make_a_plan_that_harms(config in random::config(), world in random::world()) {
        let plan = planned(&config, &world);
        for (prefix, route) in &plan.routes {
            let shortest = if prefix.addr().is_ipv4() { 8 } else { 32 };
            prop_assert!(prefix.prefix_len() >= shortest);
            for own in &plan.own_pod_cidrs {
                prop_assert!(!own.contains(prefix) && !prefix.contains(own));
            }
            if !route.is_kernels() {
                let uplink = plan.uplink(route.ifindex).unwrap();
                prop_assert_eq!(route.own_mac, uplink.mac);
                prop_assert_eq!(route.peer_mac[0] & 1, 0);
                prop_assert_ne!(route.peer_mac, uplink.mac);
            }
        }
        for prefix in plan.kernel_routes.keys() {
            let others = world.kernel.routes.iter()
                .any(|route| route.destination == *prefix && route.protocol != PROTOCOL);
            prop_assert!(!others && config.routes == crate::config::RoutesMode::Manage);
        }
        for &(ifindex, address) in &plan.neighbours {
            prop_assert!(plan.uplink(ifindex).is_some());
            prop_assert!(!address.is_multicast() && !address.is_loopback());
        }
        for peer in plan.peers.values() {
            let families = [peer.v4, peer.v6].into_iter().flatten();
            let worst = families.filter(|family| family.refusal != Refusal::NoAddress)
                .map(|family| family.state).max();
            prop_assert!(worst.is_none_or(|worst| worst == peer.state));
            prop_assert_eq!(peer.state == PeerState::Refused, peer.refusal != Refusal::None);
            prop_assert_eq!(peer.state == PeerState::Ready, peer.detail.is_none());
        }
        for peer in plan.peers.values() {
            for family in [peer.v4, peer.v6].into_iter().flatten() {
                let is_placed = plan.uplink(family.uplink).is_some();
                prop_assert_eq!(is_placed, family.uplink != 0);
                let is_ready = family.state == PeerState::Ready;
                prop_assert!(is_placed || !is_ready);
            }
        }
        for ifindex in &plan.xdp_uplinks {
            prop_assert!(plan.transit && world.kernel.xdp_targets.contains(ifindex));
            prop_assert!(world.kernel.onlookers[ifindex].egress.is_empty());
        }
        let mut sorted = plan.problems.clone();
        sorted.sort();
        prop_assert_eq!(&sorted, &plan.problems);
        for problem in &plan.problems {
            prop_assert_eq!(problem.text.lines().count(), 1);
        }
    }
}
