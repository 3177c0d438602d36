//! The maps that the agent has pinned, filled for what is measured.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::xdp::DevMapHash;
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};
use underpass_common::endpoint::Endpoint;
use underpass_common::flow::{Direction, Entrance, Flow, FlowKey, WayOut, confirmed};
use underpass_common::map_names;
use underpass_common::route::Route;
use underpass_common::settings::{LAYOUT_VERSION, Offload, Settings};
use underpass_common::verdict::{Count, Hook, Verdict, index};
use underpass_common::xdp::Lease;

use super::cases::Flows;
use super::packets::{Ends, V4, prefix, tuple_from_pod};

/// The pinned maps that matter to IPv4.
pub(super) struct World {
    settings: Array<MapData, Settings>,
    routes: LpmTrie<MapData, V4, Route>,
    endpoints: HashMap<MapData, V4, Endpoint>,
    flows: HashMap<MapData, FlowKey<V4>, Flow>,
    verdicts: PerCpuArray<MapData, Count>,
    leases: HashMap<MapData, u32, Lease>,
    xdp_uplinks: DevMapHash<MapData>,
}

impl World {
    /// Opens those pinned in `pins`.
    ///
    /// # Errors
    /// There are none, or they are of another layout than this program's.
    pub fn open(pins: &Path) -> Result<Self> {
        let open = |name: &str| {
            let path = pins.join(name);
            MapData::from_pin(&path).with_context(|| format!("there is no map {}", path.display()))
        };
        let world = Self {
            settings: Map::Array(open(map_names::SETTINGS)?).try_into()?,
            routes: Map::LpmTrie(open(map_names::ROUTES_V4)?).try_into()?,
            endpoints: Map::HashMap(open(map_names::ENDPOINTS_V4)?).try_into()?,
            flows: Map::LruHashMap(open(map_names::FLOWS_V4)?).try_into()?,
            verdicts: Map::PerCpuArray(open(map_names::VERDICTS)?).try_into()?,
            leases: Map::HashMap(open(map_names::XDP_LEASE)?).try_into()?,
            xdp_uplinks: Map::DevMapHash(open(map_names::XDP_UPLINKS)?).try_into()?,
        };
        let version = world.settings()?.layout_version;
        ensure!(
            version == LAYOUT_VERSION,
            "the agent's maps have layout version {version}, and this benchmark knows {LAYOUT_VERSION}: build both from \
             the same sources"
        );
        Ok(world)
    }

    /// What the agent has written, but for the offload that was asked for last.
    pub fn settings(&self) -> Result<Settings> {
        self.settings.get(&0, 0).context("cannot read the settings")
    }

    /// Sets what may take the fast path, and whether packets in transit may.
    pub fn set_offload(&mut self, offload: Offload, has_transit: bool) -> Result<()> {
        let settings = Settings {
            offload: offload as u8,
            transit: has_transit.into(),
            ..self.settings()?
        };
        self.settings
            .set(0, settings, 0)
            .context("cannot write the settings")
    }

    /// Makes the trie hold so many routes, the endpoints the pod, and the flow table the pod's known flows with these
    /// far ends, confirmed in both directions; and all three nothing else.
    pub fn fill(&mut self, ends: &Ends, routes: usize, remotes: &[V4]) -> Result<()> {
        self.clear()?;
        for number in 0..routes {
            let key = Key::new(24, prefix(number));
            let inserted = self.routes.insert(&key, ends.route(), 0);
            inserted.context("cannot write the trie")?;
        }
        let endpoint = Endpoint {
            ifindex: ends.veth,
            pod_mac: ends.pod_mac,
            gateway_mac: ends.gateway_mac,
        };
        self.endpoints
            .insert(ends.pod, endpoint, 0)
            .context("cannot write the endpoints")?;
        // The agent that would renew it is gone.
        let lease = Lease {
            until_ns: u64::MAX,
            uplink: ends.second_uplink,
            uplink_mac: ends.second_mac,
            ..Lease::default()
        };
        let mut set = || {
            self.leases.insert(ends.second_uplink, lease, 0)?;
            self.xdp_uplinks.insert(ends.uplink, ends.uplink, None, 0)
        };
        set().context("cannot write the maps of XDP")?;
        let settings = self.settings()?;
        for (number, remote) in remotes.iter().enumerate() {
            let key = tuple_from_pod(Flows::Known, number, *remote, ends).from_pod();
            let flow = confirmed_flow(&key, ends, endpoint, &settings);
            let in_transit = tuple_from_pod(Flows::Transit, number, *remote, ends).from_pod();
            let passing = passing_flow(&in_transit, ends, &settings);
            for (key, flow) in [(key, flow), (in_transit, passing)] {
                self.flows
                    .insert(key, flow, 0)
                    .context("cannot write the flow table")?;
            }
        }
        Ok(())
    }

    fn clear(&mut self) -> Result<()> {
        let keys = self.routes.keys().collect::<Result<Vec<_>, _>>();
        for key in keys.context("cannot read the trie")? {
            let removed = self.routes.remove(&key);
            removed.context("cannot clear the trie")?;
        }
        clear(&mut self.endpoints).context("cannot clear the endpoints")?;
        clear(&mut self.flows).context("cannot clear the flow table")
    }

    /// Packets counted at a hook, by verdict.
    pub fn counts(&self, hook: Hook) -> Result<BTreeMap<Verdict, u64>> {
        let count = |&verdict: &Verdict| {
            let by_cpu = self.verdicts.get(&index(hook, verdict), 0);
            let by_cpu = by_cpu.context("cannot read the verdicts")?;
            Ok((verdict, by_cpu.iter().map(|it| it.packets).sum()))
        };
        Verdict::ALL.iter().map(count).collect()
    }
}

fn clear<K: aya::Pod + Eq + Hash, V: aya::Pod>(
    map: &mut HashMap<MapData, K, V>,
) -> Result<(), MapError> {
    let keys = map.keys().collect::<Result<Vec<_>, _>>()?;
    keys.iter().try_for_each(|key| map.remove(key))
}

/// As the exits write it.
fn confirmed_flow(key: &FlowKey<V4>, ends: &Ends, endpoint: Endpoint, settings: &Settings) -> Flow {
    let egress = Direction {
        generation: settings.generation,
        epoch: settings.epoch,
        way_out: ends.route().into(),
        entrance: ends.entrance(),
        confirmed: confirmed::FROM_START,
        _pad: [0; 3],
    };
    Flow {
        key_check: key.check(),
        egress,
        ingress: Direction {
            way_out: WayOut::from(endpoint),
            entrance: Entrance::WIRE,
            ..egress
        },
    }
}

/// Likewise, of packets in transit: one direction, and no pod of this node's.
fn passing_flow(key: &FlowKey<V4>, ends: &Ends, settings: &Settings) -> Flow {
    Flow {
        key_check: key.check(),
        egress: Direction {
            generation: settings.generation,
            epoch: settings.epoch,
            way_out: ends.route().into(),
            entrance: ends.transit_entrance(),
            confirmed: confirmed::FROM_START,
            _pad: [0; 3],
        },
        ..Flow::default()
    }
}
