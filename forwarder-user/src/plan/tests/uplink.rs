use super::*;
use crate::world::kernel::Onlookers;

#[test]
fn the_uplink_is_found_as_asked() {
    let name = |name: &str| UplinkChoice::Name(name.to_owned());
    let pattern = |text| UplinkChoice::Pattern(regex::Regex::new(text).unwrap());
    let reach = |ifindex| UplinkChoice::Reach {
        target: ip("10.0.0.2"),
        ifindex,
    };
    let found = Ok("eth0");
    let table = [
        (UplinkChoice::Auto, found),
        (name("eth0"), found),
        (pattern("^eth.*"), found),
        (
            pattern("^eth[0-9]$|^lo$"),
            Err(
                "the uplink lo (its name matches /^eth[0-9]$|^lo$/) has no MAC; an Ethernet interface is needed",
            ),
        ),
        (reach(Some(ETH0)), found),
        (
            name("eth7"),
            Err(
                "no uplink: no interface named \"eth7\"; there are: lo, eth0, cni0, veth10, veth11",
            ),
        ),
        (
            pattern("^ens"),
            Err("no uplink: no interface whose name matches /^ens/; there are: lo, eth0,"),
        ),
        (
            reach(None),
            Err("no uplink: no interface that 10.0.0.2 is reached by; there are:"),
        ),
        (
            name("down0"),
            Err("the uplink down0 (chosen by name) is down"),
        ),
    ];
    for (choice, wanted) in table {
        let mut world = world(2);
        if matches!(wanted, Err(text) if text.contains("down0")) {
            let down = Link {
                up: false,
                ..link(4, "down0", LinkKind::Other, None)
            };
            world.kernel.links.insert(4, down);
        }
        let config = Config {
            uplink: choice.clone(),
            ..config()
        };
        let plan = planned(&config, &world);
        match wanted {
            Ok(name) => {
                assert_eq!(plan.main_uplink().unwrap().name, name, "{choice:?}");
                assert_eq!(plan.problems, [], "{choice:?}");
            }
            Err(text) => {
                assert_eq!(plan.uplinks, [], "{choice:?}");
                assert!(texts(&plan)[0].starts_with(text), "{:?}", plan.problems);
                assert!(plan.routes.is_empty() && plan.neighbours.is_empty());
                let detail = "node node-2: there is no uplink".to_owned();
                assert_eq!(state(&plan, "node-2"), (PeerState::NotOnLink, detail));
                assert_eq!(plan.pods.len(), 2, "pods are found all the same");
            }
        }
    }
}

#[test]
fn a_pattern_prefers_what_is_up() {
    let mut world = world(2);
    let eth0 = world.kernel.links.get_mut(&ETH0).unwrap();
    let eth1 = Link {
        ifindex: 7,
        name: "eth1".to_owned(),
        ..eth0.clone()
    };
    eth0.up = false;
    world.kernel.links.insert(7, eth1);
    let config = Config {
        uplink: UplinkChoice::Pattern(regex::Regex::new("^eth").unwrap()),
        ..config()
    };
    assert_eq!(planned(&config, &world).main_uplink().unwrap().name, "eth1");
}

#[test]
fn a_member_is_no_uplink_and_its_bond_is() {
    let mut world = world(2);
    let bond = Link {
        mac: OWN_MAC,
        ..link(7, "bond0", LinkKind::Bond, None)
    };
    world.kernel.links.insert(7, bond);
    let addresses = world.kernel.addresses.remove(&ETH0).unwrap();
    world.kernel.addresses.insert(7, addresses);
    for route in &mut world.kernel.routes {
        if let RouteKind::Gateway { ifindex, .. } | RouteKind::OnLink { ifindex } = &mut route.kind
            && *ifindex == ETH0
        {
            *ifindex = 7;
        }
    }
    let neighbours = std::mem::take(&mut world.kernel.neighbours).into_iter();
    world.kernel.neighbours = neighbours.map(|((_, ip), it)| ((7, ip), it)).collect();
    let eth0 = world.kernel.links.get_mut(&ETH0).unwrap();
    eth0.upper = Some(7);

    let by = |choice| Config {
        uplink: choice,
        ..config()
    };
    let pattern = regex::Regex::new("^(eth|bond)").unwrap();
    for choice in [UplinkChoice::Auto, UplinkChoice::Pattern(pattern)] {
        let plan = planned(&by(choice), &world);
        assert_eq!(plan.main_uplink().unwrap().name, "bond0");
        assert_eq!(plan.routes.len(), 1);
    }
    let mut named = |kernel: &dyn Fn(&mut Kernel)| {
        kernel(&mut world.kernel);
        let plan = planned(&by(UplinkChoice::Name("eth0".into())), &world);
        assert_eq!((plan.main_uplink(), plan.routes.len()), (None, 0));
        texts(&plan)[0].clone()
    };
    assert_eq!(
        named(&|_| {}),
        "the uplink eth0 (chosen by name) belongs to bond0, which takes what comes in by it: name bond0"
    );
    let gone = |kernel: &mut Kernel| drop(kernel.links.remove(&7));
    assert!(named(&gone).contains("belongs to another interface"));
}

#[test]
fn a_bonds_frames_are_received_by_the_members_that_take_part() {
    let mut kernel = world(2).kernel;
    let bond = link(7, "bond0", LinkKind::Bond, None);
    let member = |ifindex| Link {
        upper: Some(7),
        ..link(ifindex, "member", LinkKind::Other, None)
    };
    let stands_by = Link {
        stands_by: true,
        ..member(21)
    };
    let down = Link {
        up: false,
        ..member(22)
    };
    for link in [bond, member(20), stands_by, down, member(23)] {
        kernel.links.insert(link.ifindex, link);
    }
    assert_eq!(kernel.receivers(7), [7, 20, 23].into());
    assert_eq!(kernel.receivers(20), [20].into());
    // What comes in by a bridge's port the bridge's own XDP sees, if any.
    assert_eq!(kernel.receivers(CNI0), [CNI0].into());
    assert_eq!(kernel.receivers(99), [99].into());
}

#[test]
fn an_uplink_may_shape_what_goes_out_and_not_limit_what_comes_in() {
    let mut world = world(2);
    let eth0 = world.kernel.links.get_mut(&ETH0).unwrap();
    eth0.qdiscs.push("htb".to_owned());
    eth0.egress_filters.push("u32".to_owned());
    let plan = planned(&config(), &world);
    assert_eq!((plan.routes.len(), texts(&plan).len()), (1, 0));
    let eth0 = world.kernel.links.get_mut(&ETH0).unwrap();
    eth0.ingress_filters.push("matchall".to_owned());
    let plan = planned(&config(), &world);
    assert_eq!((plan.uplinks.len(), plan.routes.len()), (0, 0));
    let text = "the uplink eth0 (it holds this node's InternalIP 10.0.0.1) has filters on what \
                comes in (matchall) which may limit or redirect it";
    assert!(texts(&plan)[0].starts_with(text), "{:?}", texts(&plan));
}

#[test]
fn without_an_address_to_go_by_the_default_route_decides() {
    let mut world = world(2);
    world.nodes.as_mut().unwrap()[0].internal_ips = vec!["192.0.2.1".to_owned()];
    assert_eq!(
        planned(&config(), &world).main_uplink().unwrap().name,
        "eth0"
    );
    remove_route(&mut world, "0.0.0.0/0");
    let plan = planned(&config(), &world);
    assert_eq!(plan.uplinks, []);
    assert!(texts(&plan)[0].starts_with(
        "no uplink: no interface with this node's InternalIP 192.0.2.1 or a default route; there are: lo"
    ));
}

#[test]
fn xdp_hides_nothing_from_the_programs_of_others() {
    let by_xdp = Config {
        ingress: Ingress::Xdp,
        ..config()
    };
    let mut world = world(2);
    let others = Onlookers {
        ingress: vec!["guard".to_owned(), "meter".to_owned()],
        egress: Vec::new(),
    };
    world.kernel.onlookers.insert(ETH0, others);
    let planned = plan(&by_xdp, &world).unwrap();
    assert!(planned.xdp.is_empty() && planned.main_uplink().is_some());
    let why = &planned.no_xdp[&ETH0];
    assert!(
        why.contains("by eth0 (guard, meter) would not see"),
        "{why}"
    );
}

#[test]
fn xdp_is_kept_off_an_uplink_that_carries_vlans() {
    let by_xdp = Config {
        ingress: Ingress::Xdp,
        ..config()
    };
    let mut world = world(2);
    let planned = plan(&by_xdp, &world).unwrap();
    assert_eq!(planned.xdp, BTreeSet::from([ETH0]));
    assert!(planned.no_xdp.is_empty());
    let unasked = plan(&config(), &world).unwrap();
    assert!(unasked.xdp.is_empty(), "nobody has asked");

    for (parent, is_fit) in [(CNI0, true), (ETH0, false)] {
        let vlan = link(30, "eth0.5", LinkKind::Vlan(parent), None);
        world.kernel.links.insert(30, vlan);
        let planned = plan(&by_xdp, &world).unwrap();
        assert_eq!(planned.xdp.contains(&ETH0), is_fit);
        let why = planned.no_xdp.get(&ETH0).cloned().unwrap_or_default();
        assert_eq!(why.is_empty(), is_fit, "{why}");
        assert!(
            is_fit || why.contains("eth0 carries VLANs (eth0.5)"),
            "{why}"
        );
        assert!(planned.main_uplink().is_some(), "TC goes on");
        assert!(plan(&config(), &world).unwrap().no_xdp.is_empty());
    }
}
