//! What a walk looks at, as it stood at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use underpass_common::addr::{Mac, ShowMac};
use underpass_common::endpoint::Endpoint;
use underpass_common::flow::{Flow, FlowKey};
use underpass_common::pod::Pod;
use underpass_common::route::Route;
use underpass_common::settings::Settings;
use underpass_common::verdict::Hook;

use super::super::peers::{PeerFamilyReport, PeerReport};
use crate::plan::pod_cidrs_of;
use crate::world::kernel::Link;
use crate::world::netlink::NeighbourNow;

/// The maps, and what the kernel says of one packet.
#[derive(Debug)]
pub struct Snapshot {
    /// This node's name.
    pub node: String,
    /// The map `settings`.
    pub settings: Settings,
    /// Interface index of the main uplink; 0: none.
    pub uplink: u32,
    /// All uplinks, the main one first.
    pub uplinks: Vec<u32>,
    /// Programs whose links are pinned and alive, by interface index.
    pub attached: BTreeSet<(Hook, u32)>,
    /// The map `pods`.
    pub pods: BTreeMap<u32, Pod>,
    /// The maps `endpoints_v4` and `endpoints_v6`.
    pub endpoints: BTreeMap<IpAddr, Endpoint>,
    /// The tries.
    pub routes: BTreeMap<IpNet, Route>,
    /// The map `peers`.
    pub peers: Vec<PeerReport>,
    /// The flow tables.
    pub flows: Vec<(FlowKey<IpAddr>, Flow)>,
    /// The kernel's links.
    pub links: BTreeMap<u32, Link>,
    /// The pod's veth, where no endpoint tells it: the one whose far end has the MAC that the kernel's
    /// neighbour table has for the pod.
    pub veth_by_mac: Option<u32>,
    /// What the kernel would do with the packet.
    pub kernel: KernelWay,
}

/// What the kernel would do with the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelWay {
    /// It cannot be asked, or was not: why.
    Unknown(String),
    /// It drops it: why.
    Drops(String),
    /// The node's own.
    Local,
    /// It sends it to a next hop.
    Forwards {
        /// Interface index.
        ifindex: u32,
        /// Next hop; the destination itself where that is on-link.
        next_hop: IpAddr,
        /// The next hop's entry in the neighbour table.
        neighbour: Option<NeighbourNow>,
    },
}

impl Snapshot {
    /// This node's own podCIDRs.
    pub fn pod_cidrs(&self) -> Vec<IpNet> {
        pod_cidrs_of(&self.settings)
    }

    /// True where an address is a pod's of this node.
    pub fn is_own(&self, ip: IpAddr) -> bool {
        self.pod_cidrs().iter().any(|cidr| cidr.contains(&ip))
    }

    /// What the trie says: the longest prefix that holds the address.
    pub fn route(&self, to: IpAddr) -> Option<(IpNet, Route)> {
        let holding = self
            .routes
            .iter()
            .filter(|(prefix, _)| prefix.contains(&to));
        holding
            .max_by_key(|(prefix, _)| prefix.prefix_len())
            .map(|(prefix, route)| (*prefix, *route))
    }

    /// The pod's veth, as far as it is known.
    pub fn veth_of(&self, pod: Option<IpAddr>) -> Option<u32> {
        let learned = pod.and_then(|pod| self.endpoints.get(&pod));
        learned
            .map(|endpoint| endpoint.ifindex)
            .or(self.veth_by_mac)
    }

    /// The uplink that the trie has for an address; the main one where it has none. `None`: there is no uplink.
    pub fn uplink_to(&self, ip: Option<IpAddr>) -> Option<u32> {
        let route = ip.and_then(|ip| self.route(ip));
        let by = route.map(|(_, route)| route.ifindex);
        by.filter(|by| self.uplinks.contains(by))
            .or_else(|| Some(self.uplink).filter(|uplink| *uplink != 0))
            .or_else(|| self.uplinks.first().copied())
    }

    /// `eth0 (ifindex 2)`; only the index where there is no such device.
    pub fn device(&self, ifindex: u32) -> String {
        match self.links.get(&ifindex) {
            Some(link) => format!("{} (ifindex {ifindex})", link.name),
            None => format!("ifindex {ifindex}"),
        }
    }

    /// `eth0`.
    pub fn device_name(&self, ifindex: u32) -> String {
        match self.links.get(&ifindex) {
            Some(link) => link.name.clone(),
            None => format!("#{ifindex}"),
        }
    }

    /// The node that claims an address for its pods, in the address's family.
    pub fn claimer(&self, ip: IpAddr) -> Option<(&PeerReport, &PeerFamilyReport)> {
        self.families().find(|(_, family)| {
            let cidr = family.pod_cidr.as_ref();
            cidr.and_then(|cidr| cidr.parse::<IpNet>().ok())
                .is_some_and(|cidr| cidr.contains(&ip))
        })
    }

    /// The other node that has this address itself.
    pub fn node_at(&self, ip: IpAddr) -> Option<&str> {
        self.families()
            .find(|(_, family)| family.address == Some(ip))
            .map(|(peer, _)| peer.name.as_str())
    }

    /// The node with that MAC on our segment.
    pub fn peer_with(&self, mac: Mac) -> Option<&str> {
        let mac = ShowMac(mac).to_string();
        self.families()
            .find(|(_, family)| family.mac.as_ref() == Some(&mac))
            .map(|(peer, _)| peer.name.as_str())
    }

    fn families(&self) -> impl Iterator<Item = (&PeerReport, &PeerFamilyReport)> {
        self.peers
            .iter()
            .flat_map(|peer| peer.families.iter().map(move |family| (peer, family)))
    }
}
