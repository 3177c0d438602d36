//! kube-proxy on a node.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::ControlPlane;
use super::server::Server;
use crate::lab::{Node, http, names, rules::Backend};

/// Where it tells its health, in the node's namespace.
const HEALTH: &str = "127.0.0.1:10256";
const LIMIT: Duration = Duration::from_secs(5);

/// A kube-proxy that runs on a node. Dropping it kills it; its rules stay.
pub struct KubeProxy(#[expect(dead_code, reason = "kept for its end")] Server);

impl ControlPlane {
    /// Starts kube-proxy on a node, with rules in this backend, and waits until it has written them once.
    ///
    /// # Errors
    /// When it isn't healthy after a while; the message holds the end of its log.
    pub fn start_kube_proxy(&self, node: &Node, backend: Backend) -> Result<KubeProxy> {
        let name = format!("kube-proxy-{}", node.name());
        let cidrs: Vec<_> = node.families().each().map(names::cluster_cidr).collect();
        let cidrs: Vec<_> = cidrs.iter().map(ToString::to_string).collect();
        let mut command = Command::new(self.assets.program("kube-proxy")?);
        let kubeconfig = self.kubeconfig("system:kube-proxy", &[])?;
        let options = [
            ("kubeconfig", kubeconfig.display().to_string()),
            ("hostname-override", node.name().to_owned()),
            ("proxy-mode", mode(backend).to_owned()),
            ("cluster-cidr", cidrs.join(",")),
            ("healthz-bind-address", HEALTH.to_owned()),
            ("metrics-bind-address", "127.0.0.1:10249".to_owned()),
            // Sysctls of the machine: left as they are.
            ("conntrack-max-per-core", "0".to_owned()),
        ];
        command.args(options.map(|(name, value)| format!("--{name}={value}")));
        let mut server = Server::start(node, command, &self.log(&name))?;
        let address = HEALTH.parse().context("kube-proxy's address")?;
        server.wait_for("kube-proxy is healthy", || {
            let (status, body) = http::get(node, address, "/healthz", LIMIT)?;
            ensure!(status == 200, "it answers {status}: {body}");
            Ok(())
        })?;
        Ok(KubeProxy(server))
    }
}

fn mode(backend: Backend) -> &'static str {
    match backend {
        Backend::Iptables => "iptables",
        Backend::Nftables => "nftables",
    }
}
