//! The cluster's nodes in the form of `kubectl get nodes -o yaml`, for the agent's `--nodes-file`.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use ipnet::IpNet;
use serde::Serialize;

use super::{Lab, Node, registry};

/// A list of nodes, to be changed and then written by [`Lab::write_nodes_file`].
#[derive(Clone, Debug, Default)]
pub struct NodesFile {
    nodes: Vec<NodeEntry>,
}

/// A Node object, reduced to what Underpass reads. Texts, so that a test can claim what it likes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEntry {
    /// `metadata.name`.
    pub name: String,
    /// `spec.podCIDRs`, IPv4 first; the first one also becomes `spec.podCIDR`.
    pub pod_cidrs: Vec<String>,
    /// `status.addresses` of type `InternalIP`.
    pub internal_ips: Vec<String>,
}

impl NodeEntry {
    /// A node with one podCIDR and one address.
    pub fn new(name: &str, pod_cidr: &str, internal_ip: &str) -> Self {
        Self {
            name: name.to_owned(),
            pod_cidrs: vec![pod_cidr.to_owned()],
            internal_ips: vec![internal_ip.to_owned()],
        }
    }

    /// A node with these podCIDRs and addresses.
    fn of(name: &str, pod_cidrs: &[IpNet], internal_ips: &[IpAddr]) -> Self {
        Self {
            name: name.to_owned(),
            pod_cidrs: pod_cidrs.iter().map(IpNet::to_string).collect(),
            internal_ips: internal_ips.iter().map(IpAddr::to_string).collect(),
        }
    }
}

impl NodesFile {
    /// These nodes as they are.
    pub fn of(nodes: &[Node]) -> Self {
        let entry = |node: &Node| NodeEntry::of(node.name(), &node.pod_cidrs(), &node.addresses());
        Self {
            nodes: nodes.iter().map(entry).collect(),
        }
    }

    /// With one more node.
    #[must_use]
    pub fn with(mut self, node: NodeEntry) -> Self {
        self.nodes.push(node);
        self
    }

    /// Without the node of this name.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.nodes.retain(|node| node.name != name);
        self
    }

    /// With the node of this name changed.
    ///
    /// # Panics
    /// When there is no such node.
    #[must_use]
    pub fn changed(mut self, name: &str, change: impl FnOnce(&mut NodeEntry)) -> Self {
        let node = self.nodes.iter_mut().find(|node| node.name == name);
        change(node.unwrap_or_else(|| panic!("no node {name} in this list")));
        self
    }

    /// The nodes.
    pub fn nodes(&self) -> &[NodeEntry] {
        &self.nodes
    }

    /// As YAML.
    ///
    /// # Errors
    /// When it can't be put into that form.
    pub fn to_yaml(&self) -> Result<String> {
        let list = List {
            api_version: "v1",
            kind: "List",
            items: self.nodes.iter().map(Item::from).collect(),
        };
        serde_saphyr::to_string(&list).context("cannot write the nodes as YAML")
    }
}

impl Lab {
    /// The nodes file: all nodes of the lab, until a test writes something else.
    pub fn nodes_file(&self) -> PathBuf {
        self.file("nodes.yaml")
    }

    /// All nodes of the lab as they are, to be changed and written.
    pub fn nodes_list(&self) -> NodesFile {
        NodesFile::of(&self.nodes)
    }

    /// Replaces the nodes file at one blow.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_nodes_file(&self, nodes: &NodesFile) -> Result<()> {
        self.write_nodes_text(&nodes.to_yaml()?)
    }

    /// Replaces the nodes file at one blow by any text, however broken.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_nodes_text(&self, text: &str) -> Result<()> {
        registry::write_whole(&self.nodes_file(), text)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List<'a> {
    api_version: &'static str,
    kind: &'static str,
    items: Vec<Item<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata<'a>,
    spec: Spec<'a>,
    status: Status<'a>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct Spec<'a> {
    #[serde(rename = "podCIDR", skip_serializing_if = "Option::is_none")]
    pod_cidr: Option<&'a str>,
    #[serde(rename = "podCIDRs", skip_serializing_if = "<[String]>::is_empty")]
    pod_cidrs: &'a [String],
}

#[derive(Serialize)]
struct Status<'a> {
    addresses: Vec<NodeAddress<'a>>,
}

#[derive(Serialize)]
struct NodeAddress<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    address: &'a str,
}

impl<'a> From<&'a NodeEntry> for Item<'a> {
    fn from(node: &'a NodeEntry) -> Self {
        let internal = node.internal_ips.iter().map(|address| NodeAddress {
            kind: "InternalIP",
            address,
        });
        let hostname = NodeAddress {
            kind: "Hostname",
            address: &node.name,
        };
        Self {
            api_version: "v1",
            kind: "Node",
            metadata: Metadata { name: &node.name },
            spec: Spec {
                pod_cidr: node.pod_cidrs.first().map(String::as_str),
                pod_cidrs: &node.pod_cidrs,
            },
            status: Status {
                addresses: internal.chain([hostname]).collect(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_reads_like_kubectls() {
        let nodes = NodesFile::default()
            .with(NodeEntry::new("node1", "10.244.1.0/24", "192.168.77.1"))
            .with(NodeEntry::new("node2", "10.244.2.0/24", "192.168.77.2"))
            .without("node2")
            .changed("node1", |node| node.pod_cidrs.push("fd00::/64".into()));
        let yaml = nodes.to_yaml().unwrap();
        let list: serde_json::Value = serde_saphyr::from_str(&yaml).unwrap();
        let expected = serde_json::json!({
            "apiVersion": "v1",
            "kind": "List",
            "items": [{
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": "node1"},
                "spec": {
                    "podCIDR": "10.244.1.0/24",
                    "podCIDRs": ["10.244.1.0/24", "fd00::/64"],
                },
                "status": {"addresses": [
                    {"type": "InternalIP", "address": "192.168.77.1"},
                    {"type": "Hostname", "address": "node1"},
                ]},
            }],
        });
        assert_eq!(list, expected);
    }
}
