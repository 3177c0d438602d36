//! The two clusters: twins, but that Underpass comes to one of them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use super::stage::{Held, held};
use crate::Backend;
use crate::lab::rules::{Protocol, Service};
use crate::lab::{Lab, Pod};

/// Nodes of each cluster.
pub(super) const NODES: usize = 3;
/// Pods of each node.
pub(super) const PODS: usize = 2;
/// The ClusterIP, in the range of Kubernetes' own.
pub(super) const SERVICE: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)), 80);
/// The port of the pods behind it.
pub(super) const SERVICE_PORT: u16 = 8080;

/// The two labs. Dropping them takes them down.
#[derive(Debug)]
pub(super) struct Clusters {
    /// Keeps plain host-gw routes.
    pub routes: Lab,
    /// Gets agents.
    pub underpass: Lab,
}

impl Clusters {
    /// Raises both.
    pub fn raise(underpass: &Path) -> Result<Held<Self>> {
        let clusters = Self {
            routes: raise("routes", underpass)?,
            underpass: raise("underpass", underpass)?,
        };
        let detail = format!(
            "each with a bridge cni0, host-gw routes, Flannel's and kube-proxy's iptables rules, \
             conntrack and a ClusterIP; `ip netns` lists them as {}-* and {}-*",
            clusters.routes.name(),
            clusters.underpass.name()
        );
        Ok(Held {
            value: clusters,
            detail,
        })
    }

    /// The pods behind the ClusterIP, neither of them on node 1.
    pub fn service_pods(lab: &Lab) -> [&Pod; 2] {
        [lab.pod(2, 1), lab.pod(3, 1)]
    }

    /// Takes both down and looks whether anything is left.
    pub fn take_down(self) -> Result<Held<()>> {
        let labs = [&self.routes, &self.underpass];
        let traces: Vec<PathBuf> = labs.into_iter().flat_map(traces).collect();
        let namespaces = labs.map(|lab| lab.hosts().count()).iter().sum::<usize>();
        drop(self);
        let left: Vec<_> = traces.iter().filter(|path| path.exists()).collect();
        ensure!(
            left.is_empty(),
            "still there: {left:?}; `cargo xtask lab down --all` tries again"
        );
        Ok(held(format!(
            "{namespaces} namespaces, their pins and their files are gone"
        )))
    }
}

fn raise(kind: &str, underpass: &Path) -> Result<Lab> {
    let lab = Lab::builder()
        .name(&format!("{kind}{}", std::process::id()))
        .nodes(NODES)
        .pods(PODS)
        .flannel_rules(true)
        .kube_proxy_rules(Backend::Iptables)
        .underpass(underpass)
        .build()?;
    let service = Service::new("demo", Protocol::Tcp, SERVICE);
    let service = Clusters::service_pods(&lab)
        .into_iter()
        .fold(service, |service, pod| {
            service.backend(pod.address(), SERVICE_PORT)
        });
    lab.add_service(&service)?;
    Ok(lab)
}

/// All that a lab makes outside of itself.
fn traces(lab: &Lab) -> Vec<PathBuf> {
    let mut traces: Vec<_> = lab.hosts().map(|host| host.netns_path()).collect();
    traces.extend(lab.bpffs(lab.node(1)).parent().map(Path::to_owned));
    traces.extend(lab.nodes_file().parent().map(Path::to_owned));
    traces
}
