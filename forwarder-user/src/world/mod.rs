//! What the agent knows: the cluster's nodes and the kernel's network state.
//!
//! Sources fill these plain types; [`plan`](crate::plan) reads them and nothing else, so that it can
//! be tested without a kernel or a cluster.

pub mod cluster;
pub mod kernel;
pub mod kubernetes;
pub mod netlink;
pub mod nodes_file;
pub mod source;

pub use cluster::Node;
pub use kernel::{Kernel, KernelRoute, Link, LinkKind, Neighbour, RouteKind, VethPeer};

/// Both sources, as last read.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// The cluster's nodes; `None` until they have been read once.
    pub nodes: Option<Vec<Node>>,
    /// Links, addresses, routes and neighbours of this network namespace.
    pub kernel: Kernel,
}
