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
use crate::family::Twin;

/// The maps that programs read or write.
#[derive(Clone, Debug, PartialEq)]
pub struct World {
    pub settings: Settings,
    pub routes: BTreeMap<IpNet, Route>,
    pub endpoints: BTreeMap<IpAddr, Endpoint>,
    pub pods: BTreeMap<u32, Pod>,
    /// In any order: keys have none. The check of a key is told as how far it is from the right one,
    /// so 0 is right.
    pub flows: Vec<(FlowKey<IpAddr>, Flow)>,
    /// On every CPU.
    pub last_stamped: Entrance,
}

impl World {
    /// A node at work, with one peer and one pod known in both families, that has forwarded nothing
    /// yet.
    pub fn usual() -> Self {
        let mut world = Self::of_ipv4();
        let twin = world.twin();
        world.settings.pod_cidrs_v6_len = twin.settings.pod_cidrs_v6_len;
        world.settings.pod_cidrs_v6 = twin.settings.pod_cidrs_v6;
        world.routes.extend(twin.routes);
        world.endpoints.extend(twin.endpoints);
        world
    }

    fn of_ipv4() -> Self {
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

    /// The same world, for comparing.
    pub fn in_order(mut self) -> Self {
        self.flows.sort_by_key(|(key, _)| {
            let ports = (key.pod_port, key.remote_port);
            (key.pod, key.remote, key.protocol, key.icmp_type, ports)
        });
        self
    }

    /// The one flow of most rows.
    pub fn flow(&mut self) -> &mut Flow {
        &mut self.flows[0].1
    }
}

impl Twin for World {
    /// Each family's maps hold what the other's held.
    fn twin(&self) -> Self {
        Self {
            settings: self.settings.twin(),
            routes: self.routes.iter().map(|(k, v)| (k.twin(), *v)).collect(),
            endpoints: self.endpoints.iter().map(|(k, v)| (k.twin(), *v)).collect(),
            flows: self.flows.iter().map(|(k, v)| (k.twin(), *v)).collect(),
            ..self.clone()
        }
    }
}

/// A prefix, written as people do.
pub fn prefix(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

#[test]
fn a_twins_twin_is_oneself() {
    for text in ["10.244.1.2", "10.244.2.194", "192.0.2.1", "255.99.100.255"] {
        let address: IpAddr = text.parse().expect("an address");
        assert_eq!(address.twin().twin(), address);
    }
    let pod: IpAddr = "10.244.1.2".parse().expect("an address");
    assert_eq!(pod.twin().to_string(), "fd00:10:244:1::2");
    for text in ["0.0.0.0/0", "10.0.0.0/8", "10.244.0.0/16", "10.244.2.0/24"] {
        let prefix: IpNet = text.parse().expect("a prefix");
        assert_eq!(prefix.twin().twin(), prefix);
    }
    let tail: IpNet = "10.244.2.192/26".parse().expect("a prefix");
    assert_eq!(tail.twin().to_string(), "fd00:10:244:2::c0/122");
    assert!(
        tail.twin()
            .contains(&"10.244.2.194".parse::<IpAddr>().expect("an address").twin())
    );
}
