//! Who is there: places, addresses, MACs. The same in both worlds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use underpass_bench::lab::Family;
use underpass_bench::lab::{Segment, names};
use underpass_common::addr::Mac;

/// Where frames are put in and caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The far end of a pod's veth.
    Pod1,
    Pod2,
    /// Behind a bridge port with a small MTU.
    SmallPod,
    /// On a veth of its own, with a route to it, and a small MTU.
    RoutedPod,
    /// The far end of the node's uplink.
    Wire,
    /// The far end of the node's second uplink, which leads to node4's segment.
    OtherWire,
}

impl Place {
    pub const ALL: [Self; 6] = [
        Self::Pod1,
        Self::Pod2,
        Self::SmallPod,
        Self::RoutedPod,
        Self::Wire,
        Self::OtherWire,
    ];
    pub const PODS: [Self; 4] = [Self::Pod1, Self::Pod2, Self::SmallPod, Self::RoutedPod];
    /// Where somebody is who talks to the other nodes' pods: pods, and one of node4's behind its segment.
    pub const NEAR: [Self; 5] = [
        Self::Pod1,
        Self::Pod2,
        Self::SmallPod,
        Self::RoutedPod,
        Self::OtherWire,
    ];

    pub fn index(self) -> usize {
        self as usize
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Pod1 => "pod1",
            Self::Pod2 => "pod2",
            Self::SmallPod => "pod3",
            Self::RoutedPod => "pod4",
            Self::Wire => "wire",
            Self::OtherWire => "wire2",
        }
    }

    /// The pod's number in the lab; the wires have none.
    pub fn pod_number(self) -> Option<usize> {
        let is_wire = self == Self::Wire || self == Self::OtherWire;
        (!is_wire).then_some(self.index() + 1)
    }

    /// MTU of a pod's veth; of the wire's far end, which takes whatever is put in.
    pub fn mtu(self) -> u16 {
        match self {
            Self::SmallPod | Self::RoutedPod => SMALL_MTU,
            Self::Pod1 | Self::Pod2 | Self::Wire | Self::OtherWire => POD_MTU,
        }
    }

    /// The pod's address; on the wire that of node2, on the other that of a pod of node4's.
    pub fn address(self, family: Family) -> IpAddr {
        match self.pod_number() {
            Some(pod) => names::pod_address(family, 1, pod),
            None if self == Self::OtherWire => remote(family, 4, 11),
            None => names::node_address(family, 2),
        }
    }

    /// The MAC of what is there; on the wires that of node2 and of node4.
    pub fn mac(self) -> Mac {
        match self.pod_number() {
            Some(pod) => names::pod_mac(1, pod),
            None if self == Self::OtherWire => names::node_mac(4),
            None => names::node_mac(2),
        }
    }

    /// The node's MAC as seen from there.
    pub fn gateway_mac(self) -> Mac {
        match self {
            Self::Wire => names::node_mac(1),
            Self::OtherWire => names::second_mac(1),
            Self::RoutedPod => names::pod_veth_mac(1, 4),
            _ => names::gateway_mac(1),
        }
    }
}

/// MTU of the pods' side, larger than the uplink's so that the node has reason to complain.
pub const POD_MTU: u16 = 9000;
/// MTU of the uplink.
pub const UPLINK_MTU: u16 = 1500;
/// MTU of the second uplink.
pub const SECOND_MTU: u16 = 1450;
/// MTU of pods 3 and 4.
pub const SMALL_MTU: u16 = 1300;

/// The default gateway's MAC.
pub const ROUTER_MAC: Mac = [0x02, 0x52, 0, 0, 0, 0xfe];
/// Of a station that nobody knows.
pub const STRANGER_MAC: Mac = [0x02, 0x66, 1, 2, 3, 4];

/// The node's own addresses: whatever carries one of them as its source is made by the node's kernel,
/// which forwards nothing from them.
pub fn node_addresses(family: Family) -> [IpAddr; 3] {
    [
        names::node_address(family, 1),
        names::gateway(family, 1),
        names::node_address_on(Segment::Second, family, 1),
    ]
}

/// Pods of other nodes, whom the trie knows.
pub fn remote_pods(family: Family) -> [IpAddr; 5] {
    let pods = [
        (2, SOMETIMES_BLACKHOLED),
        (2, RULED),
        (3, 11),
        (3, REROUTED),
        (4, 12),
    ];
    pods.map(|(node, host)| remote(family, node, host))
}

/// Address `host` in the podCIDR of node `node`.
pub fn remote(family: Family, node: usize, host: u8) -> IpAddr {
    match names::pod_cidr(family, node).network() {
        IpAddr::V4(network) => {
            let [a, b, c, _] = network.octets();
            Ipv4Addr::new(a, b, c, host).into()
        }
        IpAddr::V6(network) => {
            let [a, b, c, d, ..] = network.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, host.into()).into()
        }
    }
}

/// Hosts of node3's podCIDR that the node's own routes send elsewhere: to the router, nowhere without a
/// word, nowhere with a complaint (IPv6).
pub const OVERRIDDEN: u8 = 99;
pub const BLACKHOLED: u8 = 77;
pub const PROHIBITED: u8 = 78;

/// A host of node2's podCIDR to which a rule (`ip rule`) sends pod2's packets by the router.
pub const RULED: u8 = 12;
/// A host of node2's podCIDR that has no way to it for a part of a run.
pub const SOMETIMES_BLACKHOLED: u8 = 11;
/// A host of node3's podCIDR whose route changes in the middle of a run.
pub const REROUTED: u8 = 200;

/// Neither pod nor node: behind the default gateway.
pub fn outside(family: Family) -> [IpAddr; 2] {
    match family {
        Family::V4 => [
            Ipv4Addr::new(198, 51, 100, 7).into(),
            Ipv4Addr::new(10, 96, 0, 10).into(),
        ],
        Family::V6 => [
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7).into(),
            Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 10).into(),
        ],
    }
}

/// Addresses that mean something else than one host somewhere.
pub fn special(family: Family) -> Vec<IpAddr> {
    let texts: &[&str] = match family {
        Family::V4 => &[
            "0.0.0.0",
            "127.0.0.1",
            "255.255.255.255",
            "10.244.1.255",
            "10.244.1.0",
            "192.168.77.255",
            "224.0.0.1",
            "224.0.0.251",
            "239.1.2.3",
            "240.0.0.1",
            "169.254.1.1",
        ],
        Family::V6 => &[
            "::",
            "::1",
            "ff02::1",
            "ff02::2",
            "ff05::1:3",
            "ff0e::1234",
            "fe80::1",
            "::ffff:10.244.1.11",
            "fd00:10:244:1::",
            "2001:db8:ffff::1",
        ],
    };
    texts
        .iter()
        .map(|text| text.parse().expect("an address"))
        .collect()
}
