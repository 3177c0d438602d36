//! Topology.

use anyhow::Result;
use underpass_bench::Lab;
use underpass_bench::lab::{Host, Pod, PodPlan, names};
use underpass_bench::traffic::Ping;

use crate::{NEVER, lab_test};

lab_test!(pods_ping_over_routes, {
    let lab = Lab::builder().nodes(3).pods(2).build()?;
    for (from, to) in [((1, 1), (2, 2)), ((2, 2), (3, 1)), ((1, 1), (1, 2))] {
        let target = lab.pod(to.0, to.1).address();
        Ping::to(target).count(3).expect(lab.pod(from.0, from.1))?;
    }
    Ping::to(lab.pod(2, 1).address()).expect(lab.node(1))?;
    Ok(())
});

lab_test!(routed_pods_ping, {
    let lab = Lab::builder().pods(2).routed_pods().build()?;
    Ping::to(lab.pod(2, 2).address()).expect(lab.pod(1, 1))?;
    Ping::to(lab.pod(1, 2).address()).expect(lab.pod(1, 1))?;
    Ping::to(lab.pod(1, 2).address()).expect(lab.node(1))?;
    Ok(())
});

lab_test!(without_routes_nothing_crosses, {
    let lab = Lab::builder().no_routes().build()?;
    assert!(!replies(lab.pod(1, 1), lab.pod(2, 1))?);
    Ping::to(lab.node(2).address()).expect(lab.node(1))?;
    Ok(())
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
    let lab = Lab::builder().outside().build()?;
    Ping::to(lab.node(1).address()).expect(lab.outside())?;
    assert!(!replies(lab.outside(), lab.pod(1, 1))?);
    Ping::to(names::OUTSIDE_ADDRESS.into()).expect(lab.node(2))?;
    Ok(())
});

lab_test!(a_pod_is_made_again, {
    let lab = Lab::builder().build()?;
    let (node, old) = (lab.node(2), lab.pod(2, 1));
    let index = ifindex(node, old.node_veth())?;
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
