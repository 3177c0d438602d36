//! A tuple that was a direct flow's is a translated one's later: guard 2.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use underpass_bench::lab::rules::{Protocol, Service};
use underpass_bench::lab::{AgentOptions, Family, Pod, names};
use underpass_bench::traffic::{TcpClient, TcpEcho, UdpClient, UdpEcho};
use underpass_bench::{Backend, Lab, root_or_skip};

use crate::common::{
    self, DEADLINE, Datapath, forget_connections, make_fast, start_agents, tcp, udp,
    with_both_and_families,
};

const PORT: u16 = 8080;
const CLIENT_PORT: u16 = 41_000;

#[test]
fn tuple_reuse() -> Result<()> {
    if !root_or_skip("tuple_reuse") {
        return Ok(());
    }
    with_both_and_families(|backend, family| {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for conntrack in [Conntrack::Remembers, Conntrack::HasForgotten] {
                direct_and_translated_in_turn(backend, family, protocol, conntrack)
                    .with_context(|| format!("{protocol}, conntrack {conntrack:?}"))?;
            }
        }
        a_service_takes_the_address(backend, family).context("translated where it was direct")
    })
}

/// What connection tracking knows of the earlier flow when the later one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Conntrack {
    /// It moves the later one to another port, where the tuples would be the same.
    Remembers,
    /// As it does when the earlier one went on for a minute on the fast path, unseen.
    HasForgotten,
}

fn direct_and_translated_in_turn(
    backend: Backend,
    family: Family,
    protocol: Protocol,
    conntrack: Conntrack,
) -> Result<()> {
    let vip = SocketAddr::new(names::service_address(family, 10), 80);
    let lab = common::lab()
        .families(family)
        .flannel_rules(true)
        .kube_proxy_rules(backend)
        .build()?;
    let (pod, far) = (lab.pod(1, 1), lab.pod(2, 1));
    lab.add_service(&Service::new("one", protocol, vip).backend(far.address(), PORT))?;
    let agents = start_agents(&lab, &AgentOptions::default())?;
    let server = Server::start(protocol, far)?;
    let ours = SocketAddr::new(pod.address(), CLIENT_PORT);
    let theirs = SocketAddr::new(far.address(), PORT);
    let packet = match protocol {
        Protocol::Tcp => tcp(ours, theirs),
        Protocol::Udp => udp(ours, theirs),
    };
    let translator = Datapath::of(&lab, lab.node(1))?;

    for _ in 0..3 {
        let mut direct = Client::connect(protocol, pod, theirs)?;
        make_fast(&lab, &packet, || direct.ask())?;
        direct.end()?;
        between(&lab, conntrack)?;

        let mut translated = Client::connect(protocol, pod, vip)?;
        (0..5).try_for_each(|_| translated.ask())?;
        for one in [packet, packet.answer()] {
            let fast = translator.sends_fast(&one)? || translator.receives_fast(&one)?;
            let same_tuple = conntrack == Conntrack::HasForgotten;
            ensure!(!(same_tuple && fast), "the translated {one:?} is fast");
        }
        translated.end()?;
        between(&lab, conntrack)?;
    }
    // Else two tuples were used, and nothing was shown.
    if conntrack == Conntrack::HasForgotten {
        let peers = server.peers();
        ensure!(peers.iter().all(|peer| *peer == ours), "{peers:?}");
    }
    drop(agents);
    Ok(())
}

/// The tuple is the same for the pod this time: what it reached directly is a service's now.
fn a_service_takes_the_address(backend: Backend, family: Family) -> Result<()> {
    let lab = common::lab()
        .families(family)
        .pods(2)
        .kube_proxy_rules(backend)
        .build()?;
    let agents = start_agents(&lab, &AgentOptions::default())?;
    let (pod, far, other) = (lab.pod(1, 1), lab.pod(2, 1), lab.pod(2, 2));
    let servers = (TcpEcho::start(far, PORT)?, TcpEcho::start(other, PORT)?);
    let ours = SocketAddr::new(pod.address(), CLIENT_PORT);
    let theirs = SocketAddr::new(far.address(), PORT);
    let packet = tcp(ours, theirs);
    let mut direct = TcpClient::connect_from(pod, CLIENT_PORT, theirs, DEADLINE)?;
    make_fast(&lab, &packet, || direct.echo(b"who are you?").map(drop))?;
    direct.reset()?;

    let service = Service::new("one", Protocol::Tcp, theirs);
    lab.add_service(&service.backend(other.address(), PORT))?;
    forget_connections(&lab)?;
    let mut translated = TcpClient::connect_from(pod, CLIENT_PORT, theirs, DEADLINE)?;
    translated.echo(b"who are you?")?;
    let peers = servers.1.peers();
    ensure!(peers == [ours], "answered by somebody else: {peers:?}");
    let translator = Datapath::of(&lab, lab.node(1))?;
    ensure!(
        !translator.sends_fast(&packet)?,
        "the translated packet is fast"
    );
    drop(agents);
    Ok(())
}

fn between(lab: &Lab, conntrack: Conntrack) -> Result<()> {
    match conntrack {
        Conntrack::Remembers => Ok(()),
        Conntrack::HasForgotten => forget_connections(lab),
    }
}

enum Server {
    Tcp(TcpEcho),
    Udp(UdpEcho),
}

impl Server {
    fn start(protocol: Protocol, pod: &Pod) -> Result<Self> {
        Ok(match protocol {
            Protocol::Tcp => Self::Tcp(TcpEcho::start(pod, PORT)?),
            Protocol::Udp => Self::Udp(UdpEcho::start(pod, PORT)?),
        })
    }

    fn peers(&self) -> Vec<SocketAddr> {
        match self {
            Self::Tcp(server) => server.peers(),
            Self::Udp(server) => server.peers(),
        }
    }
}

enum Client {
    Tcp(TcpClient),
    Udp(UdpClient),
}

impl Client {
    fn connect(protocol: Protocol, pod: &Pod, target: SocketAddr) -> Result<Self> {
        Ok(match protocol {
            Protocol::Tcp => {
                Self::Tcp(TcpClient::connect_from(pod, CLIENT_PORT, target, DEADLINE)?)
            }
            Protocol::Udp => Self::Udp(UdpClient::connect_from(pod, CLIENT_PORT, target)?),
        })
    }

    /// The answer counts only where it comes from whom was asked.
    fn ask(&mut self) -> Result<()> {
        match self {
            Self::Tcp(client) => client.echo(b"who are you?"),
            Self::Udp(client) => client.echo(b"who are you?", DEADLINE),
        }
        .map(drop)
    }

    /// Its port can be used again at once.
    fn end(self) -> Result<()> {
        match self {
            Self::Tcp(client) => client.reset(),
            Self::Udp(_) => Ok(()),
        }
    }
}
