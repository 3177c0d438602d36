//! What the agent is asked to do: everything that the plan needs to know besides the world.

use std::net::IpAddr;

use ipnet::IpNet;
use regex::Regex;
use underpass_common::settings::Offload;

/// The agent's configuration, checked already; only [`UplinkChoice::Reach`] follows the kernel.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of this node's own Node object.
    pub node_name: String,
    /// Where Nodes come from, for messages: `nodes file nodes.yaml`.
    pub nodes_source: String,
    /// How the uplink is found.
    pub uplink: UplinkChoice,
    /// Names of further uplinks, each on an L2 segment of its own.
    pub extra_uplinks: Vec<String>,
    /// Where podCIDRs must lie; a family of which none is given may lie anywhere.
    pub cluster_cidrs: Vec<IpNet>,
    /// What may take the fast path.
    pub offload: Offload,
    /// Who keeps the kernel's routes to the peers' podCIDRs.
    pub routes: RoutesMode,
    /// Who looks first at what comes in by the uplinks.
    pub ingress: Ingress,
}

/// Who looks first at what comes in by the uplinks (`--ingress`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ingress {
    /// The TC program.
    #[default]
    Tc,
    /// The XDP program, and TC after it.
    Xdp,
}

/// How the uplink is found: the interface on the L2 segment that the nodes share.
#[derive(Clone, Debug)]
pub enum UplinkChoice {
    /// The interface that holds the node's own InternalIP, else the one of the default route.
    Auto,
    /// By name.
    Name(String),
    /// By name: the first by interface index that matches, one that is up before one that is not.
    /// Anchor the expression where the whole name is meant.
    Pattern(Regex),
    /// By where the kernel routes an address.
    Reach {
        /// The address.
        target: IpAddr,
        /// The interface that the kernel's route to it leaves by, as last asked; `None`: no route.
        ifindex: Option<u32>,
    },
}

/// Who keeps the kernel's routes to the peers' podCIDRs (`--routes`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RoutesMode {
    /// Somebody else, the CNI; they are only watched.
    #[default]
    Observe,
    /// This agent.
    Manage,
}
