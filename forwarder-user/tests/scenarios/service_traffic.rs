//! Traffic by way of services, and beside it: what is translated stays with the kernel, what is direct is fast.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use underpass_bench::Lab;
use underpass_bench::lab::{Family, Host, Node, Pod, names};
use underpass_bench::traffic::{Bulk, TcpClient, TcpEcho, UdpClient, UdpEcho};

use crate::common::{DEADLINE, Datapath, Ends, NEVER, is_fast, make_fast, tcp, udp};

/// Where the pods listen.
pub const PORT: u16 = 8080;
/// Where the clients that are told so send from: translated, and direct.
const TRANSLATED: u16 = 41_000;
const DIRECT: u16 = 41_001;
/// Bytes of a transfer.
const SIZE: u64 = 8 << 20;

/// A pod of node 1 talks to one of node 2 by its service, which node 1 translates, and directly, both
/// at once.
pub fn translated_and_direct(lab: &Lab, pod: &Pod, far: &Pod, vip: SocketAddr) -> Result<()> {
    let servers = Servers::start(far)?;
    let family = Family::of(vip.ip());
    let from = |port| SocketAddr::new(pod.address_of(family), port);
    let to = SocketAddr::new(far.address_of(family), PORT);

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

/// The way beside the translated one.
pub fn goes_fast_directly(lab: &Lab, family: Family, pod: &Pod, far: &Pod) -> Result<()> {
    let _servers = Servers::start(far)?;
    let (from, to) = (
        SocketAddr::new(pod.address_of(family), DIRECT),
        SocketAddr::new(far.address_of(family), PORT),
    );
    let mut direct = TcpClient::connect_from(pod, DIRECT, to, DEADLINE)?;
    make_fast(lab, &tcp(from, to), || direct.echo(b"directly").map(drop))?;
    let direct = UdpClient::connect_from(pod, DIRECT, to)?;
    make_fast(lab, &udp(from, to), || {
        direct.echo(b"directly", DEADLINE).map(drop)
    })
}

/// All kinds of clients talk to a pod by a port of a node, which translates.
pub fn by_a_node(lab: &Lab, node: &Node, front: SocketAddr, pod: &Pod) -> Result<()> {
    let to = SocketAddr::new(pod.address_of(Family::of(front.ip())), PORT);
    for client in [lab.outside() as &Host, lab.pod(1, 2), lab.pod(2, 2)] {
        let servers = Servers::start(pod)?;
        converse(client, front)?;
        let peers = [servers.tcp.peers(), servers.udp.peers()].concat();
        drop(servers);
        transfer(client, pod, front)?;
        for (peer, name) in peers.into_iter().zip([tcp as Naming, udp]) {
            never_confirmed(lab, node, &name(peer, to))?;
        }
    }
    Ok(())
}

/// The pod is told the address of who is outside.
pub fn seen_as_it_is(lab: &Lab, front: SocketAddr, pod: &Pod) -> Result<()> {
    let servers = Servers::start(pod)?;
    converse(lab.outside(), front)?;
    let peers = [servers.tcp.peers(), servers.udp.peers()].concat();
    let outside = names::outside_address(Family::of(front.ip()));
    ensure!(peers.len() == 2, "{peers:?}");
    ensure!(peers.iter().all(|peer| peer.ip() == outside), "{peers:?}");
    Ok(())
}

/// Node 1 has no pod behind a port that takes from outside only what is for its own pods: closed to those
/// outside, not to pods.
pub fn closed_without_a_pod(lab: &Lab, front: SocketAddr, far: &Pod) -> Result<()> {
    let family = Family::of(front.ip());
    let servers = Servers::start(far)?;
    let refused = TcpClient::connect(lab.outside(), front, NEVER);
    ensure!(refused.is_err(), "open at a node without a pod");
    let unanswered = UdpClient::connect(lab.outside(), front)?;
    ensure!(unanswered.echo(b"hello", NEVER).is_err());
    ensure!(servers.udp.peers().is_empty(), "it has got through");
    converse(lab.pod(1, 1), front)?;
    let peers = [servers.tcp.peers(), servers.udp.peers()].concat();
    for (peer, name) in peers.into_iter().zip([tcp as Naming, udp]) {
        let ours = lab.pod(1, 1).address_of(family);
        ensure!(peer.ip() == ours, "seen as {peer}");
        let to = SocketAddr::new(far.address_of(family), PORT);
        never_confirmed(lab, lab.node(1), &name(peer, to))?;
    }
    Ok(())
}

/// A pod of node 1 reaches itself by its service.
pub fn by_its_own_service(lab: &Lab, pod: &Pod, vip: SocketAddr) -> Result<()> {
    let servers = Servers::start(pod)?;
    (0..5).try_for_each(|_| converse(pod, vip))?;
    // What it got is not its own any more: masqueraded.
    let peers = [servers.tcp.peers(), servers.udp.peers()].concat();
    let own = pod.address_of(Family::of(vip.ip()));
    ensure!(peers.iter().all(|peer| peer.ip() != own), "{peers:?}");
    for peer in peers {
        for name in [tcp as Naming, udp] {
            let to_pod = name(peer, SocketAddr::new(own, PORT));
            never_confirmed(lab, lab.node(1), &to_pod)?;
        }
    }
    Ok(())
}

/// Echoes of TCP and UDP on the pods' port.
pub struct Servers {
    pub tcp: TcpEcho,
    pub udp: UdpEcho,
}

impl Servers {
    pub fn start(pod: &Pod) -> Result<Self> {
        Ok(Self {
            tcp: TcpEcho::start(pod, PORT)?,
            udp: UdpEcho::start(pod, PORT)?,
        })
    }
}

/// How a packet of a protocol is named.
pub type Naming = fn(SocketAddr, SocketAddr) -> Ends;

/// A short connection, and a few datagrams.
pub fn converse(client: &Host, front: SocketAddr) -> Result<()> {
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
pub fn transfer(client: &Host, pod: &Pod, front: SocketAddr) -> Result<()> {
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
