//! Who is called what in a lab, and which address it has. Pure: the same in every lab, because
//! labs live in namespaces of their own.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, ensure};
use ipnet::Ipv4Net;
use underpass_common::addr::Mac;

/// The switch's host name.
pub const SWITCH: &str = "switch";
/// The outside host's name.
pub const OUTSIDE: &str = "outside";
/// The bridge in the switch.
pub const SWITCH_BRIDGE: &str = "br0";
/// The bridge of a node's pods.
pub const POD_BRIDGE: &str = "cni0";
/// The uplink of a node, and the interface of a pod.
pub const UPLINK: &str = "eth0";

/// Addresses of all pods.
pub const CLUSTER_CIDR: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 244, 0, 0), 16);
/// Addresses of the services of kube-proxy's rules.
pub const SERVICE_CIDR: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 12);
/// The outside host's address, which is also the nodes' default gateway: nobody answers there in a
/// lab without that host.
pub const OUTSIDE_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 254);
/// The gateway of a routed pod: on no interface, known to the pod as a fixed neighbour, as Calico
/// has it.
pub const ROUTED_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The MAC of the node's end of every routed pod's veth, as Calico has it.
pub const ROUTED_GATEWAY_MAC: Mac = [0xee; 6];
/// Prefix length of the wire between the nodes.
pub const WIRE_PREFIX: u8 = 24;
/// Prefix length of a node's podCIDR.
pub const POD_PREFIX: u8 = 24;

/// As many nodes as the wire has addresses for.
pub const MOST_NODES: usize = 200;
/// As many pods as a podCIDR has addresses for.
pub const MOST_PODS: usize = 200;
/// Longest lab name: together with a host's name it names a namespace.
const LONGEST_NAME: usize = 48;

/// A name for a lab that nobody gave one: `up<pid>x<counter>`.
pub(crate) fn fresh_lab_name() -> String {
    static COUNTER: AtomicUsize = AtomicUsize::new(1);
    let counter = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("up{}x{counter}", std::process::id())
}

/// Checks a lab's name: it becomes part of file names, and bpffs allows no dot in one.
pub(crate) fn check_lab_name(name: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    ensure!(
        !name.is_empty() && name.len() <= LONGEST_NAME && name.chars().all(fits),
        "a lab can't be called {name:?}: take 1 to {LONGEST_NAME} letters, digits, '-' and '_'"
    );
    Ok(())
}

/// Host name of node `node`, counted from 1.
pub fn node(node: usize) -> String {
    format!("node{node}")
}

/// Host name of pod `pod` of node `node`, both counted from 1.
pub fn pod(node: usize, pod: usize) -> String {
    format!("node{node}-pod{pod}")
}

/// The node's end of a pod's wire, in the node's namespace.
pub fn pod_veth(pod: usize) -> String {
    format!("vethpod{pod}")
}

/// Node `node`'s address on the wire.
pub fn node_address(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 77, byte(node))
}

/// Node `node`'s podCIDR.
pub fn pod_cidr(node: usize) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(10, 244, byte(node), 0), POD_PREFIX)
}

/// The address of `cni0` on node `node`.
pub fn gateway(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, byte(node), 1)
}

/// The address of pod `pod` of node `node`.
pub fn pod_address(node: usize, pod: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, byte(node), 10 + byte(pod))
}

/// The MAC of node `node`'s uplink. All MACs here are locally administered.
pub fn node_mac(node: usize) -> Mac {
    [0x02, 0x4e, 0, 0, 0, byte(node)]
}

/// The MAC of node `node`'s `cni0`.
pub fn gateway_mac(node: usize) -> Mac {
    [0x02, 0x47, 0, 0, 0, byte(node)]
}

/// The MAC of a pod.
pub fn pod_mac(node: usize, pod: usize) -> Mac {
    [0x02, 0x50, 0, byte(node), 0, byte(pod)]
}

/// The MAC of the node's end of a pod's wire.
pub fn pod_veth_mac(node: usize, pod: usize) -> Mac {
    [0x02, 0x56, 0, byte(node), 0, byte(pod)]
}

/// A node's or pod's number as a byte of an address; [`MOST_NODES`] and [`MOST_PODS`] keep it in
/// range.
fn byte(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_those_of_the_drawing() {
        assert_eq!(pod(2, 1), "node2-pod1");
        assert_eq!(node_address(3).to_string(), "192.168.77.3");
        assert_eq!(pod_cidr(3).to_string(), "10.244.3.0/24");
        assert_eq!(pod_address(3, 2).to_string(), "10.244.3.12");
        assert!(pod_cidr(3).contains(&pod_address(3, MOST_PODS)));
        assert!(CLUSTER_CIDR.contains(&pod_cidr(MOST_NODES)));
    }

    #[test]
    fn a_lab_name_fits_into_file_names() {
        assert!(check_lab_name("demo-1").is_ok());
        assert!(check_lab_name("").is_err());
        assert!(check_lab_name("a.b").is_err());
        assert!(check_lab_name("../x").is_err());
        assert!(check_lab_name(&"x".repeat(49)).is_err());
    }
}
