//! What stands in the maps before a packet comes, and after it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use underpass_common::addr::Block;
use underpass_common::endpoint::Endpoint;
use underpass_common::flow::{Entrance, Flow, FlowKey, Tuple};
use underpass_common::pod::Pod;
use underpass_common::route::Route;
use underpass_common::settings::{LAYOUT_VERSION, Offload, Settings};

use crate::cast::{
    EPOCH, GENERATION, OTHER_POD_MAC, OTHER_VETH, PEER_ROUTE, POD, POD_ENDPOINT, POD_MAC, POD_VETH,
    TAG_SEED, attached,
};
use crate::twin;

/// The maps that programs read or write.
#[derive(Clone, Debug, PartialEq)]
pub struct World {
    pub settings: Settings,
    pub routes: BTreeMap<IpNet, Route>,
    pub endpoints: BTreeMap<IpAddr, Endpoint>,
    pub pods: BTreeMap<u32, Pod>,
    /// In any order: keys have none.
    pub flows: Vec<(FlowKey<IpAddr>, Flow)>,
    /// On every CPU.
    pub last_stamped: Entrance,
}

impl World {
    /// A node at work, with one peer and one pod known, that has forwarded nothing yet.
    pub fn usual() -> Self {
        let own = Block {
            network: [10, 244, 1, 0],
            mask: [255, 255, 255, 0],
        };
        let mut settings = Settings {
            layout_version: LAYOUT_VERSION,
            generation: GENERATION,
            epoch: EPOCH,
            tag_seed: TAG_SEED,
            offload: Offload::Confirmed as u8,
            pod_cidrs_v4_len: 1,
            ..Settings::default()
        };
        settings.pod_cidrs_v4[0] = own;
        Self {
            settings,
            routes: BTreeMap::from([(prefix("10.244.2.0/24"), PEER_ROUTE)]),
            endpoints: BTreeMap::from([(IpAddr::from(POD), POD_ENDPOINT)]),
            pods: BTreeMap::from([
                (POD_VETH, attached(POD_MAC)),
                (OTHER_VETH, attached(OTHER_POD_MAC)),
            ]),
            flows: Vec::new(),
            last_stamped: Entrance::WIRE,
        }
    }

    /// The one flow of most rows.
    pub fn flow(&mut self) -> &mut Flow {
        &mut self.flows[0].1
    }
}

/// A prefix, written as people do.
pub fn prefix(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

impl World {
    /// The same world in IPv6; `None`: it holds what has no twin.
    pub fn twin(&self) -> Option<Self> {
        let mut settings = self.settings;
        if settings.pod_cidrs_v4_len != 1 {
            return None;
        }
        settings.pod_cidrs_v4_len = 0;
        settings.pod_cidrs_v4 = Default::default();
        settings.pod_cidrs_v6_len = 1;
        let [network, mask] = [network_v6(1), u128::MAX << 64].map(u128::to_be_bytes);
        settings.pod_cidrs_v6[0] = Block { network, mask };
        let mut routes = BTreeMap::new();
        for (prefix, route) in &self.routes {
            let IpNet::V4(v4) = prefix else { return None };
            // A node's podCIDR; what is longer is written otherwise in IPv6.
            let ([10, 244, node, 0], 24) = (v4.network().octets(), v4.prefix_len()) else {
                return None;
            };
            let network = Ipv6Addr::from(network_v6(node));
            routes.insert(IpNet::new(network.into(), 64).ok()?, *route);
        }
        let address = |address: &IpAddr| match address {
            IpAddr::V4(v4) => IpAddr::from(twin::of_address(*v4)),
            IpAddr::V6(_) => *address,
        };
        let endpoints = self.endpoints.iter();
        Some(Self {
            settings,
            routes,
            endpoints: endpoints.map(|(pod, at)| (address(pod), *at)).collect(),
            pods: self.pods.clone(),
            flows: self
                .flows
                .iter()
                .map(|(key, flow)| (twin_of_key(key), *flow))
                .collect(),
            last_stamped: self.last_stamped,
        })
    }
}

/// `fd00:10:244:<node>::`, as the twins of addresses have it.
fn network_v6(node: u8) -> u128 {
    twin::of_address([10, 244, node, 0].into()).into()
}

fn twin_of_key(key: &FlowKey<IpAddr>) -> FlowKey<IpAddr> {
    let ends = Tuple {
        src: key.pod,
        dst: key.remote,
        src_port: key.pod_port,
        dst_port: key.remote_port,
        protocol: key.protocol,
        icmp_type: key.icmp_type,
    };
    twin::of_ends(&ends).from_pod()
}
