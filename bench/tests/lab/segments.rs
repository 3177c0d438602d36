//! Two L2 segments, and a node that routes between them.

use anyhow::Result;
use underpass_bench::lab::{Families, Family, Host, LabBuilder, Segment};
use underpass_bench::traffic::Ping;
use underpass_bench::{Lab, wait_for};

use crate::{NEVER, SOON, lab_test};

/// Node 1, node 2 behind node 3.
fn two_segments() -> LabBuilder {
    Lab::builder().nodes(3).second_segment(&[2], 3)
}

lab_test!(pods_reach_one_another_across_segments, {
    for families in [Families::V4, Families::V6, Families::Dual] {
        let lab = two_segments().families(families).build()?;
        let router = lab.node(3);
        for family in families.each() {
            let [near, far, between] = [1, 2, 3].map(|node| lab.pod(node, 1));
            for (from, to) in [(near, far), (far, near), (near, between), (between, far)] {
                Ping::to(to.address_of(family)).count(2).expect(from)?;
            }
            Ping::to(lab.node(2).address_of(family)).expect(lab.node(1))?;
            Ping::to(lab.node(1).address_of(family)).expect(far)?;

            // By the router, and by no other way.
            let across = || Ping::to(far.address_of(family)).timeout(NEVER);
            router.sysctl(family.forwarding(), "0")?;
            assert!(!across().run(near)?.all_replied(), "{family}");
            router.sysctl(family.forwarding(), "1")?;
            wait_for(SOON, "the router forwards again", || across().expect(near))?;
        }
    }
    Ok(())
});

lab_test!(segments_look_as_drawn, {
    let lab = two_segments()
        .second_mtu(1400)
        .whole_frames(true)
        .outside()
        .build()?;
    let router = lab.node(3);
    let said = router.run(&["ip", "-brief", "address"])?;
    for expected in ["192.168.77.3/24", "192.168.78.3/24", "10.244.3.1/24"] {
        assert!(said.contains(expected), "{said}");
    }
    let routes = |node| lab.node(node).run(&["ip", "route"]);
    for (node, expected) in [
        (1, "10.244.2.0/24 via 192.168.77.3 dev eth0"),
        (1, "10.244.3.0/24 via 192.168.77.3 dev eth0"),
        (2, "10.244.1.0/24 via 192.168.78.3 dev eth0"),
        (2, "default via 192.168.78.3 dev eth0"),
        (3, "10.244.1.0/24 via 192.168.77.1 dev eth0"),
        (3, "10.244.2.0/24 via 192.168.78.2 dev eth1"),
    ] {
        let routes = routes(node)?;
        assert!(routes.contains(expected), "node{node}: {routes}");
    }
    let mtu_of = |host: &Host, link| host.run(&["ip", "link", "show", link]);
    for (host, link) in [
        (&**lab.node(2), "eth0"),
        (&**router, "eth1"),
        (lab.switch(), "br1"),
    ] {
        assert!(mtu_of(host, link)?.contains("mtu 1400"), "{link}");
    }
    assert!(mtu_of(router, "eth0")?.contains("mtu 1500"));
    let feature = |host: &Host, link: &str, name: &str| -> Result<bool> {
        let shown = host.run(&["ethtool", "-k", link])?;
        Ok(shown
            .lines()
            .any(|line| line.starts_with(&format!("{name}: on"))))
    };
    for uplink in router.uplinks() {
        // What XDP sends out of the router is taken at the other end, and its wires carry whole frames.
        assert!(feature(
            lab.switch(),
            &uplink.switch_port(),
            "generic-receive-offload"
        )?);
        assert!(!feature(router, uplink.interface(), "tx-checksumming")?);
    }
    // What a node is known by is its address on its own segment.
    let list = lab.nodes_list();
    let addresses: Vec<_> = list
        .nodes()
        .iter()
        .map(|it| it.internal_ips.join(" "))
        .collect();
    assert_eq!(addresses, ["192.168.77.1", "192.168.78.2", "192.168.77.3"]);
    let second = router.address_on(Segment::Second, Family::V4);
    assert_eq!(second.to_string(), "192.168.78.3");
    let outside = lab.outside();
    Ping::to(lab.node(2).address()).expect(outside)?;
    Ok(())
});

lab_test!(impossible_segments_are_refused, {
    for (behind, router, part) in [
        (&[4][..], 3, "a node that this lab doesn't have"),
        (&[2], 4, "a node that this lab doesn't have"),
        (&[2, 3], 3, "behind the router as well"),
    ] {
        let built = Lab::builder()
            .nodes(3)
            .second_segment(behind, router)
            .build();
        let error = format!("{:#}", built.unwrap_err());
        assert!(error.contains(part), "{error}");
    }
    Ok(())
});
