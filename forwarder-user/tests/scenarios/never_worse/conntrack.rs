//! Connection tracking sees little of what is fast, and rules that drop what is INVALID to it do no
//! harm.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use underpass_bench::lab::{AgentOptions, Family, LabBuilder, Node};
use underpass_bench::traffic::{Bulk, TcpClient, TcpEcho};
use underpass_bench::{Backend, Lab, root_or_skip, wait_for};
use underpass_common::flow::confirmed;

use crate::common::{
    self, DEADLINE, Datapath, Ends, forget_connections, forget_soon, is_fast, make_fast,
    start_agents, tcp, tracked, wait_until_untracked, with_both, with_both_and_families,
    with_families, with_families_in_turn,
};

const PORT: u16 = 8080;
const CLIENT_PORT: u16 = 41_000;

#[test]
fn invalid_drop() -> Result<()> {
    if !root_or_skip("invalid_drop") {
        return Ok(());
    }
    with_both_and_families(connections_idle_and_resume)
}

fn connections_idle_and_resume(backend: Backend, family: Family) -> Result<()> {
    let lab = cluster(backend, family).build()?;
    forget_soon(&lab)?;
    // One that was there before the agents: confirmed in mid-stream.
    let _server = TcpEcho::start(lab.pod(2, 1), PORT)?;
    let mut older = Connection::open(&lab, CLIENT_PORT)?;
    older.talk()?;
    let agents = start_agents(&lab, &AgentOptions::default())?;
    older.goes_fast(&lab)?;
    // And one that comes after them: confirmed from its start.
    let mut newer = Connection::open(&lab, CLIENT_PORT + 1)?;
    newer.goes_fast(&lab)?;
    ensure!(older.is_confirmed_as(&lab, confirmed::MID_STREAM)?);
    ensure!(newer.is_confirmed_as(&lab, confirmed::FROM_START)?);

    let mut both = [older, newer];
    idle(&lab)?;
    for connection in &mut both {
        connection.talk().context("after it idled")?;
    }
    // Back to the kernel, which knows nothing of them any more.
    idle(&lab)?;
    for connection in &mut both {
        forget_flow(&lab, &connection.packet)?;
        connection.talk().context("back at the kernel")?;
        connection.goes_fast(&lab)?;
    }
    idle(&lab)?;
    for connection in both {
        connection.client.close()?;
    }
    opened_again(&lab)?;
    drop(agents);
    Ok(())
}

/// The same ports once more, while conntrack knows of the last connection and when it doesn't.
fn opened_again(lab: &Lab) -> Result<()> {
    for (forgotten, port) in [(false, CLIENT_PORT + 2), (true, CLIENT_PORT + 3)] {
        for _ in 0..2 {
            let mut again = Connection::open(lab, port)?;
            again.goes_fast(lab)?;
            again.client.reset()?;
            if forgotten {
                forget_connections(lab)?;
            }
        }
    }
    Ok(())
}

fn cluster(backend: Backend, family: Family) -> LabBuilder {
    let lab = common::lab().families(family);
    lab.flannel_rules(true).kube_proxy_rules(backend)
}

/// From pod 1 of node 1 to pod 1 of node 2.
struct Connection {
    client: TcpClient,
    packet: Ends,
}

impl Connection {
    fn open(lab: &Lab, port: u16) -> Result<Self> {
        let (pod, far) = (lab.pod(1, 1), lab.pod(2, 1));
        let to = SocketAddr::new(far.address(), PORT);
        Ok(Self {
            client: TcpClient::connect_from(pod, port, to, DEADLINE)?,
            packet: tcp(SocketAddr::new(pod.address(), port), to),
        })
    }

    fn talk(&mut self) -> Result<()> {
        self.client.echo(&[7; 20_000]).map(drop)
    }

    fn goes_fast(&mut self, lab: &Lab) -> Result<()> {
        let packet = self.packet;
        make_fast(lab, &packet, || self.talk())
    }

    fn is_confirmed_as(&self, lab: &Lab, how: u8) -> Result<bool> {
        let flows = Datapath::of(lab, lab.node(1))?.maps.flows()?;
        let key = self.packet.from_pod();
        let flow = flows.iter().find(|(name, _)| *name == key);
        Ok(flow.is_some_and(|(_, flow)| flow.egress.confirmed == how))
    }
}

/// Waits until nobody's connection tracking knows the connections any more.
fn idle(lab: &Lab) -> Result<()> {
    let (pod, far) = (lab.pod(1, 1).address(), lab.pod(2, 1).address());
    let mut nodes = lab.nodes().iter();
    nodes.try_for_each(|node| wait_until_untracked(node, "tcp", pod, far))
}

/// Takes a flow off the fast path, on both nodes.
fn forget_flow(lab: &Lab, packet: &Ends) -> Result<()> {
    let mut sender = Datapath::of(lab, lab.node(1))?;
    sender.maps.remove_flow(&packet.from_pod())?;
    let mut receiver = Datapath::of(lab, lab.node(2))?;
    receiver.maps.remove_flow(&packet.to_pod())
}

/// Guard 4: what conntrack holds as established it is told the end of.
#[test]
fn closed_mid_stream() -> Result<()> {
    if !root_or_skip("closed_mid_stream") {
        return Ok(());
    }
    with_families(connection_is_closed)
}

fn connection_is_closed(family: Family) -> Result<()> {
    let lab = cluster(Backend::Nftables, family).build()?;
    let _server = TcpEcho::start(lab.pod(2, 1), PORT)?;
    let mut connection = Connection::open(&lab, CLIENT_PORT)?;
    connection.talk()?;
    let agents = start_agents(&lab, &AgentOptions::default())?;
    connection.goes_fast(&lab)?;
    let known = |node: &Node| {
        tracked(
            node,
            "tcp",
            lab.pod(1, 1).address(),
            lab.pod(2, 1).address(),
        )
    };
    for node in lab.nodes() {
        ensure!(known(node)?.contains("ESTABLISHED"), "{}", known(node)?);
    }
    connection.client.close()?;
    for node in lab.nodes() {
        let list = known(node)?;
        ensure!(!list.contains("ESTABLISHED"), "{}: {list}", node.name());
    }
    drop(agents);
    Ok(())
}

#[test]
fn fallback_mid_stream() -> Result<()> {
    if !root_or_skip("fallback_mid_stream") {
        return Ok(());
    }
    // In turn: a gigabyte each is much for two cores.
    with_families_in_turn(|family| with_both(|backend| transfer_falls_back(backend, family)))
}

fn transfer_falls_back(backend: Backend, family: Family) -> Result<()> {
    const SIZE: u64 = 1 << 30;
    let lab = cluster(backend, family).build()?;
    let agents = start_agents(&lab, &AgentOptions::default())?;
    let (pod, far) = (lab.pod(1, 1), lab.pod(2, 1));
    let target = SocketAddr::new(far.address(), PORT);
    let bulk = Bulk::to(target)
        .size(SIZE)
        .local_port(CLIENT_PORT)
        .start(pod, far)?;
    let packet = tcp(SocketAddr::new(pod.address(), CLIENT_PORT), target);
    let goes_fast = || {
        wait_for(DEADLINE, "the transfer is fast", || {
            ensure!(is_fast(&lab, &packet)? && is_fast(&lab, &packet.answer())?);
            Ok(())
        })
    };
    goes_fast()?;
    bulk.wait_for_more(SIZE / 4, DEADLINE)?;
    // Known to conntrack by its first two packets, and a gigabyte of sequence numbers ago.
    forget_flow(&lab, &packet)?;
    bulk.wait_for_more(SIZE / 4, DEADLINE)?;
    goes_fast()?;
    // And not known to it at all.
    forget_connections(&lab)?;
    forget_flow(&lab, &packet)?;
    let report = bulk.finish(3 * DEADLINE)?;
    ensure!(report.bytes == SIZE);
    drop(agents);
    Ok(())
}
