//! Netfilter rules as they stand on a cluster's nodes: Flannel's, kube-proxy's, the portmap plugin's,
//! and a policy's, each for iptables and for nftables.
//!
//! The rules are written after what these programs make, in the same chains and with the same
//! marks, and kept to what a packet meets.

pub(crate) mod flannel;
mod host_port;
pub(crate) mod kube_proxy;
mod policy;
mod service;

use std::fmt;
use std::ops::Range;

use anyhow::{Result, ensure};

use super::{Family, Host, Lab, Node, Pod};

pub use host_port::HostPort;
pub use policy::Deny;
pub use service::Service;

/// Who holds the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// `iptables`, whichever it is on this machine.
    Iptables,
    /// `nft`.
    Nftables,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// What the rules of one family have of their own.
impl Family {
    /// The program of iptables.
    fn iptables(self) -> &'static str {
        match self {
            Self::V4 => "iptables",
            Self::V6 => "ip6tables",
        }
    }

    /// nftables' name of the family of tables, and of the header.
    fn nft(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }

    fn multicast(self) -> &'static str {
        match self {
            Self::V4 => "224.0.0.0/4",
            Self::V6 => "ff00::/8",
        }
    }
}

/// Loads rules of one family into a host in one transaction, beside those that are there.
pub(crate) fn load(host: &Host, backend: Backend, family: Family, rules: &str) -> Result<()> {
    match backend {
        Backend::Iptables => {
            let restore = format!("{}-restore", family.iptables());
            host.run_with_input(&[&restore, "--noflush", "--wait"], rules)?
        }
        // Its rules name their family.
        Backend::Nftables => host.run_with_input(&["nft", "-f", "-"], rules)?,
    };
    Ok(())
}

/// A rule that needs connection tracking and changes nothing, so that it is on.
pub(crate) fn track(node: &Node, backend: Backend) -> Result<()> {
    node.families().each().try_for_each(|family| {
        let rules = match backend {
            Backend::Iptables => "*filter\n\
                -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
                COMMIT\n"
                .to_owned(),
            Backend::Nftables => format!(
                "table {} conntrack {{\n\
                   chain forward {{\n\
                     type filter hook forward priority filter; policy accept;\n\
                     ct state related,established accept\n\
                   }}\n\
                 }}\n",
                family.nft()
            ),
        };
        load(node, backend, family, &rules)
    })
}

impl Lab {
    /// Adds a service on every node that speaks its family, as kube-proxy does.
    ///
    /// # Errors
    /// When the lab was built without kube-proxy's rules, or the rules are refused.
    pub fn add_service(&self, service: &Service) -> Result<()> {
        self.add_services(std::slice::from_ref(service))
    }

    /// Adds services that nobody uses, of these numbers, on every node, so that the tables get long. In iptables, what
    /// is added last stands first.
    ///
    /// # Errors
    /// As [`add_service`](Self::add_service).
    pub fn add_dummy_services(&self, numbers: Range<u16>) -> Result<()> {
        self.families().each().try_for_each(|family| {
            let dummy = |number| Service::dummy(family, number);
            self.add_services(&numbers.clone().map(dummy).collect::<Vec<_>>())
        })
    }

    fn add_services(&self, services: &[Service]) -> Result<()> {
        ensure!(
            self.has_kube_proxy,
            "a service needs a lab built with LabBuilder::kube_proxy_rules"
        );
        for family in Family::BOTH {
            let of_family: Vec<_> = services
                .iter()
                .filter(|service| service.family() == family)
                .collect();
            if of_family.is_empty() {
                continue;
            }
            let nodes = self.nodes().iter();
            for node in nodes.filter(|node| node.families().has(family)) {
                let pods = node.pod_cidr_of(family);
                let rules = kube_proxy::services(self.backend, pods, &of_family)?;
                load(node, self.backend, family, &rules)?;
            }
        }
        Ok(())
    }

    /// Maps a port of a pod's node to the pod, as the portmap plugin does for a `hostPort`, in each
    /// family that the pod speaks.
    ///
    /// # Errors
    /// When the rules are refused.
    pub fn add_host_port(&self, pod: &Pod, host_port: &HostPort) -> Result<()> {
        let node = self.node(pod.node());
        pod.families().each().try_for_each(|family| {
            let rules = host_port.rules(self.backend, family, node, pod);
            load(node, self.backend, family, &rules)
        })
    }

    /// Makes a node drop what it forwards and `deny` names; in each family that the node speaks, unless
    /// `deny` names one by an address.
    ///
    /// # Errors
    /// When the rule is refused.
    pub fn deny(&self, node: &Node, deny: &Deny) -> Result<()> {
        deny.insert(node, self.backend)
    }

    /// Takes a [`deny`](Self::deny) back.
    ///
    /// # Errors
    /// When there is no such rule.
    pub fn undeny(&self, node: &Node, deny: &Deny) -> Result<()> {
        deny.remove(node, self.backend)
    }
}
