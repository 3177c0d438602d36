//! A node on more than one segment.

use underpass_common::xdp::MAX_UPLINKS;

use super::*;
use crate::world::kernel::Onlookers;

fn by_eth1() -> Route {
    Route {
        ifindex: ETH1,
        peer_mac: peer_mac(9),
        own_mac: ETH1_MAC,
    }
}

fn with(extra_uplinks: &[&str]) -> Config {
    Config {
        extra_uplinks: extra_uplinks.iter().map(ToString::to_string).collect(),
        ..config()
    }
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.uplinks.iter().map(|uplink| &*uplink.name).collect()
}

#[test]
fn peers_are_reached_by_the_uplink_on_their_segment() {
    let plan = planned(&with_eth1(), &two_segments(2));
    assert_eq!(texts(&plan), [""; 0]);
    assert_eq!(names(&plan), ["eth0", "eth1"]);
    assert_eq!(plan.main_uplink().unwrap().ifindex, ETH0);
    assert!(plan.transit);
    assert_eq!(
        plan.routes,
        BTreeMap::from([
            (net("10.244.2.0/24"), way_to(2)),
            (net("10.244.9.0/24"), by_eth1()),
        ])
    );
    assert_eq!(
        plan.neighbours,
        BTreeSet::from([(ETH0, ip("10.0.0.2")), (ETH1, ip("10.1.0.9"))])
    );
    let uplinks = ["node-2", "node-9"].map(|name| plan.peers[name].v4.unwrap().uplink);
    assert_eq!(uplinks, [ETH0, ETH1]);
    assert_eq!(state(&plan, "node-9"), (PeerState::Ready, String::new()));
}

#[test]
fn a_segment_that_nobody_has_asked_for_is_the_kernel_s() {
    let plan = planned(&config(), &two_segments(2));
    assert_eq!(names(&plan), ["eth0"]);
    assert!(!plan.transit);
    assert_eq!(plan.routes.len(), 1);
    let detail = "node node-9: its address 10.1.0.9 is not on-link at eth0: the kernel routes 10.1.0.0/24 straight \
                  to eth1";
    let wanted = (PeerState::NotOnLink, detail.to_owned());
    assert_eq!(state(&plan, "node-9"), wanted);
    assert_eq!(plan.peers["node-9"].v4.unwrap().uplink, 0);
}

#[test]
fn a_node_behind_another_is_not_on_link_at_any_uplink() {
    let mut world = two_segments(2);
    let nodes = world.nodes.as_mut().unwrap();
    nodes.push(node("node-8", &["10.244.8.0/24"], &["10.2.0.8"]));
    let far = via("10.2.0.0/24", "10.1.0.9", ETH1);
    world.kernel.routes.push(far);
    let plan = planned(&with_eth1(), &world);
    let detail = "node node-8: its address 10.2.0.8 is not on-link at eth0, eth1: the kernel routes 10.2.0.0/24 via \
                  10.1.0.9 on eth1";
    let wanted = (PeerState::NotOnLink, detail.to_owned());
    assert_eq!(state(&plan, "node-8"), wanted);
}

#[test]
fn what_is_wrong_with_an_extra_uplink_is_told_and_the_rest_goes_on() {
    type Change = fn(&mut World);
    let none: Change = |_| {};
    let table: [(&[&str], Change, &[&str], &str); 8] = [
        (
            &["eth7"],
            none,
            &["eth0"],
            "no extra uplink: no interface named \"eth7\" (chosen by --extra-iface); there are: lo, eth0, cni0, eth1, veth10",
        ),
        (
            &["eth1"],
            |world| world.kernel.links.get_mut(&ETH1).unwrap().up = false,
            &["eth0"],
            "the uplink eth1 (chosen by --extra-iface) is down",
        ),
        (
            &["eth1"],
            |world| world.kernel.links.get_mut(&ETH1).unwrap().mac = [0; 6],
            &["eth0"],
            "the uplink eth1 (chosen by --extra-iface) has no MAC; an Ethernet interface is needed",
        ),
        (
            &["eth1"],
            |world| {
                let eth1 = world.kernel.links.get_mut(&ETH1).unwrap();
                eth1.ingress_filters.push("matchall".to_owned());
            },
            &["eth0"],
            "the uplink eth1 (chosen by --extra-iface) has filters on what comes in (matchall)",
        ),
        (
            &["eth1", "eth1"],
            none,
            &["eth0", "eth1"],
            "the uplink eth1 (chosen by --extra-iface) is named more than once",
        ),
        (
            &["eth0", "eth1"],
            none,
            &["eth0", "eth1"],
            "the uplink eth0 (chosen by --extra-iface) is the main one already",
        ),
        (
            &["cni0"],
            none,
            &["eth0"],
            "the uplink cni0 (chosen by --extra-iface) has the address 10.244.1.1/24 of this node's own podCIDR: it \
             leads to pods, not to nodes",
        ),
        (
            &["eth1"],
            |world| world.kernel.links.get_mut(&ETH0).unwrap().up = false,
            &["eth1"],
            "the uplink eth0 (it holds this node's InternalIP 10.0.0.1) is down",
        ),
    ];
    for (asked, change, wanted, told) in table {
        let mut world = two_segments(2);
        change(&mut world);
        let plan = planned(&with(asked), &world);
        assert_eq!(names(&plan), wanted, "{told}");
        let texts = texts(&plan);
        assert_eq!(texts.len(), 1, "{texts:?}");
        assert!(texts[0].starts_with(told), "{texts:?}");
        assert_eq!(plan.transit, wanted.len() > 1, "{told}");
        assert_eq!(plan.routes.len(), wanted.len(), "{told}");
        assert_eq!(plan.pods.len(), 2, "{told}");
        let is_main = wanted.first() == Some(&"eth0");
        assert_eq!(plan.main_uplink().is_some(), is_main, "{told}");
    }
}

#[test]
fn there_is_room_for_so_many_uplinks_and_no_more() {
    let mut world = world(2);
    let ifindexes = 100..100 + MAX_UPLINKS as u32;
    let extra = |ifindex| link(ifindex, &format!("ext{ifindex}"), LinkKind::Other, None);
    world
        .kernel
        .links
        .extend(ifindexes.map(|ifindex| (ifindex, extra(ifindex))));
    let names: Vec<String> = (100..100 + MAX_UPLINKS)
        .map(|ifindex| format!("ext{ifindex}"))
        .collect();
    let config = Config {
        extra_uplinks: names,
        ..config()
    };
    let plan = planned(&config, &world);
    assert_eq!(plan.uplinks.len(), MAX_UPLINKS);
    let told = "the uplink ext115 (chosen by --extra-iface) is one too many: there may be 16";
    assert_eq!(texts(&plan), [told]);
}

#[test]
fn kernel_routes_of_ours_lead_out_of_the_right_uplink() {
    let mut world = two_segments(2);
    remove_route(&mut world, "10.244.2.0/24");
    remove_route(&mut world, "10.244.9.0/24");
    let config = Config {
        extra_uplinks: vec!["eth1".to_owned()],
        ..managing()
    };
    let plan = planned(&config, &world);
    let by_eth1 = NextHop {
        gateway: ip("10.1.0.9"),
        ifindex: ETH1,
    };
    assert_eq!(
        plan.kernel_routes,
        BTreeMap::from([
            (net("10.244.2.0/24"), next_hop(2)),
            (net("10.244.9.0/24"), by_eth1),
        ])
    );
}

#[test]
fn a_route_by_the_wrong_uplink_is_the_kernel_s_alone() {
    let mut world = two_segments(2);
    remove_route(&mut world, "10.244.9.0/24");
    world
        .kernel
        .routes
        .push(via("10.244.9.0/24", "10.1.0.9", ETH0));
    let plan = planned(&with_eth1(), &world);
    assert_eq!(plan.routes.len(), 1);
    assert_eq!(plan.peers["node-9"].state, PeerState::KernelRoutesElsewhere);
}

#[test]
fn an_uplink_of_its_own_width_keeps_its_peers_alone_from_the_fast_path() {
    let mut world = two_segments(2);
    let routes = &mut world.kernel.routes;
    let far = routes
        .iter_mut()
        .find(|route| route.destination == net("10.244.9.0/24"));
    far.unwrap().mtu = Some(1400);
    let plan = planned(&with_eth1(), &world);
    assert_eq!(plan.peers["node-9"].state, PeerState::OtherMtu);
    assert_eq!(plan.peers["node-2"].state, PeerState::Ready);
}

#[test]
fn peers_of_another_segment_make_no_flow_doubtful() {
    let mut world = two_segments(2);
    let digest = |world: &World| planned(&with_eth1(), world).routing_digest;
    let before = digest(&world);
    let nodes = world.nodes.as_mut().unwrap();
    nodes.push(node("node-8", &["10.244.8.0/24"], &["10.1.0.8"]));
    assert_eq!(digest(&world), before);
    world
        .kernel
        .routes
        .push(via("10.244.8.0/24", "10.1.0.8", ETH1));
    assert_eq!(digest(&world), before);
    // What another node's pods send in transit is held to such a route, too.
    let elsewhere = route("10.244.8.7/32", RouteKind::Other);
    world.kernel.routes.push(elsewhere);
    assert_ne!(digest(&world), before);
}

#[test]
fn xdp_is_judged_for_each_uplink() {
    let by_xdp = Config {
        ingress: Ingress::Xdp,
        ..with_eth1()
    };
    let mut world = two_segments(2);
    let vlan = link(30, "eth1.5", LinkKind::Vlan(ETH1), None);
    world.kernel.links.insert(30, vlan);
    let planned = plan(&by_xdp, &world).unwrap();
    assert_eq!(planned.xdp, BTreeSet::from([ETH0]));
    let whys: Vec<u32> = planned.no_xdp.keys().copied().collect();
    assert_eq!(whys, [ETH1]);
    world.kernel.links.remove(&30);
    let planned = plan(&by_xdp, &world).unwrap();
    assert_eq!(planned.xdp, BTreeSet::from([ETH0, ETH1]));
    assert!(planned.no_xdp.is_empty());
}

#[test]
fn xdp_hands_frames_to_an_uplink_that_takes_them_and_has_nothing_on_its_way_out() {
    type Change = fn(&mut World);
    let eth1_has_egress = |world: &mut World, names: Vec<String>| {
        let there = Onlookers {
            ingress: Vec::new(),
            egress: names,
        };
        world.kernel.onlookers.insert(ETH1, there);
    };
    let fit = |world: &mut World| {
        for ifindex in [ETH0, ETH1] {
            world.kernel.xdp_targets.insert(ifindex);
            let nobody = Onlookers::default();
            world.kernel.onlookers.insert(ifindex, nobody);
        }
    };
    let by_xdp = Config {
        ingress: Ingress::Xdp,
        ..with_eth1()
    };
    let targets = |config: &Config, world: &World| planned(config, world).xdp_uplinks;
    let mut world = two_segments(2);
    fit(&mut world);
    assert_eq!(targets(&by_xdp, &world), BTreeSet::from([ETH0, ETH1]));
    assert!(targets(&with_eth1(), &world).is_empty(), "not asked for");
    let alone = Config {
        extra_uplinks: Vec::new(),
        ..by_xdp.clone()
    };
    assert!(targets(&alone, &world).is_empty(), "no transit");

    let changes: [Change; 4] = [
        |world| {
            world.kernel.xdp_targets.remove(&ETH1);
        },
        |world| {
            world.kernel.onlookers.remove(&ETH1);
        },
        |world| {
            let eth1 = world.kernel.links.get_mut(&ETH1).unwrap();
            eth1.qdiscs.push("tbf".to_owned());
        },
        |world| {
            let eth1 = world.kernel.links.get_mut(&ETH1).unwrap();
            eth1.egress_filters.push("u32".to_owned());
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut world = two_segments(2);
        fit(&mut world);
        change(&mut world);
        let found = targets(&by_xdp, &world);
        assert_eq!(found, BTreeSet::from([ETH0]), "change {number}");
    }
    eth1_has_egress(&mut world, vec!["meter".to_owned()]);
    assert_eq!(targets(&by_xdp, &world), BTreeSet::from([ETH0]));
}
