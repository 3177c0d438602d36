//! A conversation between two pods, which tells the road that its packets take.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use underpass_bench::lab::{Family, Node, Pod};
use underpass_bench::traffic::{UdpClient, UdpEcho};
use underpass_bench::{Lab, wait_for};
use underpass_common::verdict::{Hook, Verdict};

use crate::common::{DEADLINE, Datapath};

/// How long one answer is waited for where another try follows.
const PATIENCE: Duration = Duration::from_millis(300);
/// What is said: always the same, so that a late answer to an earlier question does no harm.
const WORDS: &[u8] = b"are you there?";

/// The road that question and answer take at the nodes that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Road {
    /// Past the kernel, out of the pods and into them.
    Fast,
    /// Out of the pods by the kernel. Into a pod the road may be the fast one all the same: whom a
    /// packet comes from is not asked there.
    Kernel,
    /// Partly past the kernel.
    Both,
}

/// One UDP flow, question and answer. Nothing else may go fast on its nodes while it tells the
/// road.
pub struct Talk {
    watched: Vec<Datapath>,
    client: UdpClient,
    server: Option<UdpEcho>,
    target: SocketAddr,
}

impl Talk {
    /// Between pods of two nodes that have agents.
    pub fn new(lab: &Lab, from: &Pod, to: &Pod) -> Result<Self> {
        let nodes = [lab.node(from.node()), lab.node(to.node())];
        Self::watched_at(lab, &nodes, from, to)
    }

    /// In one of the families of two pods that speak both.
    pub fn of_family(lab: &Lab, family: Family, from: &Pod, to: &Pod) -> Result<Self> {
        let nodes = [lab.node(from.node()), lab.node(to.node())];
        Self::to_address(lab, &nodes, from, to, to.address_of(family))
    }

    /// Between any pods; these of their nodes have agents.
    pub fn watched_at(lab: &Lab, nodes: &[&Node], from: &Pod, to: &Pod) -> Result<Self> {
        Self::to_address(lab, nodes, from, to, to.address())
    }

    fn to_address(
        lab: &Lab,
        nodes: &[&Node],
        from: &Pod,
        to: &Pod,
        address: IpAddr,
    ) -> Result<Self> {
        let server = UdpEcho::start(to, 0)?;
        let target = SocketAddr::new(address, server.port());
        Ok(Self {
            watched: nodes
                .iter()
                .map(|node| Datapath::of(lab, node))
                .collect::<Result<_>>()?,
            client: UdpClient::connect(from, target)?,
            server: Some(server),
            target,
        })
    }

    /// Whom the questions go to.
    pub fn far(&self) -> IpAddr {
        self.target.ip()
    }

    /// Nobody answers any more.
    pub fn fall_silent(&mut self) {
        self.server = None;
    }

    /// This pod answers from now on, on the same port: the flow is the same.
    pub fn answer_from(&mut self, pod: &Pod) -> Result<()> {
        self.fall_silent();
        self.server = Some(UdpEcho::start(pod, self.target.port())?);
        Ok(())
    }

    /// Asks once.
    pub fn exchange(&self) -> Result<()> {
        self.client.echo(WORDS, DEADLINE).map(drop)
    }

    /// Asks once and waits for no answer.
    pub fn ask(&self) -> Result<()> {
        self.client.send(WORDS)
    }

    /// Asks once, and tells the road that question and answer took.
    pub fn road(&self) -> Result<Road> {
        self.road_within(DEADLINE)
    }

    fn road_within(&self, limit: Duration) -> Result<Road> {
        let before = self.fast()?;
        self.client.echo(WORDS, limit)?;
        let after = self.fast()?;
        // A node sends one of the two packets and receives the other.
        let nodes = self.watched.len() as u64;
        Ok(match (after.0 - before.0, after.1 - before.1) {
            (sent, received) if (sent, received) == (nodes, nodes) => Road::Fast,
            (0, _) => Road::Kernel,
            _ => Road::Both,
        })
    }

    /// Asks until question and answer take this road.
    pub fn wait_for(&self, road: Road) -> Result<()> {
        let what = format!("packets to {} take the road {road:?}", self.target);
        wait_for(DEADLINE, &what, || {
            let now = self.road_within(PATIENCE)?;
            ensure!(now == road, "they take {now:?}");
            Ok(())
        })
    }

    /// How many packets the watched nodes have sent and received past the kernel.
    fn fast(&self) -> Result<(u64, u64)> {
        let (mut sent, mut received) = (0, 0);
        for datapath in &self.watched {
            let counts = datapath.counts()?;
            sent += counts.of(Hook::FromPod, Verdict::Fast);
            received += counts.of(Hook::FromWire, Verdict::Fast);
        }
        Ok((sent, received))
    }
}
