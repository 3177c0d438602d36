use super::*;

#[test]
fn a_peer_without_a_mac_is_the_kernel_s() {
    let macs = [
        ("failed", None),
        ("of a group", Some([255; 6])),
        ("zeros", Some([0; 6])),
        ("our own", Some(OWN_MAC)),
    ];
    let mut tables = vec![("none yet", BTreeMap::new())];
    for (what, mac) in macs {
        let mut neighbours = world(2).kernel.neighbours;
        neighbours
            .values_mut()
            .for_each(|neighbour| neighbour.mac = mac);
        tables.push((what, neighbours));
    }
    for (what, neighbours) in tables {
        let mut world = world(2);
        world.kernel.neighbours = neighbours;
        let plan = planned(&config(), &world);
        assert_eq!(plan.routes, BTreeMap::new(), "{what}");
        let detail = "node node-2: its address 10.0.0.2 has no MAC on eth0".to_owned();
        assert_eq!(
            state(&plan, "node-2"),
            (PeerState::WaitingForNeighbour, detail)
        );
        assert!(
            plan.neighbours.contains(&(ETH0, ip("10.0.0.2"))),
            "it is asked for: {what}"
        );
    }
}

#[test]
fn a_neighbour_that_somebody_keeps_is_not_asked_for() {
    let mut world = world(4);
    let mut neighbours = world.kernel.neighbours.values_mut();
    let [two, three, four] = [(); 3].map(|()| neighbours.next().unwrap());
    two.permanent = true;
    three.managed = true;
    four.managed = true;
    four.protocol = PROTOCOL;
    let plan = planned(&config(), &world);
    assert_eq!(plan.neighbours, BTreeSet::from([(ETH0, ip("10.0.0.4"))]));
    assert_eq!(plan.routes.len(), 3, "but used");
}

#[test]
fn a_peer_beyond_a_router_is_the_kernel_s() {
    let mut world = world(2);
    let nodes = world.nodes.as_mut().unwrap();
    nodes.push(node("far", &["10.244.9.0/24"], &["10.9.0.9"]));
    nodes.push(node("broadcast", &["10.244.10.0/24"], &["10.0.0.255"]));
    nodes.push(node("network", &["10.244.11.0/24"], &["10.0.0.0"]));
    nodes.push(node("pinned", &["10.244.12.0/24"], &["10.0.0.12"]));
    world
        .kernel
        .routes
        .push(via("10.0.0.12/32", "10.0.0.254", ETH0));
    world
        .kernel
        .neighbours
        .insert((ETH0, ip("10.0.0.255")), neighbour([2; 6]));
    for config in [always(), managing()] {
        let plan = planned(&config, &world);
        for (name, why) in [
            (
                "far",
                "node far: its address 10.9.0.9 is not on-link at eth0: the kernel routes 0.0.0.0/0 via 10.0.0.254 on eth0",
            ),
            (
                "broadcast",
                "node broadcast: its address 10.0.0.255 is not on-link at eth0: it is the segment's broadcast address",
            ),
            (
                "network",
                "node network: its address 10.0.0.0 is not on-link at eth0: it is the segment's broadcast address",
            ),
            (
                "pinned",
                "node pinned: its address 10.0.0.12 is not on-link at eth0: the kernel routes 10.0.0.12/32 via 10.0.0.254 on eth0",
            ),
        ] {
            assert_eq!(state(&plan, name), (PeerState::NotOnLink, why.to_owned()));
        }
        assert_eq!(plan.neighbours.len(), 1);
        assert!(plan.routes.len() <= 1 && plan.kernel_routes.len() <= 1);
        assert_eq!(
            texts(&plan)
                .iter()
                .filter(|text| text.contains("on-link"))
                .count(),
            0
        );
    }
}

#[test]
fn confirmed_follows_the_kernel_s_routes_and_always_does_not() {
    let blackhole = route("10.244.2.0/24", RouteKind::Other);
    let mut better = via("10.244.2.0/24", "10.0.0.9", ETH0);
    better.priority = 0;
    let table: [(&str, Option<_>, Option<&str>); 7] = [
        (
            "no route",
            None,
            Some("the kernel routes 10.244.2.0/24 by 0.0.0.0/0 via 10.0.0.254 on eth0"),
        ),
        (
            "a wider route to the same next hop",
            Some(via("10.244.0.0/16", "10.0.0.2", ETH0)),
            None,
        ),
        (
            "another gateway",
            Some(better),
            Some("by 10.244.2.0/24 via 10.0.0.9 on eth0"),
        ),
        (
            "another interface",
            Some(via("10.244.2.0/24", "10.0.0.2", 7)),
            Some("via 10.0.0.2 on interface 7"),
        ),
        (
            "no gateway",
            Some(on_link("10.244.2.0/24", CNI0)),
            Some("by 10.244.2.0/24 straight to cni0"),
        ),
        (
            "a blackhole",
            Some(blackhole),
            Some("by 10.244.2.0/24 to no single next hop"),
        ),
        (
            "a route of ours",
            Some(KernelRoute {
                protocol: PROTOCOL,
                ..via("10.244.2.0/24", "10.0.0.2", ETH0)
            }),
            None,
        ),
    ];
    for (what, kernel_route, obstacle) in table {
        let mut world = world(2);
        remove_route(&mut world, "10.244.2.0/24");
        world.kernel.routes.extend(kernel_route);
        let plan = planned(&config(), &world);
        let (state, detail) = state(&plan, "node-2");
        match obstacle {
            None => assert_eq!((state, plan.routes.len()), (PeerState::Ready, 1), "{what}"),
            Some(why) => {
                assert_eq!(
                    (state, plan.routes.len()),
                    (PeerState::KernelRoutesElsewhere, 0),
                    "{what}"
                );
                assert!(detail.contains(why), "{what}: {detail}");
                assert_eq!(
                    plan.peers["node-2"].v4.unwrap().mac,
                    peer_mac(2),
                    "it is known all the same"
                );
            }
        }
        let plan = planned(&always(), &world);
        assert_eq!(
            plan.routes,
            BTreeMap::from([(net("10.244.2.0/24"), way_to(2))]),
            "{what}"
        );
    }
    let mut world = world(2);
    world.kernel.routes = vec![on_link("10.0.0.0/24", ETH0)];
    let (_, detail) = state(&planned(&config(), &world), "node-2");
    assert_eq!(
        detail,
        "node node-2: the kernel has no route to 10.244.2.0/24"
    );
}

#[test]
fn the_lowest_metric_decides() {
    let mut world = world(2);
    world.kernel.routes[3].priority = 100;
    let other = |priority| KernelRoute {
        priority,
        ..via("10.244.2.0/24", "10.0.0.9", ETH0)
    };
    world.kernel.routes.push(other(200));
    assert_eq!(planned(&config(), &world).routes.len(), 1);
    world.kernel.routes.push(other(50));
    assert_eq!(planned(&config(), &world).routes.len(), 0);
}

#[test]
fn parts_that_the_kernel_routes_elsewhere_are_exceptions() {
    let mut world = world(2);
    world.kernel.routes.extend([
        via("10.244.2.9/32", "10.0.0.9", ETH0),
        via("10.244.2.10/32", "10.0.0.2", ETH0),
        route("10.244.2.64/26", RouteKind::Other),
        route("10.244.2.64/28", RouteKind::Other),
        via("10.244.2.80/28", "10.0.0.2", ETH0),
        via("10.244.2.81/32", "10.0.0.2", ETH0),
        on_link("10.244.2.82/32", CNI0),
        // Beside it, not in it.
        route("10.244.0.0/16", RouteKind::Other),
        route("10.244.3.0/24", RouteKind::Other),
    ]);
    let plan = planned(&config(), &world);
    assert_eq!(
        plan.routes,
        BTreeMap::from([
            (net("10.244.2.0/24"), way_to(2)),
            (net("10.244.2.9/32"), Route::KERNEL),
            (net("10.244.2.64/26"), Route::KERNEL),
            (net("10.244.2.80/28"), way_to(2)),
            (net("10.244.2.82/32"), Route::KERNEL),
        ])
    );
    assert_eq!(state(&plan, "node-2").0, PeerState::Ready);
    assert_eq!(planned(&always(), &world).routes.len(), 1, "the trie alone");
}

#[test]
fn managed_routes_are_wanted_for_peers_on_our_segment_only() {
    let mut world = world(3);
    remove_route(&mut world, "10.244.2.0/24");
    world.kernel.neighbours.clear();
    let nodes = world.nodes.as_mut().unwrap();
    nodes.push(node("far", &["10.244.9.0/24"], &["10.9.0.9"]));
    nodes.push(node("hostile", &["0.0.0.0/0"], &["10.0.0.66"]));
    let plan = planned(&managing(), &world);
    assert_eq!(
        plan.kernel_routes,
        BTreeMap::from([(net("10.244.2.0/24"), next_hop(2))])
    );
    let problems = texts(&plan);
    assert_eq!(problems.len(), 2);
    assert!(problems[0].contains("hostile"));
    assert_eq!(
        problems[1],
        "kernel route 10.244.3.0/24 via 10.0.0.3 on eth0 is somebody else's (protocol 3); \
         it is left alone, and ours to node node-3 is not added"
    );
    assert_eq!(
        plan.problems[1].subject,
        Subject::KernelRoute(net("10.244.3.0/24"))
    );
    assert_eq!(state(&plan, "node-2").0, PeerState::WaitingForNeighbour);
}

#[test]
fn a_route_of_ours_stays_wanted_until_somebody_else_has_one_too() {
    let mut world = world(2);
    world.kernel.routes[3].protocol = PROTOCOL;
    let plan = planned(&managing(), &world);
    assert_eq!(
        plan.kernel_routes,
        BTreeMap::from([(net("10.244.2.0/24"), next_hop(2))])
    );
    assert_eq!(plan.routes.len(), 1);
    let worse = KernelRoute {
        priority: 600,
        ..via("10.244.2.0/24", "10.0.0.9", ETH0)
    };
    world.kernel.routes.push(worse);
    let plan = planned(&managing(), &world);
    assert_eq!(plan.kernel_routes, BTreeMap::new());
    assert_eq!(plan.problems.len(), 1);
}
