//! A node on which an agent has been: its maps and programs are pinned, its devices are there, and nobody writes.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::net::if_::if_nametoindex;

use super::packets::{Ends, V4};
use crate::Lab;
use crate::lab::{AgentOptions, Family, Node, names};

/// How long an agent may take to be ready.
const READY: Duration = Duration::from_secs(30);

/// The node that the agent was on, between two segments.
const NODE: usize = 3;

/// The lab, after its agent.
pub(super) struct Stage {
    lab: Lab,
}

impl Stage {
    /// Makes it, with an agent of the program `underpass`.
    pub fn new(underpass: &Path) -> Result<Self> {
        let lab = Lab::builder()
            .nodes(3)
            .second_segment(&[2], NODE)
            .underpass(underpass)
            .build()?;
        let options = AgentOptions::default();
        let options = options.args(["--extra-iface", names::SECOND_UPLINK, "--ingress", "xdp"]);
        let mut agent = lab.start_agent(lab.node(NODE), &options)?;
        agent.wait_ready(READY)?;
        // What it has pinned stays.
        agent.kill()?;
        Ok(Self { lab })
    }

    /// The node that the agent was on.
    pub fn node(&self) -> &Node {
        self.lab.node(NODE)
    }

    /// Where the agent has pinned its maps; the programs are in a folder below.
    pub fn pins(&self) -> PathBuf {
        self.lab.bpffs(self.node())
    }

    /// Who is who there.
    pub fn ends(&self, tag_seed: u32) -> Result<Ends> {
        let (node, pod) = (self.node(), self.lab.pod(NODE, 1));
        let (peer, second_peer) = (self.lab.node(1), self.lab.node(2));
        let index = |name: &str| {
            node.enter(|| {
                if_nametoindex(name)
                    .with_context(|| format!("there is no {name} on {}", node.name()))
            })
        };
        Ok(Ends {
            pod: v4(pod.address())?,
            pod_mac: pod.mac(),
            veth: index(pod.node_veth())?,
            gateway_mac: names::gateway_mac(node.number()),
            node: v4(node.address())?,
            node_mac: node.mac(),
            uplink: index(node.uplink())?,
            peer_mac: peer.mac(),
            second_uplink: index(names::SECOND_UPLINK)?,
            second_mac: names::second_mac(NODE),
            second_peer_mac: second_peer.mac(),
            second_pod: v4(self.lab.pod(2, 1).address())?,
            outside: v4(names::outside_address(Family::V4))?,
            tag_seed,
        })
    }
}

fn v4(address: IpAddr) -> Result<V4> {
    match address {
        IpAddr::V4(v4) => Ok(v4.octets()),
        IpAddr::V6(v6) => bail!("{v6} is no IPv4 address"),
    }
}
