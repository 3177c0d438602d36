//! The maps that each address family has its own of.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use aya::Pod as PlainOldData;
use aya::maps::lpm_trie::Key;
use aya::maps::{HashMap, LpmTrie, Map, MapData, MapType};
use ipnet::IpNet;
use underpass_common::endpoint::Endpoint;
use underpass_common::flow::{Flow, FlowKey};
use underpass_common::map_names;
use underpass_common::route::Route;

use super::batch::{Batch, Refused};
use crate::datapath::Pins;

/// The maps of one address family.
pub(super) struct Tables<A>
where
    A: PlainOldData,
    FlowKey<A>: PlainOldData,
{
    pub(super) names: Names,
    pub(super) routes: LpmTrie<MapData, A, Route>,
    routes_batch: Batch<Key<A>, Route>,
    pub(super) endpoints: HashMap<MapData, A, Endpoint>,
    pub(super) flows: HashMap<MapData, FlowKey<A>, Flow>,
}

/// What a family's maps are called.
#[derive(Clone, Copy)]
pub(super) struct Names {
    pub(super) routes: &'static str,
    pub(super) endpoints: &'static str,
    pub(super) flows: &'static str,
}

pub(super) const V4: Names = Names {
    routes: map_names::ROUTES_V4,
    endpoints: map_names::ENDPOINTS_V4,
    flows: map_names::FLOWS_V4,
};

pub(super) const V6: Names = Names {
    routes: map_names::ROUTES_V6,
    endpoints: map_names::ENDPOINTS_V6,
    flows: map_names::FLOWS_V6,
};

impl<A> Tables<A>
where
    A: PlainOldData + Into<IpAddr>,
    FlowKey<A>: PlainOldData,
{
    pub(super) fn open(pins: &Pins, names: Names) -> Result<Self> {
        Ok(Self {
            names,
            routes: open(&pins.map(names.routes), Map::LpmTrie)?,
            routes_batch: Batch::open(&pins.map(names.routes))?,
            endpoints: open(&pins.map(names.endpoints), Map::HashMap)?,
            flows: open(&pins.map(names.flows), Map::LruHashMap)?,
        })
    }

    /// Calls `take` with each network, its prefix length and its route.
    pub(super) fn each_route(&self, mut take: impl FnMut(A, u8, Route)) -> Result<()> {
        for entry in &self.routes {
            let (key, route) =
                entry.with_context(|| format!("cannot read the map {}", self.names.routes))?;
            take(key.data(), key.prefix_len() as u8, route);
        }
        Ok(())
    }

    /// Adds or replaces routes, in order. Those that are refused, by their place.
    pub(super) fn set_routes(&mut self, keys: &[Key<A>], routes: &[Route]) -> Vec<Refused> {
        let trie = &mut self.routes;
        self.routes_batch.update(keys, routes, |place| {
            trie.insert(&keys[place], routes[place], 0)
        })
    }

    /// Removes routes, in order; none there is as good. Those that are refused, by their place.
    pub(super) fn remove_routes(&mut self, keys: &[Key<A>]) -> Vec<Refused> {
        let trie = &mut self.routes;
        self.routes_batch
            .delete(keys, |place| gone(trie.remove(&keys[place])))
    }

    pub(super) fn endpoints(&self) -> Result<BTreeMap<IpAddr, Endpoint>> {
        let all = read_all(&self.endpoints, self.names.endpoints)?;
        Ok(all
            .into_iter()
            .map(|(address, endpoint)| (address.into(), endpoint))
            .collect())
    }

    pub(super) fn flows(&self) -> Result<Vec<(FlowKey<IpAddr>, Flow)>> {
        let all = read_all(&self.flows, self.names.flows)?;
        Ok(all
            .into_iter()
            .map(|(key, flow)| {
                let named = key.with_addresses(key.pod.into(), key.remote.into());
                (named, flow)
            })
            .collect())
    }
}

pub(super) fn names(prefix: &IpNet) -> Names {
    match prefix {
        IpNet::V4(_) => V4,
        IpNet::V6(_) => V6,
    }
}

pub(super) fn open<T>(path: &Path, kind: fn(MapData) -> Map) -> Result<T>
where
    T: TryFrom<Map, Error = aya::maps::MapError>,
{
    let data = MapData::from_pin(path).with_context(|| {
        format!(
            "there is no map at {}: does the agent run with this --bpffs?",
            path.display()
        )
    })?;
    let misfit = || {
        format!(
            "{} is not laid out as this version of underpass expects",
            path.display()
        )
    };
    let found = data.info().and_then(|info| info.map_type());
    let map = kind(data);
    // Sizes are compared below; aya takes our word for the type.
    if read_as(found.with_context(misfit)?) != read_as(type_of(&map)) {
        anyhow::bail!(misfit());
    }
    T::try_from(map).with_context(misfit)
}

/// Both kinds of hash are read and written alike; only a full one behaves otherwise.
fn read_as(map_type: MapType) -> MapType {
    match map_type {
        MapType::LruHash => MapType::Hash,
        other => other,
    }
}

/// What the kernel calls a map of that kind.
fn type_of(map: &Map) -> MapType {
    match map {
        Map::Array(_) => MapType::Array,
        Map::DevMapHash(_) => MapType::DevMapHash,
        Map::HashMap(_) => MapType::Hash,
        Map::LpmTrie(_) => MapType::LpmTrie,
        Map::LruHashMap(_) => MapType::LruHash,
        Map::PerCpuArray(_) => MapType::PerCpuArray,
        _ => MapType::Unspecified,
    }
}

pub(super) fn read_all<K: PlainOldData, V: PlainOldData>(
    map: &HashMap<MapData, K, V>,
    name: &str,
) -> Result<Vec<(K, V)>> {
    map.iter()
        .collect::<Result<_, _>>()
        .with_context(|| format!("cannot read the map {name}"))
}

/// Takes "there was none" for "removed".
pub(super) fn gone(result: Result<(), aya::maps::MapError>) -> Result<(), aya::maps::MapError> {
    match result {
        Err(aya::maps::MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
        {
            Ok(())
        }
        Err(aya::maps::MapError::KeyNotFound) => Ok(()),
        other => other,
    }
}
