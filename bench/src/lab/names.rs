//! Who is called what in a lab, and which address it has. Pure: the same in every lab, because
//! labs live in namespaces of their own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, ensure};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use underpass_common::addr::Mac;

use super::{Family, Segment};

/// The switch's host name.
pub const SWITCH: &str = "switch";
/// The outside host's name.
pub const OUTSIDE: &str = "outside";
/// The bridge in the switch.
pub const SWITCH_BRIDGE: &str = "br0";
/// The bridge of the second segment in the switch, where there is one.
pub const SECOND_BRIDGE: &str = "br1";
/// The bridge of a node's pods.
pub const POD_BRIDGE: &str = "cni0";
/// The uplink of a node, and the interface of a pod.
pub const UPLINK: &str = "eth0";
/// The second uplink of a node on two segments.
pub const SECOND_UPLINK: &str = "eth1";

/// The MAC of the node's end of every routed pod's veth, as Calico has it.
pub const ROUTED_GATEWAY_MAC: Mac = [0xee; 6];

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

/// Addresses of all pods.
pub fn cluster_cidr(family: Family) -> IpNet {
    match family {
        Family::V4 => Ipv4Net::new_assert(Ipv4Addr::new(10, 244, 0, 0), 16).into(),
        Family::V6 => Ipv6Net::new_assert(pods_v6(0, 0), 56).into(),
    }
}

/// The address of service `number` of kube-proxy's rules.
pub fn service_address(family: Family, number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    match family {
        Family::V4 => Ipv4Addr::new(10, 96, high, low).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, number).into(),
    }
}

/// Prefix length of the wire between the nodes.
pub fn wire_prefix(family: Family) -> u8 {
    match family {
        Family::V4 => 24,
        Family::V6 => 64,
    }
}

/// The network of a segment.
pub fn segment_network(family: Family, segment: Segment) -> IpNet {
    let network = on_the_wire(family, segment, 0);
    IpNet::new_assert(network, wire_prefix(family))
}

/// Node `node`'s address on the wire: on the first segment, where there are two.
pub fn node_address(family: Family, node: usize) -> IpAddr {
    node_address_on(Segment::First, family, node)
}

/// Node `node`'s address on a segment.
pub fn node_address_on(segment: Segment, family: Family, node: usize) -> IpAddr {
    on_the_wire(family, segment, byte(node))
}

/// The outside host's address, which is also the nodes' default gateway: nobody answers there in a
/// lab without that host.
pub fn outside_address(family: Family) -> IpAddr {
    on_the_wire(family, Segment::First, 254)
}

/// The family in which the API server of a lab's control plane is reached, whatever its nodes speak besides.
pub const API_FAMILY: Family = Family::V4;

/// The address of that API server: the switch's.
pub fn api_server_address() -> IpAddr {
    on_the_wire(API_FAMILY, Segment::First, 253)
}

fn on_the_wire(family: Family, segment: Segment, number: u8) -> IpAddr {
    let (third_byte, second_word) = match segment {
        Segment::First => (77, 0x77),
        Segment::Second => (78, 0x78),
    };
    match family {
        Family::V4 => Ipv4Addr::new(192, 168, third_byte, number).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, second_word, 0, 0, 0, 0, 0, number.into()).into(),
    }
}

/// Node `node`'s podCIDR.
pub fn pod_cidr(family: Family, node: usize) -> IpNet {
    match family {
        Family::V4 => Ipv4Net::new_assert(Ipv4Addr::new(10, 244, byte(node), 0), 24).into(),
        Family::V6 => Ipv6Net::new_assert(pods_v6(node, 0), 64).into(),
    }
}

/// The address of `cni0` on node `node`.
pub fn gateway(family: Family, node: usize) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 244, byte(node), 1).into(),
        Family::V6 => pods_v6(node, 1).into(),
    }
}

/// The gateway of a routed pod, as Calico has it. In IPv4 it is on no interface and known to the pod
/// as a fixed neighbour; in IPv6 it is what [`ROUTED_GATEWAY_MAC`] makes of a link-local address.
pub fn routed_gateway(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(169, 254, 1, 1).into(),
        Family::V6 => Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee).into(),
    }
}

/// The address of pod `pod` of node `node`: `10.244.2.13` and `fd00:10:244:2::13` for pod 3 of
/// node 2.
pub fn pod_address(family: Family, node: usize, pod: usize) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 244, byte(node), 10 + byte(pod)).into(),
        Family::V6 => pods_v6(node, 0x10 + u16::from(byte(pod))).into(),
    }
}

fn pods_v6(node: usize, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x10, 0x244, byte(node).into(), 0, 0, 0, host)
}

/// The MAC of node `node`'s uplink. All MACs here are locally administered.
pub fn node_mac(node: usize) -> Mac {
    [0x02, 0x4e, 0, 0, 0, byte(node)]
}

/// The MAC of node `node`'s second uplink.
pub fn second_mac(node: usize) -> Mac {
    [0x02, 0x4e, 0, 0, 1, byte(node)]
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
        let shown = |family| {
            let (node, cidr) = (node_address(family, 3), pod_cidr(family, 3));
            format!("{node} {cidr} {}", pod_address(family, 3, 2))
        };
        assert_eq!(shown(Family::V4), "192.168.77.3 10.244.3.0/24 10.244.3.12");
        assert_eq!(
            shown(Family::V6),
            "fd00:77::3 fd00:10:244:3::/64 fd00:10:244:3::12"
        );
        for family in Family::BOTH {
            assert!(pod_cidr(family, 3).contains(&pod_address(family, 3, MOST_PODS)));
            assert!(cluster_cidr(family).contains(&pod_cidr(family, MOST_NODES)));
            let outside = outside_address(family);
            assert_ne!(node_address(family, MOST_NODES), outside);
            assert!(!cluster_cidr(family).contains(&outside));
            assert!(!cluster_cidr(family).contains(&service_address(family, u16::MAX)));
            let [first, second] = Segment::BOTH.map(|it| segment_network(family, it));
            assert!(first.contains(&node_address(family, 3)) && first.contains(&outside));
            assert!(second.contains(&node_address_on(Segment::Second, family, 3)));
            assert!(!first.contains(&second) && !second.contains(&first));
        }
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
