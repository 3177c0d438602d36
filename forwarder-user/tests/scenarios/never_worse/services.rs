//! Services and host ports, by kube-proxy's and portmap's rules: translated traffic stays with the
//! kernel, and the direct traffic beside it is fast.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use underpass_bench::lab::rules::{HostPort, Protocol, Service};
use underpass_bench::lab::{AgentOptions, Family, Host, LabBuilder, Pod, names};
use underpass_bench::{Backend, Lab, root_or_skip};

use crate::common::{self, start_agents, with_both_and_families};
use crate::service_traffic::{
    PORT, Servers, by_a_node, by_its_own_service, closed_without_a_pod, converse,
    goes_fast_directly, seen_as_it_is, transfer, translated_and_direct,
};

const NODE_PORT: u16 = 30_080;
const NEAR_NODE_PORT: u16 = 30_081;
const HOST_PORT: u16 = 8000;
const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

#[test]
fn clusterip() -> Result<()> {
    if !root_or_skip("clusterip") {
        return Ok(());
    }
    with_both_and_families(|backend, family| {
        on_cluster(cluster(backend, family), |lab| {
            let (pod, near, far) = (lab.pod(1, 1), lab.pod(1, 2), lab.pod(2, 1));
            let (vip, near_vip) = (vip(family), near_vip(family));
            for protocol in PROTOCOLS {
                lab.add_service(&service("far", protocol, vip, far))?;
                lab.add_service(&service("near", protocol, near_vip, near))?;
            }
            translated_and_direct(lab, pod, far, vip)?;
            transfer(pod, far, vip)?;
            // To a pod beside the client, and from the nodes themselves.
            let _servers = Servers::start(near)?;
            for client in [pod as &Host, lab.node(1), lab.node(2)] {
                converse(client, near_vip)?;
            }
            Ok(())
        })
    })
}

#[test]
fn nodeport() -> Result<()> {
    if !root_or_skip("nodeport") {
        return Ok(());
    }
    with_both_and_families(|backend, family| {
        on_cluster(cluster(backend, family), |lab| {
            let (near, far) = (lab.pod(1, 1), lab.pod(2, 1));
            for protocol in PROTOCOLS {
                let of_far = service("far", protocol, vip(family), far);
                lab.add_service(&of_far.node_port(NODE_PORT))?;
                let near = service("near", protocol, near_vip(family), near);
                lab.add_service(&near.node_port(NEAR_NODE_PORT))?;
            }
            for (pod, port) in [(far, NODE_PORT), (near, NEAR_NODE_PORT)] {
                // Masqueraded, so the answers come back to the node that has to translate them.
                let front = SocketAddr::new(lab.node(1).address(), port);
                by_a_node(lab, lab.node(1), front, pod)?;
            }
            goes_fast_directly(lab, family, lab.pod(1, 2), far)
        })
    })
}

/// `externalTrafficPolicy: Local`: a node takes from outside only what is for its own pods, which see
/// from whom it comes.
#[test]
fn nodeport_local() -> Result<()> {
    if !root_or_skip("nodeport_local") {
        return Ok(());
    }
    with_both_and_families(|backend, family| {
        on_cluster(cluster(backend, family), |lab| {
            let far = lab.pod(2, 1);
            for protocol in PROTOCOLS {
                let service = service("far", protocol, vip(family), far);
                lab.add_service(&service.node_port(NODE_PORT).local())?;
            }
            let front = |node: usize| SocketAddr::new(lab.node(node).address(), NODE_PORT);
            by_a_node(lab, lab.node(2), front(2), far)?;
            seen_as_it_is(lab, front(2), far)?;

            closed_without_a_pod(lab, front(1), far)?;
            goes_fast_directly(lab, family, lab.pod(1, 1), far)
        })
    })
}

#[test]
fn hostport() -> Result<()> {
    if !root_or_skip("hostport") {
        return Ok(());
    }
    with_both_and_families(|backend, family| {
        on_cluster(cluster(backend, family), pod_has_host_port)?;
        // Where nobody masquerades node 1 forwards, as it is, what node 2 translates.
        let bare = cluster(backend, family).flannel_rules(false);
        on_cluster(bare, pod_has_host_port).context("without masquerading")
    })
}

fn pod_has_host_port(lab: &Lab) -> Result<()> {
    let (pod, far) = (lab.pod(1, 1), lab.pod(2, 1));
    for protocol in PROTOCOLS {
        let host_port = HostPort {
            protocol,
            host_port: HOST_PORT,
            pod_port: PORT,
        };
        lab.add_host_port(far, &host_port)?;
    }
    let front = SocketAddr::new(lab.node(2).address(), HOST_PORT);
    by_a_node(lab, lab.node(2), front, far)?;
    goes_fast_directly(lab, lab.families().first(), pod, far)
}

#[test]
fn hairpin() -> Result<()> {
    if !root_or_skip("hairpin") {
        return Ok(());
    }
    with_both_and_families(|backend, family| {
        on_cluster(cluster(backend, family), |lab| {
            let (pod, vip) = (lab.pod(1, 1), vip(family));
            for protocol in PROTOCOLS {
                lab.add_service(&service("own", protocol, vip, pod))?;
            }
            by_its_own_service(lab, pod, vip)?;
            goes_fast_directly(lab, family, pod, lab.pod(2, 1))
        })
    })
}

/// The ClusterIP of the service with a pod on another node than the client.
fn vip(family: Family) -> SocketAddr {
    SocketAddr::new(names::service_address(family, 10), 80)
}

/// The ClusterIP of the one with a pod beside the client.
fn near_vip(family: Family) -> SocketAddr {
    SocketAddr::new(names::service_address(family, 11), 80)
}

fn cluster(backend: Backend, family: Family) -> LabBuilder {
    let lab = common::lab().families(family).pods(2).outside();
    lab.flannel_rules(true).kube_proxy_rules(backend)
}

/// Plays a scenario on a cluster with agents.
fn on_cluster(cluster: LabBuilder, scenario: impl Fn(&Lab) -> Result<()>) -> Result<()> {
    let lab = cluster.build()?;
    let agents = start_agents(&lab, &AgentOptions::default())?;
    scenario(&lab)?;
    drop(agents);
    Ok(())
}

/// A service with one pod behind it; its name has to say the protocol, too.
fn service(name: &str, protocol: Protocol, vip: SocketAddr, pod: &Pod) -> Service {
    Service::new(&format!("{name}-{protocol}"), protocol, vip).backend(pod.address(), PORT)
}
