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

use anyhow::{Result, ensure};

use super::{Host, Lab, Node, Pod};

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

/// Loads rules into a host in one transaction, beside those that are there.
pub(crate) fn load(host: &Host, backend: Backend, rules: &str) -> Result<()> {
    match backend {
        Backend::Iptables => {
            host.run_with_input(&["iptables-restore", "--noflush", "--wait"], rules)?
        }
        Backend::Nftables => host.run_with_input(&["nft", "-f", "-"], rules)?,
    };
    Ok(())
}

/// A rule that needs connection tracking and changes nothing, so that it is on.
pub(crate) fn track(host: &Host, backend: Backend) -> Result<()> {
    let rules = match backend {
        Backend::Iptables => {
            "*filter\n\
             -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
             COMMIT\n"
        }
        Backend::Nftables => {
            "table ip conntrack {\n\
               chain forward {\n\
                 type filter hook forward priority filter; policy accept;\n\
                 ct state related,established accept\n\
               }\n\
             }\n"
        }
    };
    load(host, backend, rules)
}

impl Lab {
    /// Adds a service on every node, as kube-proxy does.
    ///
    /// # Errors
    /// When the lab was built without kube-proxy's rules, or the rules are refused.
    pub fn add_service(&self, service: &Service) -> Result<()> {
        self.add_services(std::slice::from_ref(service))
    }

    /// Adds this many services that nobody uses on every node, so that the tables get long.
    ///
    /// # Errors
    /// As [`add_service`](Self::add_service).
    pub fn add_dummy_services(&self, count: u16) -> Result<()> {
        let services: Vec<_> = (0..count).map(Service::dummy).collect();
        self.add_services(&services)
    }

    fn add_services(&self, services: &[Service]) -> Result<()> {
        ensure!(
            self.has_kube_proxy,
            "a service needs a lab built with LabBuilder::kube_proxy_rules"
        );
        let rules = kube_proxy::services(self.backend, services)?;
        self.nodes()
            .iter()
            .try_for_each(|node| load(node, self.backend, &rules))
    }

    /// Maps a port of a pod's node to the pod, as the portmap plugin does for a `hostPort`.
    ///
    /// # Errors
    /// When the rules are refused.
    pub fn add_host_port(&self, pod: &Pod, host_port: &HostPort) -> Result<()> {
        let node = self.node(pod.node());
        load(
            node,
            self.backend,
            &host_port.rules(self.backend, node, pod),
        )
    }

    /// Makes a node drop what it forwards and `deny` names.
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
