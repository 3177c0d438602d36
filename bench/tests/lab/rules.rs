//! Netfilter rules, each in both backends.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use underpass_bench::lab::rules::{Deny, HostPort, Protocol, Service};
use underpass_bench::lab::{Families, Family, Host, LabBuilder, names};
use underpass_bench::traffic::{Ping, TcpClient, TcpEcho, UdpClient, UdpEcho};
use underpass_bench::{Backend, Lab, skip};

use crate::{NEVER, SOON, for_families, lab_test};

const BOTH: [Backend; 2] = [Backend::Iptables, Backend::Nftables];

/// Has the same hold in both backends and for both families.
fn everywhere(test: impl Fn(Backend, Family) -> Result<()>) -> Result<()> {
    BOTH.into_iter().try_for_each(|backend| {
        for_families(|family| test(backend, family)).with_context(|| format!("{backend:?}"))
    })
}

/// A cluster of one family with all rules.
fn cluster(backend: Backend, family: Family) -> LabBuilder {
    Lab::builder()
        .families(family)
        .pods(2)
        .outside()
        .flannel_rules(true)
        .kube_proxy_rules(backend)
}

fn vip(family: Family) -> SocketAddr {
    SocketAddr::new(names::service_address(family, 10), 80)
}

/// One short connection.
fn ask(from: &Host, target: SocketAddr) -> Result<()> {
    let mut client = TcpClient::connect(from, target, SOON)?;
    client.echo(b"who are you?")?;
    client.close()
}

lab_test!(nodes_bridges_ask_netfilter_and_the_switch_does_not, {
    const KEY: &str = "net.bridge.bridge-nf-call-iptables";
    let lab = cluster(Backend::Iptables, Family::V4).build()?;
    if lab.switch().read_sysctl(KEY).is_err() {
        let test = "nodes_bridges_ask_netfilter_and_the_switch_does_not";
        skip(test, "this kernel has no br_netfilter");
        return Ok(());
    }
    assert_eq!(lab.node(1).read_sysctl(KEY)?, "1");
    assert_eq!(lab.switch().read_sysctl(KEY)?, "0");
    Ok(())
});

lab_test!(clusterip_works_in_both_backends, {
    everywhere(|backend, family| {
        let lab = cluster(backend, family).build()?;
        let (client, pods) = (lab.pod(1, 1), lab.node(2).pods());
        let service = Service::new("web", Protocol::Tcp, vip(family))
            .backend(pods[0].address(), 8080)
            .backend(pods[1].address(), 8080);
        lab.add_service(&service)?;
        let servers = [
            TcpEcho::start(&pods[0], 8080)?,
            TcpEcho::start(&pods[1], 8080)?,
        ];
        // The chance that one of two is never chosen is 2^-63.
        for _ in 0..64 {
            ask(client, vip(family))?;
        }
        for server in &servers {
            let peers = server.peers();
            assert!(!peers.is_empty(), "one backend was never chosen");
            assert!(
                peers.iter().all(|peer| peer.ip() == client.address()),
                "{peers:?}"
            );
        }
        // A node has no address in the cluster CIDR: masqueraded, and answered all the same.
        ask(lab.node(1), vip(family))?;
        Ok(())
    })
});

lab_test!(udp_clusterip_works_in_both_backends, {
    everywhere(|backend, family| {
        let lab = cluster(backend, family).build()?;
        let pod = lab.pod(2, 1);
        let service = Service::new("dns", Protocol::Udp, vip(family)).backend(pod.address(), 53);
        lab.add_service(&service)?;
        let server = UdpEcho::start(pod, 53)?;
        UdpClient::connect(lab.pod(1, 1), vip(family))?.echo(b"a?", SOON)?;
        assert_eq!(server.peers()[0].ip(), lab.pod(1, 1).address());
        Ok(())
    })
});

lab_test!(a_pod_reaches_itself_through_its_service, {
    everywhere(|backend, family| {
        let lab = cluster(backend, family).build()?;
        let pod = lab.pod(1, 1);
        let service = Service::new("self", Protocol::Tcp, vip(family)).backend(pod.address(), 8080);
        lab.add_service(&service)?;
        let server = TcpEcho::start(pod, 8080)?;
        ask(pod, vip(family))?;
        // Masqueraded: a pod drops what comes from its own address.
        assert_ne!(server.peers()[0].ip(), pod.address());
        // And a neighbour on the same bridge reaches it by its own address.
        ask(lab.pod(1, 2), vip(family))?;
        assert_eq!(server.peers()[1].ip(), lab.pod(1, 2).address());
        Ok(())
    })
});

lab_test!(node_port_works_in_both_backends, {
    everywhere(|backend, family| {
        let lab = cluster(backend, family).build()?;
        let pod = lab.pod(2, 1);
        let service = Service::new("web", Protocol::Tcp, vip(family))
            .backend(pod.address(), 8080)
            .node_port(30080);
        lab.add_service(&service)?;
        let server = TcpEcho::start(pod, 8080)?;
        // By way of the other node, which masquerades.
        ask(lab.outside(), SocketAddr::new(lab.node(1).address(), 30080))?;
        assert_eq!(server.peers()[0].ip(), lab.node(1).address());
        Ok(())
    })
});

lab_test!(host_port_works_in_both_backends, {
    everywhere(|backend, family| {
        let lab = cluster(backend, family).build()?;
        let pod = lab.pod(2, 1);
        let (protocol, host_port) = (Protocol::Tcp, 8088);
        lab.add_host_port(
            pod,
            &HostPort {
                protocol,
                host_port,
                pod_port: 8080,
            },
        )?;
        let server = TcpEcho::start(pod, 8080)?;
        let target = SocketAddr::new(lab.node(2).address(), host_port);
        ask(lab.outside(), target)?;
        ask(lab.pod(1, 1), target)?;
        ask(lab.pod(2, 2), target)?;
        let peers: Vec<IpAddr> = server.peers().iter().map(SocketAddr::ip).collect();
        let outside = names::outside_address(family);
        assert_eq!(peers[0], outside);
        // Not in the cluster CIDR, so Flannel masquerades what goes to a node.
        assert_eq!(peers[1], lab.node(1).address());
        assert_ne!(peers[2], pod.address());
        Ok(())
    })
});

lab_test!(masquerade_reaches_outside, {
    everywhere(|backend, family| {
        let lab = cluster(backend, family).build()?;
        let server = TcpEcho::start(lab.outside(), 80)?;
        let outside = SocketAddr::new(names::outside_address(family), 80);
        ask(lab.pod(1, 1), outside)?;
        ask(lab.pod(2, 2), outside)?;
        let peers: BTreeSet<_> = server.peers().iter().map(SocketAddr::ip).collect();
        let nodes = lab.nodes().iter().map(|node| node.address());
        assert_eq!(peers, nodes.collect());
        // Between pods nothing is translated.
        let server = TcpEcho::start(lab.pod(2, 1), 80)?;
        ask(lab.pod(1, 1), SocketAddr::new(lab.pod(2, 1).address(), 80))?;
        assert_eq!(server.peers()[0].ip(), lab.pod(1, 1).address());
        Ok(())
    })
});

lab_test!(what_is_denied_is_dropped_until_it_is_allowed, {
    everywhere(|backend, family| {
        let lab = cluster(backend, family).build()?;
        let (from, to) = (lab.pod(1, 1), lab.pod(2, 1));
        let deny = Deny::all().from(from.address()).to(to.address());
        let replies = || -> Result<bool> {
            Ok(Ping::to(to.address())
                .timeout(NEVER)
                .run(from)?
                .all_replied())
        };
        lab.deny(lab.node(2), &deny)?;
        assert!(!replies()?);
        Ping::to(to.address()).expect(lab.pod(1, 2))?;
        lab.undeny(lab.node(2), &deny)?;
        assert!(replies()?);

        let _server = TcpEcho::start(to, 80)?;
        let target = SocketAddr::new(to.address(), 80);
        lab.deny(lab.node(1), &Deny::all().port(Protocol::Tcp, 80))?;
        assert!(TcpClient::connect(from, target, NEVER).is_err());
        assert!(replies()?);
        Ok(())
    })
});

lab_test!(conntrack_is_on_where_it_is_asked_for, {
    let tracked = |lab: Lab| -> Result<bool> {
        Ping::to(lab.pod(2, 1).address())
            .timeout(SOON)
            .expect(lab.pod(1, 1))?;
        Ok(lab
            .node(1)
            .read_sysctl("net.netfilter.nf_conntrack_count")?
            != "0")
    };
    everywhere(|backend, family| {
        let lab = || Lab::builder().families(family);
        assert!(!tracked(lab().build()?)?);
        assert!(tracked(lab().conntrack(true).build()?)?);
        assert!(tracked(lab().kube_proxy_rules(backend).build()?)?);
        Ok(())
    })
});

lab_test!(thousands_of_services_stand_beside_one_that_works, {
    everywhere(|backend, family| {
        let lab = Lab::builder()
            .families(family)
            .kube_proxy_rules(backend)
            .build()?;
        lab.add_dummy_services(0..1000)?;
        let service = Service::new("web", Protocol::Tcp, vip(family));
        lab.add_service(&service.backend(lab.pod(2, 1).address(), 8080))?;
        let rules = lab.node(1).run(&["nft", "list", "ruleset"])?;
        assert!(rules.lines().count() > 4000, "{rules}");
        let _server = TcpEcho::start(lab.pod(2, 1), 8080)?;
        ask(lab.pod(1, 1), vip(family))?;
        Ok(())
    })
});

lab_test!(a_service_needs_kube_proxy, {
    let lab = Lab::builder().build()?;
    let service =
        Service::new("web", Protocol::Tcp, vip(Family::V4)).backend(lab.pod(1, 1).address(), 80);
    let error = lab.add_service(&service).unwrap_err().to_string();
    assert!(error.contains("kube_proxy_rules"), "{error}");
    Ok(())
});

lab_test!(in_a_dual_stack_cluster_each_family_has_its_rules, {
    for backend in BOTH {
        let lab = cluster(backend, Family::V4)
            .families(Families::Dual)
            .build()?;
        let (client, pod) = (lab.pod(1, 1), lab.pod(2, 1));
        let server = TcpEcho::start(pod, 8080)?;
        for family in Family::BOTH {
            let service = Service::new("web", Protocol::Tcp, vip(family));
            lab.add_service(&service.backend(pod.address_of(family), 8080))?;
            ask(client, vip(family))?;
        }
        let peers: Vec<_> = server.peers().iter().map(SocketAddr::ip).collect();
        assert_eq!(peers, client.addresses(), "{backend:?}");

        let ping = |family| Ping::to(pod.address_of(family)).timeout(NEVER);
        let replies = |family| -> Result<bool> { Ok(ping(family).run(client)?.all_replied()) };
        // By an address of one family, the other goes on.
        let deny = Deny::all().to(pod.address_of(Family::V6));
        lab.deny(lab.node(2), &deny)?;
        assert!(replies(Family::V4)? && !replies(Family::V6)?, "{backend:?}");
        lab.undeny(lab.node(2), &deny)?;
        // By none, both stop.
        lab.deny(lab.node(2), &Deny::all())?;
        assert!(
            !replies(Family::V4)? && !replies(Family::V6)?,
            "{backend:?}"
        );
        lab.undeny(lab.node(2), &Deny::all())?;
        assert!(replies(Family::V4)? && replies(Family::V6)?, "{backend:?}");
    }
    Ok(())
});
