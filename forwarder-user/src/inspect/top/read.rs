//! Reads the pins.

use std::net::IpAddr;
use std::time::Instant;

use anyhow::{Context as _, Result};
use tokio::runtime::Builder;
use underpass_common::flow::{Flow, FlowKey};
use underpass_common::map_names;

use super::super::{open, status};
use super::reading::Reading;
use crate::datapath::maps::{Fill, filled};
use crate::datapath::only_agent::{Told, ask_agent};
use crate::datapath::{Maps, Pins};

/// Reads everything. The pins are opened each time: an agent may have put others there.
///
/// # Errors
/// Where there is nothing, or the maps cannot be read.
pub(super) fn read(pins: &Pins) -> Result<Reading> {
    let status = status::read(pins)?;
    let at = Instant::now();
    let maps = open(pins)?;
    let (settings, flows) = (maps.settings()?, maps.flows()?);
    let fills = fills(pins, &maps, &flows)?;
    let mut reading = Reading::new(at, status, &flows, &settings, fills);
    if reading.status.agent_running {
        reading.agent = agent()?;
    }
    Ok(reading)
}

/// What the maps do not hold. Its directory may have another name here than in its container.
fn agent() -> Result<Option<Told>> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the asynchronous runtime")?;
    Ok(runtime.block_on(ask_agent()))
}

/// Counted by what is read whole anyway: key by key a large table would cost a call for each flow.
fn fills(pins: &Pins, maps: &Maps, flows: &[(FlowKey<IpAddr>, Flow)]) -> Result<Vec<Fill>> {
    let by_family = |v4: usize, all: usize| [v4, all - v4];
    let routes = maps.routes()?;
    let routes_v4 = routes.keys().filter(|prefix| prefix.addr().is_ipv4());
    let endpoints = maps.endpoints()?;
    let endpoints_v4 = endpoints.keys().filter(|address| address.is_ipv4());
    let flows_v4 = flows.iter().filter(|(key, _)| key.pod.is_ipv4());
    let [routes_v4, routes_v6] = by_family(routes_v4.count(), routes.len());
    let [endpoints_v4, endpoints_v6] = by_family(endpoints_v4.count(), endpoints.len());
    let [flows_v4, flows_v6] = by_family(flows_v4.count(), flows.len());
    [
        (map_names::ROUTES_V4, routes_v4),
        (map_names::ROUTES_V6, routes_v6),
        (map_names::ENDPOINTS_V4, endpoints_v4),
        (map_names::ENDPOINTS_V6, endpoints_v6),
        (map_names::FLOWS_V4, flows_v4),
        (map_names::FLOWS_V6, flows_v6),
        (map_names::PODS, maps.pods()?.len()),
        (map_names::PEERS, maps.peers()?.len()),
    ]
    .into_iter()
    .map(|(map, entries)| filled(pins, map, entries))
    .collect()
}
