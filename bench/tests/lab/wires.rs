//! Topology.

use anyhow::Result;
use underpass_bench::lab::{Families, Family, Host, Pod, PodPlan, names};
use underpass_bench::traffic::{Frame, FrameSocket, Ping};
use underpass_bench::{Lab, wait_for};

use crate::{NEVER, SOON, for_families, lab_test};

lab_test!(pods_ping_over_routes, {
    for families in [Families::V4, Families::V6, Families::Dual] {
        let lab = Lab::builder().nodes(3).pods(2).families(families).build()?;
        for family in families.each() {
            for (from, to) in [((1, 1), (2, 2)), ((2, 2), (3, 1)), ((1, 1), (1, 2))] {
                let target = lab.pod(to.0, to.1).address_of(family);
                Ping::to(target).count(3).expect(lab.pod(from.0, from.1))?;
            }
            Ping::to(lab.pod(2, 1).address_of(family)).expect(lab.node(1))?;
        }
    }
    Ok(())
});

lab_test!(routed_pods_ping, {
    for_families(|family| {
        let lab = Lab::builder()
            .families(family)
            .pods(2)
            .routed_pods()
            .build()?;
        Ping::to(lab.pod(2, 2).address()).expect(lab.pod(1, 1))?;
        Ping::to(lab.pod(1, 2).address()).expect(lab.pod(1, 1))?;
        Ping::to(lab.pod(1, 2).address()).expect(lab.node(1))?;
        Ok(())
    })
});

lab_test!(without_routes_nothing_crosses, {
    for_families(|family| {
        let lab = Lab::builder().families(family).no_routes().build()?;
        assert!(!replies(lab.pod(1, 1), lab.pod(2, 1))?);
        Ping::to(lab.node(2).address()).expect(lab.node(1))?;
        Ok(())
    })
});

lab_test!(two_labs_side_by_side, {
    let (one, other) = (Lab::builder().build()?, Lab::builder().build()?);
    // The same addresses, and yet two worlds.
    assert_eq!(one.pod(2, 1).address(), other.pod(2, 1).address());
    other.pod(2, 1).ip("link set eth0 down\n")?;
    assert!(replies(one.pod(1, 1), one.pod(2, 1))?);
    assert!(!replies(other.pod(1, 1), other.pod(2, 1))?);
    Ok(())
});

lab_test!(a_node_looks_as_drawn, {
    let lab = Lab::builder().nodes(2).pods(2).mtu(1400).build()?;
    let node = lab.node(2);
    let links = node.run(&["ip", "-brief", "link"])?;
    let names: Vec<_> = links
        .lines()
        .filter_map(|line| line.split(['@', ' ']).next())
        .collect();
    assert_eq!(names, ["lo", "eth0", "cni0", "vethpod1", "vethpod2"]);
    assert!(links.contains("02:4e:00:00:00:02"), "{links}");
    assert!(
        node.run(&["ip", "link", "show", "eth0"])?
            .contains("mtu 1400")
    );
    let ports = node.run(&["ip", "-brief", "link", "show", "master", "cni0"])?;
    assert_eq!(ports.lines().count(), 2, "{ports}");
    let routes = node.run(&["ip", "route"])?;
    assert!(
        routes.contains("10.244.1.0/24 via 192.168.77.1 dev eth0"),
        "{routes}"
    );
    // No IPv6 noise.
    assert_eq!(node.run(&["ip", "-6", "address"])?, "");
    let pod = lab
        .pod(2, 1)
        .run(&["ip", "-brief", "address", "show", "eth0"])?;
    assert!(pod.contains("10.244.2.11/24"), "{pod}");
    Ok(())
});

lab_test!(the_outside_host_reaches_nodes_only, {
    for_families(|family| {
        let lab = Lab::builder().families(family).outside().build()?;
        Ping::to(lab.node(1).address()).expect(lab.outside())?;
        assert!(!replies(lab.outside(), lab.pod(1, 1))?);
        Ping::to(names::outside_address(family)).expect(lab.node(2))?;
        Ok(())
    })
});

lab_test!(a_pod_is_made_again, {
    for_families(|family| {
        // A bridge without a port would have its node forget all neighbours.
        let lab = Lab::builder().families(family).pods(2).build()?;
        let (node, old) = (lab.node(2), lab.pod(2, 1));
        let index = ifindex(node, old.node_veth())?;
        // Its node knows its MAC: the new pod must say that this is over.
        Ping::to(old.address()).expect(lab.pod(1, 1))?;
        lab.remove_pod(old)?;
        assert!(!old.netns_path().exists());
        assert!(!replies(lab.pod(1, 1), old)?);

        let mac = [0x02, 0, 0, 0, 0, 0x99];
        let new = lab.add_pod(
            PodPlan::new(2, 1)
                .mac(mac)
                .veth("vethagain")
                .veth_ifindex(index),
        )?;
        assert_eq!(ifindex(node, "vethagain")?, index);
        assert_eq!((new.address(), new.mac()), (old.address(), mac));
        assert!(replies(lab.pod(1, 1), &new)?);
        Ok(())
    })
});

lab_test!(a_node_of_one_family_has_nothing_of_the_other, {
    let lab = Lab::builder()
        .nodes(3)
        .families(Families::Dual)
        .node_families(1, Family::V4)
        .node_families(2, Family::V6)
        .build()?;
    let addresses = |host: &Host, family: &str| host.run(&["ip", "-brief", family, "address"]);
    for (node, nothing) in [(1, "-6"), (2, "-4")] {
        for host in [&**lab.pod(node, 1), &**lab.node(node)] {
            let left = addresses(host, nothing)?;
            assert!(left.lines().all(|line| line.starts_with("lo ")), "{left}");
        }
    }
    // And there is a way between those that have a family in common.
    let (v4, v6, dual) = (lab.pod(1, 1), lab.pod(2, 1), lab.pod(3, 1));
    Ping::to(dual.ipv4().into()).expect(v4)?;
    Ping::to(dual.ipv6().into()).expect(v6)?;
    Ping::to(v4.ipv4().into()).expect(dual)?;
    Ping::to(v6.ipv6().into()).expect(dual)?;
    assert!(!replies(v4, v6)? && !replies(v6, v4)?);

    let list = lab.nodes_list();
    let entry = |node: usize| {
        let entry = &list.nodes()[node - 1];
        let both = [&entry.pod_cidrs[..], &entry.internal_ips];
        both.concat().join(" ")
    };
    assert_eq!(entry(1), "10.244.1.0/24 192.168.77.1");
    assert_eq!(entry(2), "fd00:10:244:2::/64 fd00:77::2");
    assert_eq!(
        entry(3),
        "10.244.3.0/24 fd00:10:244:3::/64 192.168.77.3 fd00:77::3"
    );
    Ok(())
});

lab_test!(families_of_a_node_that_is_not_there_are_refused, {
    let error = Lab::builder().node_families(3, Family::V6).build();
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("a node that this lab doesn't have"),
        "{error}"
    );
    Ok(())
});

lab_test!(ipv6_is_there_at_once_and_quiet, {
    let lab = Lab::builder().families(Family::V6).build()?;
    for host in [&**lab.pod(1, 1), &**lab.node(1)] {
        let shown = host.run(&["ip", "-6", "address"])?;
        assert!(!shown.contains("tentative"), "{shown}");
        assert!(shown.contains("scope link"), "{shown}");
    }
    // As IPv4 has it, a link that was down has its addresses again.
    let pod = lab.pod(1, 1);
    pod.ip("link set eth0 down\nlink set eth0 up\nroute add ::/0 via fd00:10:244:1::1\n")?;
    wait_for(SOON, "the pod answers again", || {
        Ping::to(pod.address()).timeout(NEVER).expect(lab.pod(2, 1))
    })?;
    // What nobody asked for: duplicate addresses, routers. Only memberships may be told.
    let listens = FrameSocket::open(lab.switch(), names::SWITCH_BRIDGE)?;
    const LISTENER_REPORT: u8 = 143;
    let is_noise = |frame: &Frame| {
        let is_ipv6 = frame.bytes.get(12..14) == Some(&[0x86, 0xdd]);
        // A listener report comes behind a hop-by-hop header of 8 bytes.
        is_ipv6 && frame.bytes.get(62) != Some(&LISTENER_REPORT)
    };
    let noise = listens.next(NEVER, is_noise)?;
    assert!(noise.is_none(), "{noise:?}");
    Ok(())
});

lab_test!(a_pod_has_its_own_mtu, {
    for_families(|family| {
        let lab = Lab::builder().families(family).build()?;
        let pod = lab.add_pod(PodPlan::new(2, 2).mtu(1300))?;
        for (host, link) in [(&*pod, pod.interface()), (lab.node(2), pod.node_veth())] {
            let shown = host.run(&["ip", "link", "show", link])?;
            assert!(shown.contains("mtu 1300"), "{shown}");
        }
        Ok(())
    })
});

fn ifindex(host: &Host, interface: &str) -> Result<u32> {
    // "5: vethpod1@if2: <BROADCAST,..."
    let shown = host.run(&["ip", "-o", "link", "show", interface])?;
    Ok(shown.split(':').next().unwrap_or_default().trim().parse()?)
}

fn replies(from: &Host, to: &Pod) -> Result<bool> {
    let report = Ping::to(to.address()).timeout(NEVER).run(from)?;
    Ok(report.all_replied())
}
