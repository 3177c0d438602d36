//! The proof that fast packets don't meet the kernel's forwarding: it is switched off, and they go on.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::clusters::Clusters;
use super::stage::{Held, held};
use crate::lab::{Lab, Node};
use crate::traffic::{Bulk, BulkTransfer, Ping, UdpFlow, UdpStream};

const FORWARDING: &str = "net.ipv4.ip_forward";
/// How long packets may take to arrive.
const DEADLINE: Duration = Duration::from_secs(30);
/// What shall arrive with forwarding off.
const PINGS: u16 = 20;
const UDP_PACKETS: u64 = 500;
const TCP_BYTES: u64 = 128 << 20;

/// Switches forwarding off on nodes 1 and 2 of both clusters, under traffic between them.
pub(super) fn prove(clusters: &Clusters) -> Result<Held<()>> {
    let stopped = stops(&clusters.routes);
    let stopped = stopped.context("the cluster with plain routes")?;
    goes_on(&clusters.underpass)?;
    Ok(held(format!(
        "with ip_forward=0 on node1 and node2, {PINGS} of {PINGS} pings, {UDP_PACKETS} UDP packets \
         each way and {} MB of a TCP stream came through; over plain routes 0 of {stopped} pings",
        TCP_BYTES >> 20
    )))
}

/// Over plain routes everything stands still. How many pings had no answer.
fn stops(lab: &Lab) -> Result<usize> {
    let (near, far) = (lab.pod(1, 1), lab.pod(2, 1));
    let ping = Ping::to(far.address()).timeout(Duration::from_millis(100));
    ping.expect(near)?;
    let off = ForwardingOff::on(lab)?;
    let report = ping.count(3).run(near)?;
    off.restore()?;
    ensure!(
        report.replies.is_empty(),
        "ip_forward=0 did not stop pings, so the proof proves nothing"
    );
    ping.expect(near).context("with ip_forward=1 again")?;
    Ok(usize::from(report.sent))
}

fn goes_on(lab: &Lab) -> Result<()> {
    let traffic = Traffic::start(lab)?;
    traffic
        .wait_for_more(50, 8 << 20)
        .context("before forwarding was switched off")?;
    let off = ForwardingOff::on(lab)?;
    traffic.ping.count(PINGS).expect(lab.pod(1, 1))?;
    traffic
        .wait_for_more(UDP_PACKETS, TCP_BYTES)
        .context("with ip_forward=0 on node1 and node2")?;
    off.restore()?;
    traffic.stop().context("with ip_forward=1 again")
}

/// Ping, UDP both ways and a TCP stream between a pod of node 1 and one of node 2.
struct Traffic {
    ping: Ping,
    there: UdpStream,
    back: UdpStream,
    stream: BulkTransfer,
}

impl Traffic {
    fn start(lab: &Lab) -> Result<Self> {
        let (near, far) = (lab.pod(1, 1), lab.pod(2, 1));
        // One identifier is one flow: the first pings confirm it.
        let ping = Ping::to(far.address());
        ping.count(2).expect(near)?;
        Ok(Self {
            ping,
            there: UdpFlow::to(SocketAddr::new(far.address(), 5001)).start(near, far)?,
            back: UdpFlow::to(SocketAddr::new(near.address(), 5001)).start(far, near)?,
            stream: Bulk::to(SocketAddr::new(far.address(), 5002)).start(near, far)?,
        })
    }

    fn wait_for_more(&self, packets: u64, bytes: u64) -> Result<()> {
        self.there.wait_for_more(packets, DEADLINE)?;
        self.back.wait_for_more(packets, DEADLINE)?;
        self.stream.wait_for_more(bytes, DEADLINE)
    }

    fn stop(self) -> Result<()> {
        self.there.stop()?;
        self.back.stop()?;
        self.stream.stop(DEADLINE).map(drop)
    }
}

/// Forwarding is off on nodes 1 and 2 while this lives.
struct ForwardingOff<'a> {
    nodes: [&'a Node; 2],
}

impl<'a> ForwardingOff<'a> {
    fn on(lab: &'a Lab) -> Result<Self> {
        let off = Self {
            nodes: [lab.node(1), lab.node(2)],
        };
        off.set("0")?;
        Ok(off)
    }

    fn restore(self) -> Result<()> {
        self.set("1")
    }

    fn set(&self, value: &str) -> Result<()> {
        self.nodes
            .iter()
            .try_for_each(|node| node.sysctl(FORWARDING, value))
    }
}

impl Drop for ForwardingOff<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.set("1") {
            eprintln!("{error:#}");
        }
    }
}
