//! Services and host ports, by kube-proxy's and portmap's rules: translated traffic stays with the
//! kernel, and the direct traffic beside it is fast.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use underpass_bench::lab::rules::{HostPort, Protocol, Service};
use underpass_bench::lab::{AgentOptions, Family, Host, LabBuilder, Node, Pod, names};
use underpass_bench::traffic::{Bulk, TcpClient, TcpEcho, UdpClient, UdpEcho};
use underpass_bench::{Backend, Lab, root_or_skip};

use crate::common::{
    self, DEADLINE, Datapath, Ends, NEVER, is_fast, make_fast, start_agents, tcp, udp,
    with_both_and_families,
};

const NODE_PORT: u16 = 30_080;
const NEAR_NODE_PORT: u16 = 30_081;
const HOST_PORT: u16 = 8000;
/// Where the pods listen.
const PORT: u16 = 8080;
/// Where the clients that are told so send from: translated, and direct.
const TRANSLATED: u16 = 41_000;
const DIRECT: u16 = 41_001;
const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];
/// Bytes of a transfer.
const SIZE: u64 = 8 << 20;

#[test]
fn clusterip() -> Result<()> {
    if !root_or_skip("clusterip") {
        return Ok(());
    }
    with_both_and_families(|backend, family| {
        on_cluster(cluster(backend, family), |lab| {
            let (pod, near, far) = (lab.pod(1, 1), lab.pod(1, 2), lab.pod(2, 1));
            let (vip, near_vip) = (vip(family), near_vip(family));
            for protocol in PROTOCOLS {
                lab.add_service(&service("far", protocol, vip, far))?;
                lab.add_service(&service("near", protocol, near_vip, near))?;
            }
            translated_and_direct(lab, pod, far, vip)?;
            transfer(pod, far, vip)?;
            // To a pod beside the client, and from the nodes themselves.
            let _servers = Servers::start(near)?;
            for client in [pod as &Host, lab.node(1), lab.node(2)] {
                converse(client, near_vip)?;
            }
            Ok(())
        })
    })
}

/// A pod of node 1 talks to one of node 2 by its service, which node 1 translates, and directly, both
/// at once.
fn translated_and_direct(lab: &Lab, pod: &Pod, far: &Pod, vip: SocketAddr) -> Result<()> {
    let servers = Servers::start(far)?;
    let from = |port| SocketAddr::new(pod.address(), port);
    let to = SocketAddr::new(far.address(), PORT);

    let mut direct = TcpClient::connect_from(pod, DIRECT, to, DEADLINE)?;
    let mut translated = TcpClient::connect_from(pod, TRANSLATED, vip, DEADLINE)?;
    make_fast(lab, &tcp(from(DIRECT), to), || {
        translated.echo(b"by the service")?;
        direct.echo(b"directly").map(drop)
    })?;
    for _ in 0..10 {
        translated.echo(b"by the service")?;
        direct.echo(b"directly")?;
    }
    drop((direct, translated));

    let direct = UdpClient::connect_from(pod, DIRECT, to)?;
    let translated = UdpClient::connect_from(pod, TRANSLATED, vip)?;
    make_fast(lab, &udp(from(DIRECT), to), || {
        translated.echo(b"by the service", DEADLINE)?;
        direct.echo(b"directly", DEADLINE).map(drop)
    })?;
    for _ in 0..10 {
        translated.echo(b"by the service", DEADLINE)?;
        direct.echo(b"directly", DEADLINE)?;
    }

    for (name, seen_by) in [
        (tcp as Naming, servers.tcp.peers()),
        (udp, servers.udp.peers()),
    ] {
        ensure!(seen_by.contains(&from(TRANSLATED)), "{seen_by:?}");
        // As the pod knows it, and as the wire does.
        never_confirmed(lab, lab.node(1), &name(from(TRANSLATED), vip))?;
        never_confirmed(lab, lab.node(1), &name(from(TRANSLATED), to))?;
    }
    ensure!(is_fast(lab, &udp(from(DIRECT), to))?, "slow again");
    Ok(())
}

#[test]
fn nodeport() -> Result<()> {
    if !root_or_skip("nodeport") {
        return Ok(());
    }
    with_both_and_families(|backend, family| {
        on_cluster(cluster(backend, family), |lab| {
            let (near, far) = (lab.pod(1, 1), lab.pod(2, 1));
            for protocol in PROTOCOLS {
                let of_far = service("far", protocol, vip(family), far);
                lab.add_service(&of_far.node_port(NODE_PORT))?;
                let near = service("near", protocol, near_vip(family), near);
                lab.add_service(&near.node_port(NEAR_NODE_PORT))?;
            }
            for (pod, port) in [(far, NODE_PORT), (near, NEAR_NODE_PORT)] {
                // Masqueraded, so the answers come back to the node that has to translate them.
                let front = SocketAddr::new(lab.node(1).address(), port);
                by_a_node(lab, lab.node(1), front, pod)?;
            }
            goes_fast_directly(lab, lab.pod(1, 2), far)
        })
    })
}

/// `externalTrafficPolicy: Local`: a node takes from outside only what is for its own pods, which see
/// from whom it comes.
#[test]
fn nodeport_local() -> Result<()> {
    if !root_or_skip("nodeport_local") {
        return Ok(());
    }
    with_both_and_families(|backend, family| {
        on_cluster(cluster(backend, family), |lab| {
            let far = lab.pod(2, 1);
            for protocol in PROTOCOLS {
                let service = service("far", protocol, vip(family), far);
                lab.add_service(&service.node_port(NODE_PORT).local())?;
            }
            let front = |node: usize| SocketAddr::new(lab.node(node).address(), NODE_PORT);
            by_a_node(lab, lab.node(2), front(2), far)?;
            seen_as_it_is(lab, front(2), far)?;

            // The other node has no pod behind it: closed to those outside, not to pods.
            let servers = Servers::start(far)?;
            let refused = TcpClient::connect(lab.outside(), front(1), NEVER);
            ensure!(refused.is_err(), "open at a node without a pod");
            let unanswered = UdpClient::connect(lab.outside(), front(1))?;
            ensure!(unanswered.echo(b"hello", NEVER).is_err());
            ensure!(servers.udp.peers().is_empty(), "it has got through");
            converse(lab.pod(1, 1), front(1))?;
            let peers = [servers.tcp.peers(), servers.udp.peers()].concat();
            for (peer, name) in peers.into_iter().zip([tcp as Naming, udp]) {
                let ours = lab.pod(1, 1).address();
                ensure!(peer.ip() == ours, "seen as {peer}");
                let to = SocketAddr::new(far.address(), PORT);
                never_confirmed(lab, lab.node(1), &name(peer, to))?;
            }
            drop(servers);
            goes_fast_directly(lab, lab.pod(1, 1), far)
        })
    })
}

/// The pod is told the address of who is outside.
fn seen_as_it_is(lab: &Lab, front: SocketAddr, pod: &Pod) -> Result<()> {
    let servers = Servers::start(pod)?;
    converse(lab.outside(), front)?;
    let peers = [servers.tcp.peers(), servers.udp.peers()].concat();
    let outside = names::outside_address(Family::of(front.ip()));
    ensure!(peers.len() == 2, "{peers:?}");
    ensure!(peers.iter().all(|peer| peer.ip() == outside), "{peers:?}");
    Ok(())
}

#[test]
fn hostport() -> Result<()> {
    if !root_or_skip("hostport") {
        return Ok(());
    }
    with_both_and_families(|backend, family| {
        on_cluster(cluster(backend, family), pod_has_host_port)?;
        // Where nobody masquerades node 1 forwards, as it is, what node 2 translates.
        let bare = cluster(backend, family).flannel_rules(false);
        on_cluster(bare, pod_has_host_port).context("without masquerading")
    })
}

fn pod_has_host_port(lab: &Lab) -> Result<()> {
    let (pod, far) = (lab.pod(1, 1), lab.pod(2, 1));
    for protocol in PROTOCOLS {
        let host_port = HostPort {
            protocol,
            host_port: HOST_PORT,
            pod_port: PORT,
        };
        lab.add_host_port(far, &host_port)?;
    }
    let front = SocketAddr::new(lab.node(2).address(), HOST_PORT);
    by_a_node(lab, lab.node(2), front, far)?;
    goes_fast_directly(lab, pod, far)
}

/// The way beside the translated one.
fn goes_fast_directly(lab: &Lab, pod: &Pod, far: &Pod) -> Result<()> {
    let _servers = Servers::start(far)?;
    let (from, to) = (
        SocketAddr::new(pod.address(), DIRECT),
        SocketAddr::new(far.address(), PORT),
    );
    let mut direct = TcpClient::connect_from(pod, DIRECT, to, DEADLINE)?;
    make_fast(lab, &tcp(from, to), || direct.echo(b"directly").map(drop))?;
    let direct = UdpClient::connect_from(pod, DIRECT, to)?;
    make_fast(lab, &udp(from, to), || {
        direct.echo(b"directly", DEADLINE).map(drop)
    })
}

/// All kinds of clients talk to a pod by a port of a node, which translates.
fn by_a_node(lab: &Lab, node: &Node, front: SocketAddr, pod: &Pod) -> Result<()> {
    for client in [lab.outside() as &Host, lab.pod(1, 2), lab.pod(2, 2)] {
        let servers = Servers::start(pod)?;
        converse(client, front)?;
        let peers = [servers.tcp.peers(), servers.udp.peers()].concat();
        drop(servers);
        transfer(client, pod, front)?;
        for (peer, name) in peers.into_iter().zip([tcp as Naming, udp]) {
            never_confirmed(lab, node, &name(peer, SocketAddr::new(pod.address(), PORT)))?;
        }
    }
    Ok(())
}

#[test]
fn hairpin() -> Result<()> {
    if !root_or_skip("hairpin") {
        return Ok(());
    }
    with_both_and_families(|backend, family| {
        on_cluster(cluster(backend, family), |lab| {
            let (pod, vip) = (lab.pod(1, 1), vip(family));
            for protocol in PROTOCOLS {
                lab.add_service(&service("own", protocol, vip, pod))?;
            }
            let servers = Servers::start(pod)?;
            (0..5).try_for_each(|_| converse(pod, vip))?;
            // What it got is not its own any more: masqueraded.
            let peers = [servers.tcp.peers(), servers.udp.peers()].concat();
            let own = pod.address();
            ensure!(peers.iter().all(|peer| peer.ip() != own), "{peers:?}");
            for peer in peers {
                for name in [tcp as Naming, udp] {
                    let to_pod = name(peer, SocketAddr::new(own, PORT));
                    never_confirmed(lab, lab.node(1), &to_pod)?;
                }
            }
            drop(servers);
            goes_fast_directly(lab, pod, lab.pod(2, 1))
        })
    })
}

/// The ClusterIP of the service with a pod on another node than the client.
fn vip(family: Family) -> SocketAddr {
    SocketAddr::new(names::service_address(family, 10), 80)
}

/// The ClusterIP of the one with a pod beside the client.
fn near_vip(family: Family) -> SocketAddr {
    SocketAddr::new(names::service_address(family, 11), 80)
}

fn cluster(backend: Backend, family: Family) -> LabBuilder {
    let lab = common::lab().families(family).pods(2).outside();
    lab.flannel_rules(true).kube_proxy_rules(backend)
}

/// Plays a scenario on a cluster with agents.
fn on_cluster(cluster: LabBuilder, scenario: impl Fn(&Lab) -> Result<()>) -> Result<()> {
    let lab = cluster.build()?;
    let agents = start_agents(&lab, &AgentOptions::default())?;
    scenario(&lab)?;
    drop(agents);
    Ok(())
}

/// A service with one pod behind it; its name has to say the protocol, too.
fn service(name: &str, protocol: Protocol, vip: SocketAddr, pod: &Pod) -> Service {
    Service::new(&format!("{name}-{protocol}"), protocol, vip).backend(pod.address(), PORT)
}

/// Echoes of TCP and UDP on the pods' port.
struct Servers {
    tcp: TcpEcho,
    udp: UdpEcho,
}

impl Servers {
    fn start(pod: &Pod) -> Result<Self> {
        Ok(Self {
            tcp: TcpEcho::start(pod, PORT)?,
            udp: UdpEcho::start(pod, PORT)?,
        })
    }
}

/// How a packet of a protocol is named.
type Naming = fn(SocketAddr, SocketAddr) -> Ends;

/// A short connection, and a few datagrams.
fn converse(client: &Host, front: SocketAddr) -> Result<()> {
    let talk = || -> Result<()> {
        let mut tcp = TcpClient::connect(client, front, DEADLINE)?;
        let udp = UdpClient::connect(client, front)?;
        for _ in 0..5 {
            tcp.echo(&[7; 5000])?;
            udp.echo(b"hello", DEADLINE)?;
        }
        tcp.close()
    };
    talk().with_context(|| format!("{} to {front}", client.name()))
}

/// A transfer to a pod by way of `front`.
fn transfer(client: &Host, pod: &Pod, front: SocketAddr) -> Result<()> {
    let bulk = Bulk::to(front).listen_port(PORT).size(SIZE);
    let report = bulk.run(client, pod, DEADLINE);
    report.with_context(|| format!("{} to {front}", client.name()))?;
    Ok(())
}

/// The node that translates leaves it to the kernel, in both directions.
fn never_confirmed(lab: &Lab, node: &Node, packet: &Ends) -> Result<()> {
    let datapath = Datapath::of(lab, node)?;
    for one in [*packet, packet.answer()] {
        ensure!(!datapath.sends_fast(&one)?, "{one:?} is sent fast");
        ensure!(!datapath.receives_fast(&one)?, "{one:?} is received fast");
    }
    Ok(())
}
