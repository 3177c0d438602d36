//! More flows than the flow table holds.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use underpass_bench::lab::{AgentOptions, Family};
use underpass_bench::traffic::{TcpClient, TcpEcho, UdpClient, UdpEcho};
use underpass_bench::{Backend, root_or_skip};
use underpass_common::verdict::{Hook, Verdict};

use crate::common::{DEADLINE, Datapath, lab, start_agents, with_families_in_turn};

/// Entries of the flow table.
const ENTRIES: usize = 32;
/// Ten times as many flows.
const CONNECTIONS: usize = 100;
const CONVERSATIONS: usize = 10 * ENTRIES - CONNECTIONS;
/// More than a TCP window at each turn: what connection tracking knows of the window is out of date
/// whenever a connection comes back to the kernel.
const TURN: usize = 192 << 10;

/// With kube-proxy's rule that drops what connection tracking calls INVALID.
#[test]
fn flow_table_full() -> Result<()> {
    if !root_or_skip("flow_table_full") {
        return Ok(());
    }
    with_families_in_turn(every_flow_stays_alive)
}

fn every_flow_stays_alive(family: Family) -> Result<()> {
    let lab = lab()
        .families(family)
        .kube_proxy_rules(Backend::Iptables)
        .build()?;
    let options = AgentOptions::default().args(["--max-flows", &ENTRIES.to_string()]);
    let _agents = start_agents(&lab, &options)?;
    let (client, server) = (lab.pod(1, 1), lab.pod(2, 1));
    let (udp, tcp) = (UdpEcho::start(server, 0)?, TcpEcho::start(server, 0)?);
    let (udp_target, tcp_target) = (
        SocketAddr::new(server.address(), udp.port()),
        SocketAddr::new(server.address(), tcp.port()?),
    );
    let conversations: Vec<_> = (0..CONVERSATIONS)
        .map(|_| UdpClient::connect(client, udp_target))
        .collect::<Result<_>>()?;
    let mut connections: Vec<_> = (0..CONNECTIONS)
        .map(|_| TcpClient::connect(client, tcp_target, DEADLINE))
        .collect::<Result<_>>()?;

    let datapath = Datapath::of(&lab, lab.node(1))?;
    let content: Vec<u8> = (0..TURN).map(|n| (n % 251) as u8).collect();
    for round in 1..=3 {
        let before = datapath.counts()?;
        for (number, conversation) in conversations.iter().enumerate() {
            let told = || format!("round {round}: UDP flow {number}");
            for _ in 0..2 {
                conversation
                    .echo(b"still alive?", DEADLINE)
                    .with_context(told)?;
            }
        }
        for (number, connection) in connections.iter_mut().enumerate() {
            let told = || format!("round {round}: TCP connection {number}");
            connection.echo(&content).with_context(told)?;
        }
        // All of them had been forgotten when their turn came, and went fast again after their
        // first packet.
        let counts = datapath.counts()?.since(&before);
        let forgotten = counts.of(Hook::FromPod, Verdict::Unconfirmed);
        ensure!(
            forgotten >= (CONVERSATIONS + CONNECTIONS) as u64 / 2,
            "{counts:?}"
        );
        ensure!(
            counts.of(Hook::FromPod, Verdict::Fast) > forgotten,
            "{counts:?}"
        );
        ensure!(datapath.maps.flows()?.len() <= ENTRIES);
    }
    connections.into_iter().try_for_each(TcpClient::close)
}
