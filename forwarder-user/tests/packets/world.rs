//! What stands in the maps before a packet comes, and after it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use underpass_common::addr::Block;
use underpass_common::endpoint::Endpoint;
use underpass_common::flow::{Entrance, Flow, FlowKey};
use underpass_common::pod::Pod;
use underpass_common::route::Route;
use underpass_common::settings::{LAYOUT_VERSION, Offload, Settings};

use crate::cast::{
    EPOCH, GENERATION, OTHER_POD_MAC, OTHER_VETH, PEER_ROUTE, POD, POD_ENDPOINT, POD_MAC, POD_VETH,
    TAG_SEED, attached,
};

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
