//! A node that routes between two L2 segments, and has an agent on both:
//!
//! ```text
//!   node1 --- first segment --- eth0 node3 eth1 --- second segment --- node2
//! ```

mod changes;
mod own_pods;
mod path_mtu;
mod roads;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use underpass_bench::lab::{AgentOptions, AgentProcess, Family, LabBuilder, Node, Pod};
use underpass_bench::traffic::{Bulk, BulkTransfer, Ping, UdpClient, UdpEcho};
use underpass_bench::{Backend, Lab, wait_for};
use underpass_common::verdict::{Hook, Verdict};

use crate::common::{self, Counts, DEADLINE, Datapath, Ends, NEVER};

/// The node on both segments.
const ROUTER: usize = 3;
const UDP_PORT: u16 = 5001;
const TCP_PORT: u16 = 5002;
const PING: u16 = 4711;

/// Two segments, with rules as kube-proxy makes them. Not with Flannel's, which translate on each node what pods of
/// other nodes send.
fn segments(family: Family) -> LabBuilder {
    common::lab()
        .nodes(3)
        .second_segment(&[2], ROUTER)
        .families(family)
        .kube_proxy_rules(Backend::Iptables)
}

fn router(lab: &Lab) -> &Node {
    lab.node(ROUTER)
}

fn on_both() -> AgentOptions {
    AgentOptions::default().args(["--extra-iface", "eth1"])
}

/// An agent on the router alone: what the other nodes do is the kernel's.
fn start_router(lab: &Lab, options: &AgentOptions) -> Result<AgentProcess> {
    let mut agent = lab.start_agent(router(lab), options)?;
    agent.wait_ready(DEADLINE)?;
    wait_for_routes(lab)?;
    Ok(agent)
}

fn wait_for_routes(lab: &Lab) -> Result<()> {
    let datapath = Datapath::of(lab, router(lab))?;
    wait_for(DEADLINE, "the router knows the way to both nodes", || {
        let routes = datapath.maps.routes()?;
        let ways: Vec<u32> = routes.values().map(|route| route.ifindex).collect();
        ensure!(ways.len() == 2 && ways[0] != ways[1], "{routes:?}");
        Ok(())
    })
}

/// Traffic of each kind between two pods, past the router.
struct Traffic {
    pod: Pod,
    far: Pod,
    bulk: BulkTransfer,
    _echo: UdpEcho,
    udp: UdpClient,
    ping: Ping,
}

/// A packet, and what sends it and takes the answer.
type Exchange<'a> = (Ends, Box<dyn Fn() -> Result<()> + 'a>);

impl Traffic {
    fn start(pod: &Pod, far: &Pod) -> Result<Self> {
        let ping = Ping::to(far.address())
            .identifier(PING)
            .timeout(NEVER)
            .interval(Duration::ZERO);
        // Addresses are resolved by this.
        wait_for(DEADLINE, "the far pod answers", || ping.expect(pod))?;
        let echo = UdpEcho::start(far, UDP_PORT)?;
        let to = |port| SocketAddr::new(far.address(), port);
        Ok(Self {
            bulk: Bulk::to(to(TCP_PORT)).start(pod, far)?,
            udp: UdpClient::connect(pod, to(UDP_PORT))?,
            _echo: echo,
            ping,
            pod: pod.clone(),
            far: far.clone(),
        })
    }

    /// Its packets in the direction of the far pod.
    fn each(&self) -> Result<[Exchange<'_>; 3]> {
        let (pod, far) = (self.pod.address(), self.far.address());
        let from = |port| SocketAddr::new(pod, port);
        let to = |port| SocketAddr::new(far, port);
        let tcp = common::tcp(from(self.bulk.local_port()?), to(TCP_PORT));
        let udp = common::udp(from(self.udp.local_port()?), to(UDP_PORT));
        let ping = common::ping(pod, far, PING);
        Ok([
            (tcp, Box::new(|| self.bulk.wait_for_more(1, DEADLINE))),
            (udp, Box::new(|| self.udp.echo(b"?", DEADLINE).map(drop))),
            (ping, Box::new(|| self.ping.expect(&self.pod).map(drop))),
        ])
    }

    /// Goes on until all of it is fast at the router, in both directions.
    fn make_fast(&self, at: &Datapath) -> Result<()> {
        for (packet, exchange) in self.each()? {
            let what = format!("{packet:?} and its answer pass the router fast");
            wait_for(DEADLINE, &what, || {
                exchange()?;
                ensure!(at.passes_fast(&packet)?, "the packet isn't fast");
                ensure!(at.passes_fast(&packet.answer())?, "the answer isn't");
                Ok(())
            })?;
        }
        Ok(())
    }

    fn goes_on(&self, bytes: u64) -> Result<()> {
        self.bulk.wait_for_more(bytes, DEADLINE)?;
        for _ in 0..50 {
            self.udp.echo(b"still there?", DEADLINE)?;
        }
        self.ping.count(50).timeout(DEADLINE).expect(&self.pod)?;
        Ok(())
    }
}

/// All pod packets that came to the router's uplinks since then were fast.
fn all_fast_since(at: &Datapath, before: &Counts) -> Result<()> {
    let added = at.counts()?.since(before);
    let fast = added.of(Hook::FromWire, Verdict::Fast);
    ensure!(
        fast > 0 && fast == added.of_traffic(Hook::FromWire),
        "{added:?}"
    );
    Ok(())
}

/// None of them was.
fn none_fast_since(at: &Datapath, before: &Counts) -> Result<()> {
    let added = at.counts()?.since(before);
    ensure!(added.of(Hook::FromWire, Verdict::Fast) == 0, "{added:?}");
    Ok(())
}
