use super::*;

/// Adds a route to the world and tells whether flows are to be confirmed anew.
fn doubts(added: KernelRoute) -> bool {
    let mut world = world(3);
    let before = planned(&config(), &world).routing_digest;
    world.kernel.routes.push(added);
    planned(&config(), &world).routing_digest != before
}

#[test]
fn a_route_that_leads_pods_elsewhere_makes_flows_doubtful() {
    let nowhere = |destination| route(destination, RouteKind::Other);
    for (what, added) in [
        ("a pod of ours", nowhere("10.244.1.12/32")),
        ("all of ours", nowhere("10.244.1.0/24")),
        ("out of the uplink", on_link("10.244.1.12/32", ETH0)),
        ("a pod of a peer's", nowhere("10.244.2.9/32")),
        ("by another node", via("10.244.2.0/25", "10.0.0.3", ETH0)),
    ] {
        assert!(doubts(added), "{what}");
    }
}

#[test]
fn a_route_that_leads_where_the_nodes_say_makes_nothing_doubtful() {
    for (what, added) in [
        ("a pod on its own veth", on_link("10.244.1.12/32", POD_A)),
        ("the same way", via("10.244.2.9/32", "10.0.0.2", ETH0)),
        ("nobody's pods", route("10.9.0.0/16", RouteKind::Other)),
        ("around all pods", via("10.244.0.0/16", "10.0.0.3", ETH0)),
    ] {
        assert!(!doubts(added), "{what}");
    }
}

#[test]
fn rules_make_flows_doubtful_and_nodes_that_come_do_not() {
    let mut world = world(3);
    let digest = |world: &World| planned(&config(), world).routing_digest;
    let before = digest(&world);
    assert_ne!(before, 0, "0 means that there was none yet");
    world.kernel.rules = vec![PolicyRule {
        text: "IPv4 50: from 10.3.0.0/16 lookup 100".to_owned(),
        is_ipv6: false,
        splits_flows: false,
    }];
    assert_ne!(digest(&world), before);
    world.kernel.rules.clear();
    assert_eq!(digest(&world), before);

    // First the Node, and its route a little later.
    let nodes = world.nodes.as_mut().unwrap();
    nodes.push(node("node-4", &["10.244.4.0/24"], &["10.0.0.4"]));
    assert_eq!(digest(&world), before);
    world
        .kernel
        .routes
        .push(via("10.244.4.0/24", "10.0.0.4", ETH0));
    assert_eq!(digest(&world), before);
}
