//! A small cluster on one machine; see the [crate]'s drawing.
//!
//! ```no_run
//! use underpass_bench::{Backend, Lab};
//!
//! # fn main() -> anyhow::Result<()> {
//! let lab = Lab::builder()
//!     .nodes(3)
//!     .pods(2)
//!     .flannel_rules(true)
//!     .kube_proxy_rules(Backend::Iptables)
//!     .build()?;
//! let pod = lab.pod(1, 2);
//! println!("{}", pod.run(&["ip", "route"])?);
//! # Ok(())
//! # }
//! ```
//!
//! All of it goes when the [`Lab`] is dropped. Where its process is killed, the next lab that anybody
//! makes on this machine takes it down.

mod agent;
mod bpffs;
mod builder;
pub mod container;
mod describe;
mod family;
mod host;
mod http;
pub mod kubernetes;
pub mod names;
mod node;
mod nodes_file;
mod pod;
mod process;
mod registry;
pub mod rules;
mod segment;
mod sweep;
mod sysctls;
mod wire;

use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;

use anyhow::{Context, Result};

pub use agent::{AgentOptions, AgentProcess};
pub use builder::LabBuilder;
pub use container::Container;
pub use describe::{HostDescription, LabDescription};
pub use family::{Families, Family};
pub use host::Host;
pub use node::Node;
pub use nodes_file::{NodeEntry, NodesFile};
pub use pod::{Pod, PodPlan};
pub use process::Process;
pub use segment::{Segment, Uplink};
pub use sweep::{down, down_all};

use registry::Record;
use rules::Backend;
use wire::Wiring;

use crate::traffic::announce;

/// A lab that is up. Dropping it takes it down.
#[derive(Debug)]
pub struct Lab {
    switch: Host,
    outside: Option<Host>,
    nodes: Vec<Node>,
    backend: Backend,
    has_kube_proxy: bool,
    underpass: Option<PathBuf>,
    agents_started: AtomicUsize,
    wiring: Wiring,
    families: Families,
    record: Record,
}

impl Lab {
    /// Begins the order of a lab.
    pub fn builder() -> LabBuilder {
        LabBuilder::default()
    }

    /// Its name; its namespaces begin with it.
    pub fn name(&self) -> &str {
        self.record.name()
    }

    /// The switch between the nodes.
    pub fn switch(&self) -> &Host {
        &self.switch
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Node `node`, counted from 1 like its name.
    ///
    /// # Panics
    /// When the lab has no such node.
    pub fn node(&self, node: usize) -> &Node {
        let found = node.checked_sub(1).and_then(|index| self.nodes.get(index));
        found.unwrap_or_else(|| panic!("this lab has no node{node}"))
    }

    /// Pod `pod` of node `node`, both counted from 1 like its name.
    ///
    /// # Panics
    /// When the lab was built without such a pod.
    pub fn pod(&self, node: usize, pod: usize) -> &Pod {
        let pods = self.node(node).pods();
        let found = pod.checked_sub(1).and_then(|index| pods.get(index));
        found.unwrap_or_else(|| panic!("this lab has no node{node}-pod{pod}"))
    }

    /// The outside host.
    ///
    /// # Panics
    /// When the lab was built without it.
    pub fn outside(&self) -> &Host {
        self.outside.as_ref().expect("this lab has no outside host")
    }

    /// The address families of all hosts, but for nodes with a choice of their own.
    pub fn families(&self) -> Families {
        self.families
    }

    /// All hosts: the switch, the outside host, the nodes and the pods that the lab was built with.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        let pods = self.nodes.iter().flat_map(|node| node.pods());
        [&self.switch]
            .into_iter()
            .chain(&self.outside)
            .chain(self.nodes.iter().map(|node| &**node))
            .chain(pods.map(|pod| &**pod))
    }

    /// The directory for a node's pins. Its parent exists; the agent makes the directory itself.
    pub fn bpffs(&self, node: &Node) -> PathBuf {
        bpffs::dir(self.name()).join(node.name())
    }

    /// A file in the lab's own directory, which is removed with the lab.
    pub fn file(&self, name: &str) -> PathBuf {
        self.record.file(name)
    }

    /// Makes another pod on a running node; it announces its address, as CNI plugins see to. The lab
    /// takes it down in the end, but doesn't count it among the node's pods.
    ///
    /// # Errors
    /// When there is such a pod already, or a command fails.
    ///
    /// # Panics
    /// When the lab has no such node.
    pub fn add_pod(&self, plan: PodPlan) -> Result<Pod> {
        let node = self.node(plan.node);
        let pod = Pod::new(self.name(), plan.clone(), node.families());
        let (families, ipv6) = (pod.families(), pod.families().has(Family::V6));
        self.add_namespaces(&[(&pod, ipv6)])
            .and_then(|()| {
                let wires = self.wiring.pod_at_node(&plan, families, pod.namespace());
                node.ip(&wires)
            })
            .and_then(|()| pod.ip(&self.wiring.pod(&plan, families)))
            .and_then(|()| pod.wait_for_links(&[pod.interface()], ipv6))
            .and_then(|()| node.wait_for_links(&[pod.node_veth()], ipv6))
            .and_then(|()| {
                let mut addresses = pod.addresses().into_iter();
                addresses
                    .try_for_each(|address| announce(&pod, pod.interface(), address, pod.mac()))
            })
            .with_context(|| format!("cannot add {}", pod.name()))?;
        Ok(pod)
    }

    /// Removes a pod, as when it is deleted from the cluster: its processes, its veth, its namespace.
    ///
    /// # Errors
    /// When there is no such pod any more.
    pub fn remove_pod(&self, pod: &Pod) -> Result<()> {
        // The veth by name and first: with its namespace it would go a little later, unseen.
        self.node(pod.node())
            .ip(&format!("link del {}\n", pod.node_veth()))?;
        sweep::kill_inside(&[pod.namespace().to_owned()])?;
        sweep::remove_namespace(pod.namespace())?;
        self.record.forget_namespace(pod.namespace())
    }

    /// Lets the lab stay up after this process, until [`down`] takes it down.
    ///
    /// # Errors
    /// When that can't be put on record; it is taken down then.
    pub fn into_persistent(self) -> Result<()> {
        self.record.make_persistent()
    }
}
