//! Netfilter rules, each in both backends.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use underpass_bench::lab::rules::{Deny, HostPort, Protocol, Service};
use underpass_bench::lab::{Host, LabBuilder, names};
use underpass_bench::traffic::{Ping, TcpClient, TcpEcho, UdpClient, UdpEcho};
use underpass_bench::{Backend, Lab};

use crate::{NEVER, SOON, lab_test};

const BOTH: [Backend; 2] = [Backend::Iptables, Backend::Nftables];
const VIP: &str = "10.96.0.10:80";

/// A cluster with all rules.
fn cluster(backend: Backend) -> LabBuilder {
    Lab::builder()
        .pods(2)
        .outside()
        .flannel_rules(true)
        .kube_proxy_rules(backend)
}

fn vip() -> SocketAddr {
    VIP.parse().expect("an address")
}

/// One short connection.
fn ask(from: &Host, target: SocketAddr) -> Result<()> {
    let mut client = TcpClient::connect(from, target, SOON)?;
    client.echo(b"who are you?")?;
    client.close()
}

lab_test!(clusterip_works_in_both_backends, {
    for backend in BOTH {
        let lab = cluster(backend).build()?;
        let (client, pods) = (lab.pod(1, 1), lab.node(2).pods());
        let service = Service::new("web", Protocol::Tcp, vip())
            .backend(pods[0].address(), 8080)
            .backend(pods[1].address(), 8080);
        lab.add_service(&service)?;
        let servers = [
            TcpEcho::start(&pods[0], 8080)?,
            TcpEcho::start(&pods[1], 8080)?,
        ];
        // The chance that one of two is never chosen is 2^-63.
        for _ in 0..64 {
            ask(client, vip())?;
        }
        for server in &servers {
            let peers = server.peers();
            assert!(
                !peers.is_empty(),
                "{backend:?}: one backend was never chosen"
            );
            assert!(
                peers.iter().all(|peer| peer.ip() == client.address()),
                "{peers:?}"
            );
        }
        // A node has no address in the cluster CIDR: masqueraded, and answered all the same.
        ask(lab.node(1), vip())?;
    }
    Ok(())
});

lab_test!(udp_clusterip_works_in_both_backends, {
    for backend in BOTH {
        let lab = cluster(backend).build()?;
        let pod = lab.pod(2, 1);
        let service = Service::new("dns", Protocol::Udp, vip()).backend(pod.address(), 53);
        lab.add_service(&service)?;
        let server = UdpEcho::start(pod, 53)?;
        UdpClient::connect(lab.pod(1, 1), vip())?.echo(b"a?", SOON)?;
        assert_eq!(server.peers()[0].ip(), lab.pod(1, 1).address());
    }
    Ok(())
});

lab_test!(a_pod_reaches_itself_through_its_service, {
    for backend in BOTH {
        let lab = cluster(backend).build()?;
        let pod = lab.pod(1, 1);
        let service = Service::new("self", Protocol::Tcp, vip()).backend(pod.address(), 8080);
        lab.add_service(&service)?;
        let server = TcpEcho::start(pod, 8080)?;
        ask(pod, vip())?;
        // Masqueraded: a pod drops what comes from its own address.
        assert_ne!(server.peers()[0].ip(), pod.address(), "{backend:?}");
        // And a neighbour on the same bridge reaches it by its own address.
        ask(lab.pod(1, 2), vip())?;
        assert_eq!(
            server.peers()[1].ip(),
            lab.pod(1, 2).address(),
            "{backend:?}"
        );
    }
    Ok(())
});

lab_test!(node_port_works_in_both_backends, {
    for backend in BOTH {
        let lab = cluster(backend).build()?;
        let pod = lab.pod(2, 1);
        let service = Service::new("web", Protocol::Tcp, vip())
            .backend(pod.address(), 8080)
            .node_port(30080);
        lab.add_service(&service)?;
        let server = TcpEcho::start(pod, 8080)?;
        // By way of the other node, which masquerades.
        ask(lab.outside(), SocketAddr::new(lab.node(1).address(), 30080))?;
        assert_eq!(server.peers()[0].ip(), lab.node(1).address(), "{backend:?}");
    }
    Ok(())
});

lab_test!(host_port_works_in_both_backends, {
    for backend in BOTH {
        let lab = cluster(backend).build()?;
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
        let outside: IpAddr = names::OUTSIDE_ADDRESS.into();
        assert_eq!(peers[0], outside, "{backend:?}");
        // Not in the cluster CIDR, so Flannel masquerades what goes to a node.
        assert_eq!(peers[1], lab.node(1).address(), "{backend:?}");
        assert_ne!(peers[2], pod.address(), "{backend:?}");
    }
    Ok(())
});

lab_test!(masquerade_reaches_outside, {
    for backend in BOTH {
        let lab = cluster(backend).build()?;
        let server = TcpEcho::start(lab.outside(), 80)?;
        let outside = SocketAddr::new(names::OUTSIDE_ADDRESS.into(), 80);
        ask(lab.pod(1, 1), outside)?;
        ask(lab.pod(2, 2), outside)?;
        let peers: BTreeSet<_> = server.peers().iter().map(SocketAddr::ip).collect();
        let nodes = lab.nodes().iter().map(|node| node.address());
        assert_eq!(peers, nodes.collect(), "{backend:?}");
        // Between pods nothing is translated.
        let server = TcpEcho::start(lab.pod(2, 1), 80)?;
        ask(lab.pod(1, 1), SocketAddr::new(lab.pod(2, 1).address(), 80))?;
        assert_eq!(
            server.peers()[0].ip(),
            lab.pod(1, 1).address(),
            "{backend:?}"
        );
    }
    Ok(())
});

lab_test!(what_is_denied_is_dropped_until_it_is_allowed, {
    for backend in BOTH {
        let lab = cluster(backend).build()?;
        let (from, to) = (lab.pod(1, 1), lab.pod(2, 1));
        let deny = Deny::all().from(from.address()).to(to.address());
        let replies = || -> Result<bool> {
            Ok(Ping::to(to.address())
                .timeout(NEVER)
                .run(from)?
                .all_replied())
        };
        lab.deny(lab.node(2), &deny)?;
        assert!(!replies()?, "{backend:?}");
        Ping::to(to.address()).expect(lab.pod(1, 2))?;
        lab.undeny(lab.node(2), &deny)?;
        assert!(replies()?, "{backend:?}");

        let _server = TcpEcho::start(to, 80)?;
        let target = SocketAddr::new(to.address(), 80);
        lab.deny(lab.node(1), &Deny::all().port(Protocol::Tcp, 80))?;
        assert!(
            TcpClient::connect(from, target, NEVER).is_err(),
            "{backend:?}"
        );
        assert!(replies()?, "{backend:?}");
    }
    Ok(())
});

lab_test!(conntrack_is_on_where_it_is_asked_for, {
    let tracked = |lab: Lab| -> Result<bool> {
        Ping::to(lab.pod(2, 1).address()).expect(lab.pod(1, 1))?;
        Ok(lab
            .node(1)
            .read_sysctl("net.netfilter.nf_conntrack_count")?
            != "0")
    };
    assert!(!tracked(Lab::builder().build()?)?);
    assert!(tracked(Lab::builder().conntrack(true).build()?)?);
    for backend in BOTH {
        assert!(tracked(Lab::builder().kube_proxy_rules(backend).build()?)?);
    }
    Ok(())
});

lab_test!(thousands_of_services_stand_beside_one_that_works, {
    for backend in BOTH {
        let lab = Lab::builder().kube_proxy_rules(backend).build()?;
        lab.add_dummy_services(1000)?;
        let service = Service::new("web", Protocol::Tcp, vip());
        lab.add_service(&service.backend(lab.pod(2, 1).address(), 8080))?;
        let rules = lab.node(1).run(&["nft", "list", "ruleset"])?;
        assert!(rules.lines().count() > 4000, "{backend:?}");
        let _server = TcpEcho::start(lab.pod(2, 1), 8080)?;
        ask(lab.pod(1, 1), vip())?;
    }
    Ok(())
});

lab_test!(a_service_needs_kube_proxy, {
    let lab = Lab::builder().build()?;
    let service = Service::new("web", Protocol::Tcp, vip()).backend(lab.pod(1, 1).address(), 80);
    let error = lab.add_service(&service).unwrap_err().to_string();
    assert!(error.contains("kube_proxy_rules"), "{error}");
    Ok(())
});
