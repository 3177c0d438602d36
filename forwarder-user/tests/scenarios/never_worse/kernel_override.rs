//! Where the kernel's routes lead elsewhere than the cluster's nodes say, the kernel wins.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use underpass_bench::lab::{AgentOptions, Family, names};
use underpass_bench::traffic::{Frame, FrameSocket, TcpClient, TcpEcho, UdpClient, UdpEcho};
use underpass_bench::{Backend, Lab, root_or_skip, wait_for};
use underpass_common::addr::Mac;

use crate::common::{
    self, DEADLINE, Datapath, Ends, NEVER, make_fast, start_agents, tcp, udp, with_families,
};
use crate::inject::is_of;

const PORT: u16 = 5001;
const CLIENT_PORT: u16 = 41_000;

/// What an administrator may do on node 1 about pod 1 of node 2, as commands of the shell.
#[derive(Debug)]
struct Override {
    set: String,
    unset: String,
    /// The node that packets go to instead; it forwards them on.
    leads_to: Option<usize>,
}

fn overrides(family: Family) -> [Override; 3] {
    let pod = names::pod_address(family, 2, 1);
    let pods = names::pod_cidr(family, 2);
    let instead = names::node_address(family, 3);
    let ip = match family {
        Family::V4 => "ip -4",
        Family::V6 => "ip -6",
    };
    [
        Override {
            set: format!("{ip} route add {pod} via {instead}"),
            unset: format!("{ip} route del {pod} via {instead}"),
            leads_to: Some(3),
        },
        Override {
            set: format!("{ip} route add blackhole {pod}"),
            unset: format!("{ip} route del blackhole {pod}"),
            leads_to: None,
        },
        Override {
            set: format!(
                "{ip} route replace default via {instead} table 100
{ip} rule add to {pods} lookup 100"
            ),
            unset: format!("{ip} rule del to {pods} lookup 100"),
            leads_to: Some(3),
        },
    ]
}

#[test]
fn kernel_override() -> Result<()> {
    if !root_or_skip("kernel_override") {
        return Ok(());
    }
    with_families(|family| {
        let mut overrides = overrides(family).into_iter();
        overrides.try_for_each(|one| kernel_wins(family, &one).with_context(|| format!("{one:?}")))
    })
}

fn kernel_wins(family: Family, one: &Override) -> Result<()> {
    // Without Flannel's rules, by which node 3 would masquerade what isn't its pods'.
    let lab = common::lab().families(family).nodes(3);
    let lab = lab.kube_proxy_rules(Backend::Iptables).build()?;
    let agents = start_agents(&lab, &AgentOptions::default())?;
    let node = lab.node(1);
    let traffic = Traffic::new(&lab)?;
    let (usual, instead) = (
        NextHops::from([lab.node(2).mac()]),
        one.leads_to
            .map(|node| lab.node(node).mac())
            .into_iter()
            .collect::<NextHops>(),
    );

    // There before the flow, whether the agent has seen it yet or not.
    node.run(&["sh", "-ec", &one.set])?;
    for _ in 0..3 {
        traffic.all_go_to(&instead)?;
        ensure!(!traffic.is_sent_fast()?, "fast the wrong way");
    }

    node.run(&["sh", "-ec", &one.unset])?;
    traffic.make_fast()?;
    traffic.all_go_to(&usual)?;
    let mut connection = traffic.connect()?;
    connection.echo(&[7; 100_000])?;

    // In mid-flow: as soon as the agent has seen it.
    node.run(&["sh", "-ec", &one.set])?;
    wait_for(DEADLINE, "the flow takes the other way", || {
        traffic.all_go_to(&instead)
    })?;
    for _ in 0..3 {
        traffic.all_go_to(&instead)?;
    }
    if one.leads_to.is_some() {
        connection.echo(&[7; 100_000]).context("by the other way")?;
    }

    node.run(&["sh", "-ec", &one.unset])?;
    traffic.make_fast()?;
    traffic.all_go_to(&usual)?;
    connection
        .echo(&[7; 100_000])
        .context("the old way again")?;
    connection.close()?;
    drop(agents);
    Ok(())
}

/// MACs that packets of a flow were sent to.
type NextHops = BTreeSet<Mac>;

/// From pod 1 of node 1 to pod 1 of node 2.
struct Traffic<'a> {
    lab: &'a Lab,
    client: UdpClient,
    packet: Ends,
    wire: FrameSocket,
    _servers: (UdpEcho, TcpEcho),
}

impl<'a> Traffic<'a> {
    fn new(lab: &'a Lab) -> Result<Self> {
        let (pod, far) = (lab.pod(1, 1), lab.pod(2, 1));
        let to = SocketAddr::new(far.address(), PORT);
        Ok(Self {
            lab,
            _servers: (UdpEcho::start(far, PORT)?, TcpEcho::start(far, PORT)?),
            client: UdpClient::connect_from(pod, CLIENT_PORT, to)?,
            packet: udp(SocketAddr::new(pod.address(), CLIENT_PORT), to),
            wire: FrameSocket::open(lab.switch(), lab.node(1).name())?,
        })
    }

    fn connect(&self) -> Result<TcpClient> {
        let (pod, far) = (self.lab.pod(1, 1), self.lab.pod(2, 1));
        let to = SocketAddr::new(far.address(), PORT);
        let mut connection = TcpClient::connect_from(pod, CLIENT_PORT, to, DEADLINE)?;
        let packet = tcp(SocketAddr::new(pod.address(), CLIENT_PORT), to);
        make_fast(self.lab, &packet, || connection.echo(b"hello").map(drop))?;
        Ok(connection)
    }

    fn make_fast(&self) -> Result<()> {
        make_fast(self.lab, &self.packet, || {
            self.client.echo(b"hello", NEVER).map(drop)
        })
    }

    fn is_sent_fast(&self) -> Result<bool> {
        Datapath::of(self.lab, self.lab.node(1))?.sends_fast(&self.packet)
    }

    /// Sends some packets and looks where they go.
    fn all_go_to(&self, expected: &NextHops) -> Result<()> {
        const PACKETS: usize = 20;
        self.wire.drain(|_| true)?;
        for _ in 0..PACKETS {
            self.client.send(b"whither?")?;
        }
        let is_ours = |frame: &Frame| is_of(&frame.bytes, &self.packet);
        let mut seen = Vec::new();
        while seen.len() < PACKETS
            && let Some(frame) = self.wire.next(NEVER, is_ours)?
        {
            seen.push(frame);
        }
        let next_hops: NextHops = seen
            .iter()
            .filter_map(|frame| frame.bytes.first_chunk().copied())
            .collect();
        ensure!(
            next_hops == *expected,
            "sent to {next_hops:x?}, not to {expected:x?}"
        );
        ensure!(
            expected.is_empty() || seen.len() == PACKETS,
            "{} left",
            seen.len()
        );
        Ok(())
    }
}
