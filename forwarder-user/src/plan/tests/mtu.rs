//! Where the kernel keeps an MTU of its own for the way, only it can honour that.

use super::*;

/// Gives the route to a destination an MTU.
fn narrow(world: &mut World, destination: &str, mtu: u32) {
    let mut routes = world.kernel.routes.iter_mut();
    let route = routes.find(|route| route.destination == net(destination));
    route.unwrap().mtu = Some(mtu);
}

fn link_of(world: &mut World, ifindex: u32) -> &mut Link {
    world.kernel.links.get_mut(&ifindex).unwrap()
}

#[test]
fn a_route_with_an_mtu_of_its_own_is_the_kernel_s() {
    for (cidr, address) in [
        ("10.244.2.0/24", "10.0.0.2"),
        ("fd00:244:2::/64", "fd00::2"),
    ] {
        let mut world = dual_stack(2);
        narrow(&mut world, cidr, 1400);
        let plan = planned(&config(), &world);
        assert_eq!(plan.routes.len(), 1, "the other family's");
        assert!(!plan.routes.contains_key(&net(cidr)));
        let detail =
            format!("node node-2: the kernel's route to {cidr} has an MTU of its own, 1400");
        assert_eq!(state(&plan, "node-2"), (PeerState::OtherMtu, detail));
        assert!(plan.neighbours.contains(&(ETH0, ip(address))));
        assert_eq!(planned(&always(), &world).routes.len(), 2, "the trie alone");

        // What the interface does not carry anyhow takes nothing away.
        narrow(&mut world, cidr, 1500);
        assert_eq!(planned(&config(), &world).routes.len(), 2);
        link_of(&mut world, ETH0).mtu = 9000;
        link_of(&mut world, ETH0).mtu_v6 = Some(9000);
        assert_eq!(planned(&config(), &world).routes.len(), 1);
    }
}

#[test]
fn a_part_with_an_mtu_of_its_own_is_an_exception() {
    let mut world = dual_stack(2);
    for (part, gateway) in [
        ("10.244.2.9/32", "10.0.0.2"),
        ("fd00:244:2::9/128", "fd00::2"),
    ] {
        world.kernel.routes.push(via(part, gateway, ETH0));
        assert!(!planned(&config(), &world).routes.contains_key(&net(part)));
        narrow(&mut world, part, 1280);
        let plan = planned(&config(), &world);
        assert_eq!(plan.routes[&net(part)], Route::KERNEL);
        assert_eq!(state(&plan, "node-2").0, PeerState::Ready);
    }
}

#[test]
fn an_uplink_that_is_narrower_for_ipv6_carries_ipv4_alone() {
    let mut world = dual_stack(2);
    link_of(&mut world, ETH0).mtu_v6 = Some(1400);
    for config in [config(), always()] {
        let plan = planned(&config, &world);
        assert_eq!(
            plan.routes,
            BTreeMap::from([(net("10.244.2.0/24"), way_to(2))])
        );
        let detail = "node node-2: eth0 carries IPv6 packets of 1400 bytes at most, \
                      less than its MTU 1500";
        assert_eq!(
            state(&plan, "node-2"),
            (PeerState::OtherMtu, detail.to_owned())
        );
        assert_eq!(plan.peers["node-2"].v4.unwrap().state, PeerState::Ready);
    }
    link_of(&mut world, ETH0).mtu = 1400;
    assert_eq!(planned(&config(), &world).routes.len(), 2);
}

#[test]
fn pods_behind_a_narrower_way_are_the_kernel_s_in_that_family() {
    type Break = fn(&mut World);
    let v4 = "10.244.1.0/24";
    let v6 = "fd00:244:1::/64";
    let table: [(&str, Break, &[&str]); 6] = [
        ("nothing", |_| {}, &[v4, v6]),
        (
            "the bridge's IPv6 MTU",
            |world| link_of(world, CNI0).mtu_v6 = Some(1280),
            &[v4],
        ),
        (
            "an IPv4 route",
            |world| narrow(world, "10.244.1.0/24", 1400),
            &[v6],
        ),
        (
            "an IPv6 route",
            |world| narrow(world, "fd00:244:1::/64", 1400),
            &[v4],
        ),
        (
            "a route to one pod",
            |world| {
                world.kernel.routes.push(on_link("10.244.1.9/32", POD_A));
                narrow(world, "10.244.1.9/32", 1400);
            },
            &[v6],
        ),
        (
            "a route elsewhere",
            |world| {
                narrow(world, "0.0.0.0/0", 1400);
                narrow(world, "fd00::/64", 1400);
            },
            &[v4, v6],
        ),
    ];
    for (what, spoil, own) in table {
        let mut world = dual_stack(2);
        spoil(&mut world);
        let plan = planned(&config(), &world);
        let wanted: Vec<IpNet> = own.iter().map(|own| net(own)).collect();
        assert_eq!(plan.own_pod_cidrs, wanted, "{what}");
        assert_eq!(plan.pods.len(), 2, "{what}");
        let told = texts(&plan);
        assert_eq!(told.len(), 2 - own.len(), "{what}: {told:?}");
        if let Some(text) = told.first() {
            assert!(text.contains("carries less than the MTU of"), "{text}");
            assert_eq!(plan.problems[0].subject, Subject::OwnNode);
        }
    }
}

#[test]
fn a_pod_behind_a_bridge_with_a_smaller_mtu_is_the_kernel_s() {
    let mut world = dual_stack(2);
    link_of(&mut world, CNI0).mtu = 1400;
    link_of(&mut world, CNI0).mtu_v6 = Some(1400);
    link_of(&mut world, POD_A).mtu = 1400;
    let plan = planned(&config(), &world);
    assert_eq!(plan.pods[&POD_A].state, PodState::Attached);
    assert_eq!(plan.pods[&POD_B].state, PodState::OtherMtu);
    assert_eq!(
        texts(&plan),
        ["pod veth veth11: its bridge has a smaller MTU; its traffic stays with the kernel"]
    );
}
