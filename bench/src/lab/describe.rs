//! A lab in a form that can be written down, shown, and read by another process.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::host::Host;
use super::{Lab, bpffs, names, registry};

/// A lab, as `lab.json` holds it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LabDescription {
    /// Its name.
    pub name: String,
    /// Its nodes as a Kubernetes List, for `underpass agent --nodes-file`.
    pub nodes_file: PathBuf,
    /// Where its agents' pins belong, one directory per node.
    pub bpffs: PathBuf,
    /// Its hosts: switch, outside, nodes, pods.
    pub hosts: Vec<HostDescription>,
}

/// A host of a lab.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostDescription {
    /// Its name in the lab.
    pub name: String,
    /// Its namespace, as `ip netns` shows it.
    pub namespace: String,
    /// Its addresses, IPv4 first on each segment; the switch has none.
    pub addresses: Vec<IpAddr>,
    /// Its podCIDRs, IPv4 first, where it is a node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pod_cidrs: Vec<String>,
}

impl LabDescription {
    /// Reads the description of a lab that is up.
    ///
    /// # Errors
    /// When there is no such lab, or it isn't up yet.
    pub fn read(lab: &str) -> Result<Self> {
        names::check_lab_name(lab)?;
        let path = registry::dir(lab).join("lab.json");
        let text = fs::read_to_string(&path)
            .with_context(|| format!("there is no lab called {lab}: no {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is broken", path.display()))
    }

    /// All labs that are up, whoever made them.
    ///
    /// # Errors
    /// When the records can't be read.
    pub fn all() -> Result<Vec<Self>> {
        let labs = registry::labs()?;
        // One that is being made or taken down has no description.
        Ok(labs.iter().filter_map(|lab| Self::read(lab).ok()).collect())
    }

    /// The host called `name`.
    ///
    /// # Errors
    /// When there is none; the message names those there are.
    pub fn host(&self, name: &str) -> Result<Host> {
        let found = self.hosts.iter().find(|host| host.name == name);
        found
            .map(|host| Host::new(&self.name, &host.name))
            .with_context(|| {
                let names: Vec<_> = self.hosts.iter().map(|host| host.name.as_str()).collect();
                format!(
                    "lab {} has no host {name}, but {}",
                    self.name,
                    names.join(", ")
                )
            })
    }
}

impl Lab {
    /// What this lab consists of.
    pub fn describe(&self) -> LabDescription {
        let describe = |host: &Host, addresses: Vec<IpAddr>| HostDescription {
            name: host.name().to_owned(),
            namespace: host.namespace().to_owned(),
            addresses,
            pod_cidrs: Vec::new(),
        };
        let mut hosts = vec![describe(&self.switch, Vec::new())];
        if let Some(outside) = &self.outside {
            let each = self.families.each();
            hosts.push(describe(
                outside,
                each.map(names::outside_address).collect(),
            ));
        }
        for node in &self.nodes {
            let on = |segment| {
                let each = node.families().each();
                each.map(move |family| node.address_on(segment, family))
            };
            let addresses = node.uplinks().flat_map(|uplink| on(uplink.segment()));
            hosts.push(HostDescription {
                pod_cidrs: node.pod_cidrs().iter().map(ToString::to_string).collect(),
                ..describe(node, addresses.collect())
            });
        }
        for pod in self.nodes.iter().flat_map(|node| node.pods()) {
            hosts.push(describe(pod, pod.addresses()));
        }
        LabDescription {
            name: self.name().to_owned(),
            nodes_file: self.nodes_file(),
            bpffs: bpffs::dir(self.name()),
            hosts,
        }
    }
}
