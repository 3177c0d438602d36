//! Services by the real kube-proxy: they work, their translated legs stay with the kernel, and what is direct
//! beside them is fast.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use underpass_bench::lab::kubernetes::{Assets, ControlPlane};
use underpass_bench::lab::{Families, Family, Host};
use underpass_bench::traffic::{TcpClient, TcpEcho};
use underpass_bench::{Backend, Lab, wait_for};

use crate::cluster::Cluster;
use crate::common::{self, DEADLINE};
use crate::service_objects::{ALL, FAR, Kind, LOCAL, NEAR, OWN, SPREAD, STICKY, services, several};
use crate::service_traffic::{
    PORT, Servers, by_a_node, by_its_own_service, closed_without_a_pod, converse,
    goes_fast_directly, seen_as_it_is, transfer, translated_and_direct,
};

/// Connections by a service with three pods behind it. That all of them meet one pod by chance happens once in a
/// thousand million times.
const CONNECTIONS: usize = 20;

#[test]
fn services_by_kube_proxy_in_iptables_mode() -> Result<()> {
    services_work("services_by_kube_proxy_in_iptables_mode", Backend::Iptables)
}

#[test]
fn services_by_kube_proxy_in_nftables_mode() -> Result<()> {
    services_work("services_by_kube_proxy_in_nftables_mode", Backend::Nftables)
}

fn services_work(test: &str, backend: Backend) -> Result<()> {
    let programs = [&ControlPlane::PROGRAMS[..], &["kube-proxy"]].concat();
    let Some(assets) = Assets::or_skip(test, &programs) else {
        return Ok(());
    };
    let order = common::lab().families(Families::Dual).pods(2);
    let order = order.outside().flannel_rules(true);
    let cluster = Cluster::start(order, &assets)?;
    let lab = &cluster.lab;
    cluster.create(&services(lab).to_string())?;
    let nodes = lab.nodes().iter();
    let proxies: Result<Vec<_>> = nodes
        .map(|node| cluster.start_kube_proxy(node, backend))
        .collect();
    let _proxies = proxies?;
    wait_for_services(lab)?;
    // They, too, use a Service: the API server's.
    let _agents = cluster.start_agents(&cluster.agents_access()?.by_service())?;
    for node in lab.nodes() {
        let table = node.run(&["nft", "list", "table", "ip", "kube-proxy"]);
        assert_eq!(
            table.is_ok(),
            backend == Backend::Nftables,
            "{}",
            node.name()
        );
    }

    Family::BOTH.into_iter().try_for_each(|family| {
        of_all_kinds(&Scene { lab, family }).with_context(|| family.to_string())
    })
}

fn of_all_kinds(scene: &Scene<'_>) -> Result<()> {
    let Scene { lab, family } = *scene;
    cluster_ip(scene).context("ClusterIP")?;
    node_port(scene).context("NodePort")?;
    node_port_local(scene).context("NodePort, externalTrafficPolicy: Local")?;
    session_affinity(scene).context("sessionAffinity: ClientIP")?;
    by_its_own_service(lab, lab.pod(1, 1), OWN.vip(family)).context("hairpin")?;
    goes_fast_directly(lab, family, lab.pod(1, 2), lab.pod(2, 1)).context("beside them")
}

/// A lab with services, and the family in which they are used.
#[derive(Clone, Copy)]
struct Scene<'a> {
    lab: &'a Lab,
    family: Family,
}

impl Scene<'_> {
    /// A port of a node.
    fn front(&self, node: usize, service: Kind) -> Result<SocketAddr> {
        let port = service.node_port(self.family);
        let port = port.context("a service without a port of the nodes")?;
        let node = self.lab.node(node);
        Ok(SocketAddr::new(node.address_of(self.family), port))
    }
}

fn cluster_ip(&Scene { lab, family }: &Scene<'_>) -> Result<()> {
    let (pod, near, far) = (lab.pod(1, 1), lab.pod(1, 2), lab.pod(2, 1));
    translated_and_direct(lab, pod, far, FAR.vip(family))?;
    transfer(pod, far, FAR.vip(family))?;
    // To a pod beside the client, and from the nodes themselves.
    let _servers = Servers::start(near)?;
    let mut clients = [pod as &Host, lab.node(1), lab.node(2)].into_iter();
    clients.try_for_each(|client| converse(client, NEAR.vip(family)))
}

fn node_port(scene: &Scene<'_>) -> Result<()> {
    let lab = scene.lab;
    for (pod, service) in [(lab.pod(2, 1), FAR), (lab.pod(1, 2), NEAR)] {
        by_a_node(lab, lab.node(1), scene.front(1, service)?, pod)?;
    }
    Ok(())
}

fn node_port_local(scene: &Scene<'_>) -> Result<()> {
    let (lab, far) = (scene.lab, scene.lab.pod(2, 1));
    let at_home = scene.front(2, LOCAL)?;
    by_a_node(lab, lab.node(2), at_home, far)?;
    seen_as_it_is(lab, at_home, far)?;
    closed_without_a_pod(lab, scene.front(1, LOCAL)?, far)
}

/// One client always meets the same pod; without affinity it meets several.
fn session_affinity(&Scene { lab, family }: &Scene<'_>) -> Result<()> {
    let met = |service: Kind| -> Result<usize> {
        let servers: Vec<_> = several(lab)
            .into_iter()
            .map(|pod| TcpEcho::start(pod, PORT))
            .collect::<Result<_>>()?;
        for _ in 0..CONNECTIONS {
            let mut client = TcpClient::connect(lab.pod(1, 1), service.vip(family), DEADLINE)?;
            client.echo(b"is it you again?")?;
            client.close()?;
        }
        let met = servers.iter().filter(|server| !server.peers().is_empty());
        Ok(met.count())
    };
    let (sticky, spread) = (met(STICKY)?, met(SPREAD)?);
    ensure!(sticky == 1, "{sticky} pods met in spite of affinity");
    ensure!(spread > 1, "{spread} pods met without affinity");
    Ok(())
}

/// Waits until each node leads to each service: kube-proxy writes all of a family at one blow.
fn wait_for_services(lab: &Lab) -> Result<()> {
    let pods: Vec<_> = lab.nodes().iter().flat_map(|node| node.pods()).collect();
    let servers: Result<Vec<_>> = pods.iter().map(|pod| TcpEcho::start(pod, PORT)).collect();
    let _servers = servers?;
    for node in lab.nodes() {
        for vip in ALL
            .iter()
            .flat_map(|service| Family::BOTH.map(|family| service.vip(family)))
        {
            wait_for(DEADLINE, &format!("{} leads to {vip}", node.name()), || {
                TcpClient::connect(node, vip, common::NEVER)?.close()
            })?;
        }
    }
    Ok(())
}
