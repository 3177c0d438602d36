use super::*;
use crate::config::{Config, Ingress};
use crate::plan::fixtures::*;
use crate::plan::plan;
use crate::world::World;

fn planned(world: &World) -> Plan {
    plan(&config(), world).unwrap()
}

/// What there is once all that `plan` wants has been done.
fn settled(plan: &Plan) -> Actual {
    let mut actual = Actual::default();
    actual.apply(&diff(&actual, plan));
    actual
}

fn next_hop(n: u8) -> NextHop {
    NextHop {
        gateway: ip(&format!("10.0.0.{n}")),
        ifindex: ETH0,
    }
}

fn endpoint(ifindex: u32) -> Endpoint {
    Endpoint {
        ifindex,
        pod_mac: [2, 0, 0, 0, 2, ifindex as u8],
        gateway_mac: [2, 0, 0, 0, 1, CNI0 as u8],
    }
}

#[test]
fn from_nothing_everything_is_set_up_in_order() {
    let changes = diff(&Actual::default(), &planned(&world(3)));
    let pods: Vec<u32> = changes.pods_set.keys().copied().collect();
    assert_eq!(pods, [POD_A, POD_B]);
    assert_eq!(&changes.pods_set[&POD_A].name[..7], b"veth10\0");
    assert_eq!(changes.pods_set[&POD_A].state, PodState::Attached as u8);
    assert_eq!(changes.routes.len(), 2);
    assert_eq!(changes.own_pod_cidrs, Some(vec![net("10.244.1.0/24")]));
    assert_eq!(
        changes.attach,
        [
            (Hook::ToWire, ETH0),
            (Hook::ToPod, POD_A),
            (Hook::ToPod, POD_B),
            (Hook::FromPod, POD_A),
            (Hook::FromPod, POD_B),
            (Hook::FromWire, ETH0),
        ],
        "exits before entrances"
    );
    assert_eq!(changes.neighbours_kept.len(), 2);
    assert_eq!(changes.peers_set.len(), 2);
    assert!(changes.needs_new_generation());
    assert_eq!(changes.detach, []);
}

#[test]
fn what_is_as_planned_is_left_alone() {
    let plan = planned(&world(3));
    let changes = diff(&settled(&plan), &plan);
    assert!(changes.is_empty(), "{changes:?}");
    assert!(!changes.needs_new_generation());
}

#[test]
fn to_nothing_everything_is_taken_down_in_order() {
    let actual = settled(&planned(&world(3)));
    let changes = diff(&actual, &Plan::default());
    assert_eq!(
        changes.detach,
        [
            (Hook::FromPod, POD_A),
            (Hook::FromPod, POD_B),
            (Hook::FromWire, ETH0),
            (Hook::ToWire, ETH0),
            (Hook::ToPod, POD_A),
            (Hook::ToPod, POD_B),
        ],
        "entrances before exits"
    );
    assert_eq!(changes.neighbours_released.len(), 2);
    assert_eq!(changes.peers_removed.len(), 2);
    let mut left = actual;
    left.apply(&changes);
    assert_eq!(left, Actual::default());
}

#[test]
fn a_peer_s_new_mac_changes_its_route_and_the_generation_alone() {
    let mut world = world(3);
    let actual = settled(&planned(&world));
    let key = (ETH0, ip("10.0.0.2"));
    world.kernel.neighbours.insert(key, neighbour(peer_mac(99)));
    let changes = diff(&actual, &planned(&world));
    let way = Route {
        ifindex: ETH0,
        peer_mac: peer_mac(99),
        own_mac: OWN_MAC,
    };
    let wanted = Changes {
        routes: vec![RouteChange::Set(net("10.244.2.0/24"), way)],
        peers_set: changes.peers_set.clone(),
        ..Changes::default()
    };
    assert_eq!(changes, wanted);
    assert_eq!(changes.peers_set["node-2"].v4.mac, peer_mac(99));
    assert!(changes.needs_new_generation());
}

#[test]
fn exceptions_come_before_the_routes_around_them_and_go_after() {
    let mut with = world(2);
    with.kernel
        .routes
        .push(via("10.244.2.9/32", "10.0.0.9", ETH0));
    let with = planned(&with);
    let exception = RouteChange::Set(net("10.244.2.9/32"), Route::KERNEL);
    let way = RouteChange::Set(net("10.244.2.0/24"), with.routes[&net("10.244.2.0/24")]);
    assert_eq!(diff(&Actual::default(), &with).routes, [exception, way]);
    assert_eq!(
        diff(&settled(&with), &Plan::default()).routes,
        [
            RouteChange::Remove(net("10.244.2.0/24")),
            RouteChange::Remove(net("10.244.2.9/32")),
        ]
    );
    // A peer's podCIDR goes to another node at the moment when an exception appears in it.
    let mut other = with.clone();
    other.routes = BTreeMap::from([
        (net("10.244.2.0/25"), with.routes[&net("10.244.2.0/24")]),
        (net("10.244.2.10/32"), Route::KERNEL),
    ]);
    assert_eq!(
        diff(&settled(&with), &other).routes,
        [
            RouteChange::Set(net("10.244.2.10/32"), Route::KERNEL),
            RouteChange::Remove(net("10.244.2.0/24")),
            RouteChange::Remove(net("10.244.2.9/32")),
            RouteChange::Set(net("10.244.2.0/25"), other.routes[&net("10.244.2.0/25")]),
        ]
    );
}

#[test]
fn endpoints_live_as_long_as_their_pod() {
    let mut world = world(2);
    let mut actual = settled(&planned(&world));
    let endpoints = [("10.244.1.5", POD_A), ("10.244.1.6", POD_B)];
    let endpoints = endpoints.map(|(address, ifindex)| (ip(address), endpoint(ifindex)));
    actual.endpoints = BTreeMap::from(endpoints);
    assert!(
        diff(&actual, &planned(&world)).is_empty(),
        "learned, and good"
    );

    let strange = [("10.244.2.5", POD_A), ("10.244.1.7", 77)];
    let strange = strange.map(|(address, ifindex)| (ip(address), endpoint(ifindex)));
    let mut with_strange = actual.clone();
    with_strange.endpoints.extend(strange);
    let changes = diff(&with_strange, &planned(&world));
    let removed = BTreeSet::from([ip("10.244.2.5"), ip("10.244.1.7")]);
    assert_eq!(
        changes.endpoints_removed, removed,
        "not ours, and no such veth"
    );
    assert!(changes.needs_new_generation());

    let stale = |world: &World| diff(&actual, &planned(world)).endpoints_removed;
    let gone = BTreeSet::from([ip("10.244.1.5")]);
    // Another pod's veth got the index.
    let mut reborn = veth(POD_A, Some(CNI0));
    if let crate::world::LinkKind::Veth(peer) = &mut reborn.kind {
        peer.mac = Some([2, 0, 0, 0, 9, 9]);
    }
    world.kernel.links.insert(POD_A, reborn);
    assert_eq!(stale(&world), gone);
    let mut shaped = veth(POD_A, Some(CNI0));
    shaped.qdiscs.push("tbf".to_owned());
    world.kernel.links.insert(POD_A, shaped);
    assert_eq!(stale(&world), gone);
    world.kernel.links.remove(&POD_A);
    assert_eq!(stale(&world), gone);
    let changes = diff(&actual, &planned(&world));
    assert_eq!(changes.pods_removed, BTreeSet::from([POD_A]));
    assert_eq!(
        changes.detach,
        [(Hook::FromPod, POD_A), (Hook::ToPod, POD_A)]
    );
}

#[test]
fn a_shaped_pod_is_shown_and_not_touched() {
    let mut world = world(2);
    world
        .kernel
        .links
        .get_mut(&POD_A)
        .unwrap()
        .qdiscs
        .push("tbf".to_owned());
    let changes = diff(&Actual::default(), &planned(&world));
    assert_eq!(changes.pods_set[&POD_A].state, PodState::Shaped as u8);
    assert!(changes.attach.iter().all(|(_, ifindex)| *ifindex != POD_A));
}

#[test]
fn a_pod_that_could_not_be_attached_is_tried_again() {
    let plan = planned(&world(2));
    let mut actual = settled(&plan);
    actual.attached.remove(&(Hook::FromPod, POD_A));
    actual.pods.get_mut(&POD_A).unwrap().state = PodState::AttachFailed as u8;
    let changes = diff(&actual, &plan);
    assert_eq!(changes.attach, [(Hook::FromPod, POD_A)]);
    assert_eq!(changes.pods_set[&POD_A].state, PodState::Attached as u8);
}

#[test]
fn an_earlier_agent_s_programs_are_swapped_and_not_detached() {
    let plan = planned(&world(2));
    let mut actual = settled(&plan);
    actual.outdated = actual.attached.clone();
    let changes = diff(&actual, &plan);
    assert_eq!(changes.attach, diff(&Actual::default(), &plan).attach);
    assert_eq!(changes.detach, []);
    actual.apply(&changes);
    assert_eq!(actual, settled(&plan));
}

#[test]
fn kernel_routes_follow_the_plan_and_surplus_ones_go() {
    let mut plan = planned(&world(2));
    plan.kernel_routes = (2..=5)
        .map(|n| (net(&format!("10.244.{n}.0/24")), next_hop(n)))
        .collect();
    let to = |n| net(&format!("10.244.{n}.0/24"));
    let mut actual = settled(&plan);
    assert!(diff(&actual, &plan).is_empty());
    actual.kernel_routes = BTreeMap::from([
        (to(2), vec![next_hop(2), next_hop(22)]),
        (to(3), vec![next_hop(33), next_hop(34)]),
        (to(4), vec![next_hop(4)]),
        (to(6), vec![next_hop(6), next_hop(66)]),
    ]);
    let changes = diff(&actual, &plan);
    let replace = KernelRouteChange::Replace {
        destination: to(3),
        old: next_hop(33),
        new: next_hop(3),
    };
    assert_eq!(
        changes.kernel_routes,
        [replace, KernelRouteChange::Add(to(5), next_hop(5))]
    );
    assert_eq!(
        changes.kernel_routes_deleted,
        [
            (to(2), next_hop(22)),
            (to(3), next_hop(34)),
            (to(6), next_hop(6)),
            (to(6), next_hop(66)),
        ]
    );
    assert!(!changes.needs_new_generation());
}

#[test]
fn only_what_is_ours_in_the_kernel_counts() {
    let mut kernel = world(3).kernel;
    let mut ours = neighbour(peer_mac(2));
    (ours.managed, ours.protocol) = (true, 85);
    let mut others = ours;
    others.protocol = 0;
    kernel.neighbours.insert((ETH0, ip("10.0.0.2")), ours);
    kernel.neighbours.insert((ETH0, ip("10.0.0.3")), others);
    let mut route = via("10.244.9.0/24", "10.0.0.9", ETH0);
    route.protocol = 85;
    kernel.routes.push(route);
    let mut actual = Actual::default();
    actual.take_kernel(&kernel);
    assert_eq!(actual.neighbours, BTreeSet::from([(ETH0, ip("10.0.0.2"))]));
    let routes = BTreeMap::from([(net("10.244.9.0/24"), vec![next_hop(9)])]);
    assert_eq!(actual.kernel_routes, routes);
}

#[test]
fn a_node_whose_name_no_map_can_hold_has_no_entry() {
    let mut world = world(2);
    let name = "x".repeat(256);
    let nodes = world.nodes.as_mut().unwrap();
    nodes.push(node(&name, &["10.244.9.0/24"], &["10.0.0.9"]));
    let plan = planned(&world);
    assert!(plan.peers.contains_key(&name));
    let changes = diff(&Actual::default(), &plan);
    assert_eq!(changes.peers_set.len(), 1);
    assert!(diff(&settled(&plan), &plan).is_empty());
}

#[test]
fn a_way_is_lost_where_the_kernel_turns_from_a_peer_that_is_there() {
    let mut world = world(3);
    let actual = settled(&planned(&world));
    let loses = |world: &World| {
        let plan = planned(world);
        loses_a_way(&diff(&actual, &plan), &plan)
    };
    assert!(!loses(&world));
    let nodes = world.nodes.clone();
    world
        .nodes
        .as_mut()
        .unwrap()
        .retain(|node| node.name != "node-3");
    assert!(!loses(&world), "a node that goes");
    world.nodes = nodes;
    let to_node_3 = net("10.244.3.0/24");
    world
        .kernel
        .routes
        .retain(|route| route.destination != to_node_3);
    assert!(loses(&world), "its route");
}

#[test]
fn xdp_comes_last_and_goes_first() {
    let by_xdp = Config {
        ingress: Ingress::Xdp,
        ..config()
    };
    let mut world = world(3);
    world.kernel.xdp_targets.insert(POD_A);
    let with = plan(&by_xdp, &world).unwrap();
    let changes = diff(&Actual::default(), &with);
    assert_eq!(changes.attach.last(), Some(&(Hook::FromWireXdp, ETH0)));
    assert_eq!(changes.xdp_pods_added, BTreeSet::from([POD_A]));
    let ingress = |pod: u32| changes.pods_set[&pod].ingress;
    assert_eq!(ingress(POD_A), PodIngress::Xdp as u8);
    assert_eq!(ingress(POD_B), PodIngress::TcNoGro as u8);

    let actual = settled(&with);
    let without = planned(&world);
    let changes = diff(&actual, &without);
    assert_eq!(changes.detach, [(Hook::FromWireXdp, ETH0)]);
    assert_eq!(changes.xdp_pods_removed, BTreeSet::from([POD_A]));
    let changes = diff(&actual, &Plan::default());
    assert_eq!(changes.detach[0], (Hook::FromWireXdp, ETH0));

    // GRO has been switched off there, and on at the other one.
    world.kernel.xdp_targets = BTreeSet::from([POD_B]);
    let changes = diff(&actual, &plan(&by_xdp, &world).unwrap());
    assert_eq!(changes.xdp_pods_removed, BTreeSet::from([POD_A]));
    assert_eq!(changes.xdp_pods_added, BTreeSet::from([POD_B]));
    assert!(changes.attach.is_empty() && changes.detach.is_empty());
}

#[test]
fn each_uplink_has_its_programs_and_its_going_takes_no_other_s() {
    let world = two_segments(2);
    let both = plan(&with_eth1(), &world).unwrap();
    let changes = diff(&Actual::default(), &both);
    let on_eth1 = |attachments: &[Attachment]| -> Vec<Hook> {
        let on_eth1 = attachments.iter().filter(|(_, ifindex)| *ifindex == ETH1);
        on_eth1.map(|(hook, _)| *hook).collect()
    };
    assert_eq!(on_eth1(&changes.attach), [Hook::ToWire, Hook::FromWire]);

    let changes = diff(&settled(&both), &planned(&world));
    assert_eq!(
        changes.detach,
        [(Hook::FromWire, ETH1), (Hook::ToWire, ETH1)]
    );
    let gone = RouteChange::Remove(net("10.244.9.0/24"));
    assert_eq!(changes.routes, [gone]);
    let released = BTreeSet::from([(ETH1, ip("10.1.0.9"))]);
    assert_eq!(changes.neighbours_released, released);
    assert!(changes.attach.is_empty() && changes.needs_new_generation());
}

#[test]
fn xdp_hands_frames_to_an_uplink_only_while_it_takes_them() {
    let mut with = plan(&with_eth1(), &two_segments(2)).unwrap();
    with.xdp = BTreeSet::from([ETH0, ETH1]);
    with.xdp_uplinks = BTreeSet::from([ETH0, ETH1]);
    let changes = diff(&Actual::default(), &with);
    let xdp = [(Hook::FromWireXdp, ETH0), (Hook::FromWireXdp, ETH1)];
    assert!(changes.attach.ends_with(&xdp), "{:?}", changes.attach);
    assert_eq!(changes.xdp_uplinks_added, BTreeSet::from([ETH0, ETH1]));

    let actual = settled(&with);
    assert!(diff(&actual, &with).is_empty());
    with.xdp_uplinks.remove(&ETH1);
    let wanted = Changes {
        xdp_uplinks_removed: BTreeSet::from([ETH1]),
        ..Changes::default()
    };
    assert_eq!(diff(&actual, &with), wanted);
}
