//! VXLAN as Flannel makes it: a device `flannel.1` with VNI 1 on UDP port 8472 that learns nothing, and for each
//! other node a route, a neighbour and an entry of the forwarding table (pkg/backend/vxlan of flannel).

use std::net::IpAddr;

use anyhow::Result;
use ipnet::IpNet;

use crate::lab::names::{POD_BRIDGE, UPLINK};
use crate::lab::{Lab, Node};

/// The device on each node.
pub(super) const DEVICE: &str = "flannel.1";
/// What is left of 1500 bytes below outer Ethernet, IPv4, UDP and VXLAN headers.
const MTU: u32 = 1450;

/// Connects the nodes of a lab without routes.
pub(super) fn connect(lab: &Lab) -> Result<()> {
    for node in lab.nodes() {
        node.ip(&device(node))?;
        for other in lab.nodes().iter().filter(|it| it.number() != node.number()) {
            node.ip(&peer(other))?;
            let (mac, dst) = (vtep_mac(other.number()), other.address().to_string());
            node.run(&["bridge", "fdb", "append", &mac, "dev", DEVICE, "dst", &dst])?;
        }
        for pod in node.pods() {
            node.ip(&format!("link set {} mtu {MTU}\n", pod.node_veth()))?;
            pod.ip(&format!("link set {} mtu {MTU}\n", pod.interface()))?;
        }
        node.ip(&format!("link set {POD_BRIDGE} mtu {MTU}\n"))?;
    }
    Ok(())
}

/// Its device. Flannel's takes no part in UDP checksums of the outer header.
fn device(node: &Node) -> String {
    let (mac, local) = (vtep_mac(node.number()), node.address());
    format!(
        "link add {DEVICE} address {mac} mtu {MTU} type vxlan id 1 dev {UPLINK} local {local} dstport 8472 nolearning noudpcsum
addr add {}/32 dev {DEVICE}
link set {DEVICE} up
",
        network(node.pod_cidr())
    )
}

fn peer(other: &Node) -> String {
    let (cidr, mac) = (other.pod_cidr(), vtep_mac(other.number()));
    let via = network(cidr);
    format!(
        "neigh add {via} lladdr {mac} dev {DEVICE} nud permanent
route add {cidr} via {via} dev {DEVICE} onlink
"
    )
}

/// The first address of a podCIDR: Flannel gives it to the device.
fn network(cidr: IpNet) -> IpAddr {
    cidr.network()
}

fn vtep_mac(node: usize) -> String {
    format!("02:46:00:00:00:{node:02x}")
}
