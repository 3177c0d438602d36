//! Services by the real kube-proxy: they work, their translated legs stay with the kernel, and what is direct
//! beside them is fast.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use underpass_bench::lab::kubernetes::{Assets, ControlPlane};
use underpass_bench::lab::{Family, Host, Pod, names};
use underpass_bench::traffic::{TcpClient, TcpEcho};
use underpass_bench::{Backend, Lab, wait_for};

use crate::cluster::Cluster;
use crate::common::{self, DEADLINE};
use crate::service_traffic::{
    PORT, Servers, by_a_node, by_its_own_service, closed_without_a_pod, converse,
    goes_fast_directly, seen_as_it_is, transfer, translated_and_direct,
};

/// Ports of the nodes that lead to the service of the far pod, of the near one, and to the far one where it is at
/// home.
const FAR_PORT: u16 = 30_080;
const NEAR_PORT: u16 = 30_081;
const LOCAL_PORT: u16 = 30_082;
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
    let order = common::lab().pods(2).outside().flannel_rules(true);
    let cluster = Cluster::start(order, &assets)?;
    let lab = &cluster.lab;
    cluster.create(&services(lab).to_string())?;
    let nodes = lab.nodes().iter();
    let proxies: Result<Vec<_>> = nodes
        .map(|node| cluster.start_kube_proxy(node, backend))
        .collect();
    let _proxies = proxies?;
    let _agents = cluster.start_agents(&cluster.agents_access()?)?;
    wait_for_services(lab)?;
    for node in lab.nodes() {
        let table = node.run(&["nft", "list", "table", "ip", "kube-proxy"]);
        assert_eq!(
            table.is_ok(),
            backend == Backend::Nftables,
            "{}",
            node.name()
        );
    }

    cluster_ip(lab).context("ClusterIP")?;
    node_port(lab).context("NodePort")?;
    node_port_local(lab).context("NodePort, externalTrafficPolicy: Local")?;
    session_affinity(lab).context("sessionAffinity: ClientIP")?;
    let (pod, vip) = (lab.pod(1, 1), vip(OWN));
    by_its_own_service(lab, pod, vip).context("hairpin")?;
    goes_fast_directly(lab, lab.pod(1, 2), lab.pod(2, 1)).context("beside them")
}

fn cluster_ip(lab: &Lab) -> Result<()> {
    let (pod, near, far) = (lab.pod(1, 1), lab.pod(1, 2), lab.pod(2, 1));
    translated_and_direct(lab, pod, far, vip(FAR))?;
    transfer(pod, far, vip(FAR))?;
    // To a pod beside the client, and from the nodes themselves.
    let _servers = Servers::start(near)?;
    let mut clients = [pod as &Host, lab.node(1), lab.node(2)].into_iter();
    clients.try_for_each(|client| converse(client, vip(NEAR)))
}

fn node_port(lab: &Lab) -> Result<()> {
    for (pod, port) in [(lab.pod(2, 1), FAR_PORT), (lab.pod(1, 2), NEAR_PORT)] {
        let front = SocketAddr::new(lab.node(1).address(), port);
        by_a_node(lab, lab.node(1), front, pod)?;
    }
    Ok(())
}

fn node_port_local(lab: &Lab) -> Result<()> {
    let far = lab.pod(2, 1);
    let front = |node: usize| SocketAddr::new(lab.node(node).address(), LOCAL_PORT);
    by_a_node(lab, lab.node(2), front(2), far)?;
    seen_as_it_is(lab, front(2), far)?;
    closed_without_a_pod(lab, front(1), far)
}

/// One client always meets the same pod; without affinity it meets several.
fn session_affinity(lab: &Lab) -> Result<()> {
    let met = |service| -> Result<usize> {
        let servers: Vec<_> = several(lab)
            .into_iter()
            .map(|pod| TcpEcho::start(pod, PORT))
            .collect::<Result<_>>()?;
        for _ in 0..CONNECTIONS {
            let mut client = TcpClient::connect(lab.pod(1, 1), vip(service), DEADLINE)?;
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

/// The numbers of the services' addresses.
const FAR: u16 = 10;
const NEAR: u16 = 11;
const LOCAL: u16 = 12;
const STICKY: u16 = 13;
const SPREAD: u16 = 14;
const OWN: u16 = 15;

fn vip(service: u16) -> SocketAddr {
    SocketAddr::new(names::service_address(Family::V4, service), 80)
}

/// The pods behind the services that have several.
fn several(lab: &Lab) -> [&Pod; 3] {
    [lab.pod(1, 2), lab.pod(2, 1), lab.pod(2, 2)]
}

/// The services, each with what its EndpointSlice says: a List.
fn services(lab: &Lab) -> Value {
    let (own, near, far) = (lab.pod(1, 1), lab.pod(1, 2), lab.pod(2, 1));
    let all = [
        (
            "far",
            FAR,
            json!({"type": "NodePort"}),
            Some(FAR_PORT),
            vec![far],
        ),
        (
            "near",
            NEAR,
            json!({"type": "NodePort"}),
            Some(NEAR_PORT),
            vec![near],
        ),
        (
            "local",
            LOCAL,
            json!({"type": "NodePort", "externalTrafficPolicy": "Local"}),
            Some(LOCAL_PORT),
            vec![far],
        ),
        (
            "sticky",
            STICKY,
            json!({"sessionAffinity": "ClientIP"}),
            None,
            several(lab).into(),
        ),
        ("spread", SPREAD, json!({}), None, several(lab).into()),
        ("own", OWN, json!({}), None, vec![own]),
    ];
    let items = all
        .into_iter()
        .flat_map(|(name, number, spec, node_port, pods)| {
            let service = service(name, vip(number).ip(), spec, node_port);
            [service, endpoints(lab, name, &pods)]
        });
    let items: Vec<_> = items.collect();
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

/// A service without a selector, for TCP and UDP; `spec` says what is special about it.
fn service(name: &str, address: IpAddr, mut spec: Value, node_port: Option<u16>) -> Value {
    let port = |protocol: &str| {
        let mut port = json!({
            "name": protocol.to_lowercase(), "protocol": protocol, "port": 80, "targetPort": PORT,
        });
        if let Some(node_port) = node_port {
            port["nodePort"] = node_port.into();
        }
        port
    };
    spec["clusterIP"] = address.to_string().into();
    spec["ports"] = [port("TCP"), port("UDP")].into();
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "default"}, "spec": spec,
    })
}

/// What the controllers would write of the pods behind a service.
fn endpoints(lab: &Lab, service: &str, pods: &[&Pod]) -> Value {
    let endpoint = |pod: &&Pod| {
        json!({
            "addresses": [pod.address()], "nodeName": lab.node(pod.node()).name(),
            "conditions": {"ready": true, "serving": true, "terminating": false},
        })
    };
    let endpoints: Vec<_> = pods.iter().map(endpoint).collect();
    let port = |protocol: &str| json!({"name": protocol.to_lowercase(), "protocol": protocol, "port": PORT});
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "name": service, "namespace": "default",
            "labels": {"kubernetes.io/service-name": service},
        },
        "endpoints": endpoints, "ports": [port("TCP"), port("UDP")],
    })
}

/// Waits until each node leads to each service: kube-proxy writes all that it knows of at one blow.
fn wait_for_services(lab: &Lab) -> Result<()> {
    let pods: Vec<_> = lab.nodes().iter().flat_map(|node| node.pods()).collect();
    let servers: Result<Vec<_>> = pods.iter().map(|pod| TcpEcho::start(pod, PORT)).collect();
    let _servers = servers?;
    for node in lab.nodes() {
        for service in [FAR, NEAR, LOCAL, STICKY, SPREAD, OWN] {
            let what = format!("{} leads to {}", node.name(), vip(service));
            wait_for(DEADLINE, &what, || {
                TcpClient::connect(node, vip(service), common::NEVER)?.close()
            })?;
        }
    }
    Ok(())
}
