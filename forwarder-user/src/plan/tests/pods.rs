use super::*;

#[test]
fn which_interfaces_are_pods() {
    let foreign_bridge = link(5, "docker0", LinkKind::Bridge, None);
    let with_peer = |netns_id, mac, master| {
        let peer = VethPeer {
            ifindex: 2,
            netns_id,
            mac,
        };
        link(20, "veth20", LinkKind::Veth(peer), master)
    };
    let mac = Some([2, 0, 0, 0, 2, 20]);
    let pod = with_peer(Some(7), mac, Some(CNI0));
    let routed = with_peer(Some(7), mac, None);
    let down = Link {
        up: false,
        ..pod.clone()
    };
    let shaped = Link {
        qdiscs: vec!["tbf".to_owned()],
        ..with_peer(Some(7), None, Some(CNI0))
    };
    let none: Option<&str> = None;
    let table: [(&str, Link, Option<&str>, Option<PodState>); 11] = [
        (
            "port of the pods' bridge",
            pod,
            none,
            Some(PodState::Attached),
        ),
        (
            "port of another bridge",
            with_peer(Some(7), mac, Some(5)),
            none,
            None,
        ),
        (
            "a host route to a pod",
            routed.clone(),
            Some("10.244.1.9/32"),
            Some(PodState::Attached),
        ),
        (
            "all of our podCIDR",
            routed.clone(),
            Some("10.244.1.0/24"),
            Some(PodState::Attached),
        ),
        (
            "more than our podCIDR",
            routed.clone(),
            Some("10.244.0.0/16"),
            None,
        ),
        (
            "a route to elsewhere",
            routed.clone(),
            Some("10.99.0.0/24"),
            None,
        ),
        ("neither port nor route", routed, none, None),
        (
            "the other end is here too",
            with_peer(None, mac, Some(CNI0)),
            none,
            None,
        ),
        ("down", down, none, None),
        (
            "shaped, and unknown besides",
            shaped,
            none,
            Some(PodState::Shaped),
        ),
        (
            "its pod's end unreadable",
            with_peer(Some(7), None, Some(CNI0)),
            none,
            Some(PodState::PeerUnknown),
        ),
    ];
    for (what, veth, destination, wanted) in table {
        let mut world = world(2);
        world.kernel.links.insert(5, foreign_bridge.clone());
        world.kernel.addresses.insert(5, vec![net("172.17.0.1/16")]);
        world.kernel.links.insert(20, veth);
        let better = |destination| KernelRoute {
            priority: 0,
            ..on_link(destination, 20)
        };
        if let Some(destination) = destination {
            remove_route(&mut world, destination);
            world.kernel.routes.push(better(destination));
        }
        let plan = planned(&config(), &world);
        assert_eq!(plan.pods.get(&20).map(|pod| pod.state), wanted, "{what}");
        let told = texts(&plan);
        match wanted {
            Some(PodState::PeerUnknown) => {
                assert!(told[0].starts_with("pod veth veth20:"), "{told:?}")
            }
            _ => assert_eq!(told, [""; 0], "{what}"),
        }
    }
}

#[test]
fn a_pod_is_the_kernel_s_where_anything_on_its_way_shapes() {
    type Shape = fn(&mut Link);
    let shapes: [Shape; 3] = [
        |link| link.qdiscs.push("tbf".to_owned()),
        |link| link.ingress_filters.push("u32".to_owned()),
        |link| link.egress_filters.push("matchall".to_owned()),
    ];
    for shape in shapes {
        for (on, wanted) in [
            (POD_A, [PodState::Shaped, PodState::Attached]),
            (CNI0, [PodState::Shaped; 2]),
        ] {
            let mut world = world(2);
            shape(world.kernel.links.get_mut(&on).unwrap());
            let plan = planned(&config(), &world);
            let states: Vec<_> = plan.pods.values().map(|pod| pod.state).collect();
            assert_eq!(states, wanted);
        }
    }
}

#[test]
fn an_uplink_that_is_a_veth_is_no_pod() {
    let mut world = world(2);
    let mut eth0 = veth(ETH0, None);
    eth0.name = "eth0".to_owned();
    world.kernel.links.insert(ETH0, eth0);
    // The kernel routes to pods by it, too.
    world.kernel.routes.push(on_link("10.244.1.128/25", ETH0));
    let plan = planned(&config(), &world);
    assert_eq!(plan.main_uplink().unwrap().ifindex, ETH0);
    assert!(!plan.pods.contains_key(&ETH0));
}
