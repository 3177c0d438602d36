//! Nodes with one family, the other, or both.

use super::*;
use crate::plan::peers::PeerFamilyPlan;

fn way_to_v6(n: u8) -> Route {
    Route {
        peer_mac: peer_mac_v6(n),
        ..way_to(n)
    }
}

fn family(mac: Mac, state: PeerState) -> Option<PeerFamilyPlan> {
    Some(PeerFamilyPlan {
        mac,
        uplink: ETH0,
        state,
        refusal: Refusal::None,
    })
}

#[test]
fn a_dual_stack_cluster_is_carried_in_both_families() {
    let plan = planned(&config(), &dual_stack(3));
    assert_eq!(texts(&plan), [""; 0]);
    assert_eq!(
        plan.routes,
        BTreeMap::from([
            (net("10.244.2.0/24"), way_to(2)),
            (net("10.244.3.0/24"), way_to(3)),
            (net("fd00:244:2::/64"), way_to_v6(2)),
            (net("fd00:244:3::/64"), way_to_v6(3)),
        ])
    );
    let neighbours = ["10.0.0.2", "10.0.0.3", "fd00::2", "fd00::3"];
    assert_eq!(
        plan.neighbours,
        neighbours.map(|address| (ETH0, ip(address))).into()
    );
    let own = [net("10.244.1.0/24"), net("fd00:244:1::/64")];
    assert_eq!(plan.own_pod_cidrs, own);
    let peer = &plan.peers["node-2"];
    assert_eq!(
        (peer.state, peer.detail.as_deref()),
        (PeerState::Ready, None)
    );
    assert_eq!(peer.v4, family(peer_mac(2), PeerState::Ready));
    assert_eq!(peer.v6, family(peer_mac_v6(2), PeerState::Ready));
}

#[test]
fn nodes_of_ipv6_alone_are_carried() {
    let mut world = dual_stack(2);
    without_ipv4(&mut world);
    let plan = planned(&config(), &world);
    assert_eq!(texts(&plan), [""; 0]);
    let why = "by the InternalIP, which is an IPv6 one";
    assert_eq!(plan.main_uplink().unwrap().ifindex, ETH0, "{why}");
    assert_eq!(plan.own_pod_cidrs, [net("fd00:244:1::/64")]);
    assert_eq!(
        plan.routes,
        BTreeMap::from([(net("fd00:244:2::/64"), way_to_v6(2))])
    );
    let peer = &plan.peers["node-2"];
    assert_eq!((peer.state, peer.v4), (PeerState::Ready, None));
    assert_eq!(plan.pods.len(), 2, "by the bridge's IPv6 address");
    assert_eq!(plan.pods[&POD_A].state, PodState::Attached);

    // The bridge's address is link-local alone; a route leads to the pods.
    world.kernel.addresses.remove(&CNI0);
    assert_eq!(planned(&config(), &world).pods.len(), 2);
    remove_route(&mut world, "fd00:244:1::/64");
    assert_eq!(planned(&config(), &world).pods.len(), 0);
}

#[test]
fn without_an_address_to_go_by_the_ipv6_default_route_decides() {
    let mut world = dual_stack(2);
    without_ipv4(&mut world);
    world.nodes.as_mut().unwrap()[0].internal_ips.clear();
    let uplink = |world: &World| planned(&config(), world).main_uplink().cloned();
    assert_eq!(uplink(&world), None);
    let router = "fe80::1";
    world.kernel.routes.push(via("::/0", router, ETH0));
    assert_eq!(uplink(&world).unwrap().ifindex, ETH0);
}

#[test]
fn a_peer_may_be_ready_in_one_family_and_not_in_the_other() {
    use PeerState::{KernelRoutesElsewhere, NotOnLink, WaitingForNeighbour};
    type Break = fn(&mut World);
    let table: [(Break, PeerState, &str); 4] = [
        (
            |world| {
                world.kernel.neighbours.remove(&(ETH0, ip("fd00::2")));
            },
            WaitingForNeighbour,
            "node node-2: its address fd00::2 has no MAC on eth0",
        ),
        (
            |world| remove_route(world, "fd00:244:2::/64"),
            KernelRoutesElsewhere,
            "node node-2: the kernel has no route to fd00:244:2::/64",
        ),
        (
            |world| {
                remove_route(world, "fd00:244:2::/64");
                world
                    .kernel
                    .routes
                    .push(via("fd00:244:2::/64", "fe80::2", ETH0));
            },
            KernelRoutesElsewhere,
            "node node-2: the kernel routes fd00:244:2::/64 by fd00:244:2::/64 via fe80::2 on eth0",
        ),
        (
            |world| remove_route(world, "fd00::/64"),
            NotOnLink,
            "node node-2: its address fd00::2 is not on-link at eth0: the kernel has no route to it",
        ),
    ];
    for (spoil, state, detail) in table {
        let mut world = dual_stack(2);
        spoil(&mut world);
        let plan = planned(&config(), &world);
        let peer = &plan.peers["node-2"];
        assert_eq!(peer.detail.as_deref(), Some(detail));
        assert_eq!(peer.state, state, "the worst of both");
        assert_eq!(peer.v4, family(peer_mac(2), PeerState::Ready));
        assert_eq!(peer.v6.unwrap().state, state);
        assert_eq!(
            plan.routes,
            BTreeMap::from([(net("10.244.2.0/24"), way_to(2))])
        );
    }
    // And the other way round.
    let mut world = dual_stack(2);
    world.kernel.neighbours.remove(&(ETH0, ip("10.0.0.2")));
    let plan = planned(&config(), &world);
    let peer = &plan.peers["node-2"];
    assert_eq!(peer.v4, family([0; 6], WaitingForNeighbour));
    assert_eq!(peer.v6, family(peer_mac_v6(2), PeerState::Ready));
    assert_eq!(peer.state, WaitingForNeighbour);
    assert_eq!(plan.routes.len(), 1);
}

#[test]
fn a_pod_cidr_without_an_address_beside_it_keeps_the_other_family_going() {
    let mut world = dual_stack(3);
    let nodes = world.nodes.as_mut().unwrap();
    nodes[1]
        .internal_ips
        .retain(|address| !address.contains(':'));
    nodes[2].pod_cidrs.retain(|cidr| !cidr.contains(':'));
    let plan = planned(&config(), &world);
    let peer = &plan.peers["node-2"];
    assert_eq!(
        (peer.state, peer.refusal),
        (PeerState::Ready, Refusal::None)
    );
    let refused = PeerFamilyPlan {
        mac: [0; 6],
        uplink: 0,
        state: PeerState::Refused,
        refusal: Refusal::NoAddress,
    };
    assert_eq!(peer.v6, Some(refused));
    let peer = &plan.peers["node-3"];
    assert_eq!((peer.state, peer.v6), (PeerState::Ready, None));
    assert!(plan.routes.keys().all(|prefix| prefix.addr().is_ipv4()));
    assert!(plan.neighbours.iter().all(|(_, address)| address.is_ipv4()));
}

#[test]
fn a_refused_claim_is_refused_in_both_families() {
    let mut world = dual_stack(2);
    world.nodes.as_mut().unwrap()[1].pod_cidrs[1] = "fd00::/16".to_owned();
    let mut nodes = world.nodes.clone().unwrap();
    nodes.push(node(
        "two",
        &["10.244.9.0/24", "fd00:244:1::/80"],
        &["10.0.0.9", "fd00::9"],
    ));
    world.nodes = Some(nodes);
    let plan = planned(&config(), &world);
    assert_eq!(plan.routes, BTreeMap::new());
    let peer = &plan.peers["node-2"];
    assert_eq!(
        (peer.state, peer.refusal),
        (PeerState::Refused, Refusal::TooShort)
    );
    assert_eq!(peer.v6, None, "it is no podCIDR at all");
    assert_eq!(peer.v4.unwrap().state, PeerState::Refused);
    let peer = &plan.peers["two"];
    assert_eq!(peer.refusal, Refusal::OverlapsOwn);
    assert_eq!(peer.v4, peer.v6);
    assert_eq!(peer.v4.unwrap().refusal, Refusal::OverlapsOwn);
}

#[test]
fn the_anycast_address_of_the_segment_s_routers_is_no_peer() {
    let mut world = dual_stack(1);
    let nodes = world.nodes.as_mut().unwrap();
    nodes.push(node("any", &["fd00:244:2::/64"], &["fd00::"]));
    nodes.push(node(
        "last",
        &["fd00:244:3::/64"],
        &["fd00::ffff:ffff:ffff:ffff"],
    ));
    let plan = planned(&managing(), &world);
    let detail = "node any: its address fd00:: is not on-link at eth0: \
                  it is the anycast address of the segment's routers";
    assert_eq!(
        state(&plan, "any"),
        (PeerState::NotOnLink, detail.to_owned())
    );
    assert_eq!(state(&plan, "last").0, PeerState::WaitingForNeighbour);
    assert_eq!(plan.kernel_routes.len(), 1);
}

#[test]
fn managed_routes_are_of_both_families() {
    let mut world = dual_stack(2);
    remove_route(&mut world, "10.244.2.0/24");
    remove_route(&mut world, "fd00:244:2::/64");
    let plan = planned(&managing(), &world);
    let next_hop_v6 = NextHop {
        gateway: ip("fd00::2"),
        ifindex: ETH0,
    };
    assert_eq!(
        plan.kernel_routes,
        BTreeMap::from([
            (net("10.244.2.0/24"), next_hop(2)),
            (net("fd00:244:2::/64"), next_hop_v6)
        ])
    );
    let theirs = KernelRoute {
        priority: 1024,
        ..via("fd00:244:2::/64", "fe80::2", ETH0)
    };
    world.kernel.routes.push(theirs);
    let plan = planned(&managing(), &world);
    assert_eq!(plan.kernel_routes.len(), 1);
    assert!(texts(&plan)[0].contains("fd00:244:2::/64 via fe80::2 on eth0 is somebody else's"));
}

#[test]
fn parts_of_an_ipv6_pod_cidr_that_go_elsewhere_are_exceptions() {
    let mut world = dual_stack(2);
    world.kernel.routes.extend([
        via("fd00:244:2::9/128", "fd00::9", ETH0),
        route("fd00:244:2:0:8::/80", RouteKind::Other),
        via("fd00:244:2:0:8::1/128", "fd00::2", ETH0),
    ]);
    let plan = planned(&config(), &world);
    let v6: Vec<_> = plan
        .routes
        .iter()
        .filter(|(prefix, _)| prefix.addr().is_ipv6())
        .map(|(prefix, route)| (prefix.to_string(), route.is_kernels()))
        .collect();
    assert_eq!(
        v6,
        [
            ("fd00:244:2::/64".to_owned(), false),
            ("fd00:244:2::9/128".to_owned(), true),
            ("fd00:244:2:0:8::/80".to_owned(), true),
            ("fd00:244:2:0:8::1/128".to_owned(), false),
        ]
    );
}

#[test]
fn cluster_cidrs_bind_their_own_family() {
    let with = |cidrs: &[&str]| Config {
        cluster_cidrs: cidrs.iter().map(|cidr| net(cidr)).collect(),
        ..config()
    };
    let world = dual_stack(2);
    for (cidrs, code) in [
        (&["10.244.0.0/16"][..], Refusal::None),
        (&["fd00:244::/32"], Refusal::None),
        (&["10.244.0.0/16", "fd00:244::/32"], Refusal::None),
        (
            &["10.244.0.0/16", "fd00:245::/32"],
            Refusal::OutsideClusterCidr,
        ),
        (
            &["10.245.0.0/16", "fd00:244::/32"],
            Refusal::OutsideClusterCidr,
        ),
    ] {
        let plan = planned(&with(cidrs), &world);
        let refusal = plan.peers.get("node-2").map(|peer| peer.refusal);
        assert_eq!(refusal, Some(code), "{cidrs:?}");
    }
}
