//! The pinned maps, typed.

mod batch;
mod fill;
mod routes;
mod tables;
mod xdp;

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context as _, Error, Result, bail};
use aya::maps::xdp::DevMapHash;
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray};
use underpass_common::agent::Agent;
use underpass_common::endpoint::Endpoint;
use underpass_common::flow::{Flow, FlowKey};
use underpass_common::map_names;
use underpass_common::peer::{Peer, PeerName};
use underpass_common::pod::Pod;
use underpass_common::settings::Settings;
use underpass_common::verdict::{self, Count, Hook, Verdict};
use underpass_common::xdp::Lease;

use super::Pins;
use batch::Batch;
pub use fill::{Fill, filled, fills};
use tables::{Tables, gone, open, read_all};

/// All maps that user space reads or writes.
pub struct Maps {
    v4: Tables<[u8; 4]>,
    v6: Tables<[u8; 16]>,
    verdicts: PerCpuArray<MapData, Count>,
    settings: Array<MapData, Settings>,
    pods: HashMap<MapData, u32, Pod>,
    peers: HashMap<MapData, PeerName, Peer>,
    peers_batch: Batch<PeerName, Peer>,
    agent: Array<MapData, Agent>,
    xdp_lease: HashMap<MapData, u32, Lease>,
    xdp_pods: DevMapHash<MapData>,
    xdp_uplinks: DevMapHash<MapData>,
}

impl Maps {
    /// Opens the pinned maps.
    ///
    /// # Errors
    /// Names the map that is not there, or is not of this layout.
    pub fn open(pins: &Pins) -> Result<Self> {
        Ok(Self {
            v4: Tables::open(pins, tables::V4)?,
            v6: Tables::open(pins, tables::V6)?,
            verdicts: open(&pins.map(map_names::VERDICTS), Map::PerCpuArray)?,
            settings: open(&pins.map(map_names::SETTINGS), Map::Array)?,
            pods: open(&pins.map(map_names::PODS), Map::HashMap)?,
            peers: open(&pins.map(map_names::PEERS), Map::HashMap)?,
            peers_batch: Batch::open(&pins.map(map_names::PEERS))?,
            agent: open(&pins.map(map_names::AGENT), Map::Array)?,
            xdp_lease: open(&pins.map(map_names::XDP_LEASE), Map::HashMap)?,
            xdp_pods: open(&pins.map(map_names::XDP_PODS), Map::DevMapHash)?,
            xdp_uplinks: open(&pins.map(map_names::XDP_UPLINKS), Map::DevMapHash)?,
        })
    }

    /// The switches.
    ///
    /// # Errors
    /// Where the kernel does not answer.
    pub fn settings(&self) -> Result<Settings> {
        self.settings
            .get(&0, 0)
            .context("cannot read the map settings")
    }

    /// Writes the switches.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn set_settings(&mut self, settings: &Settings) -> Result<()> {
        self.settings
            .set(0, settings, 0)
            .context("cannot write the map settings")
    }

    /// What the agent last said of itself.
    ///
    /// # Errors
    /// Where the kernel does not answer.
    pub fn agent(&self) -> Result<Agent> {
        self.agent.get(&0, 0).context("cannot read the map agent")
    }

    /// Says something of the agent.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn set_agent(&mut self, agent: &Agent) -> Result<()> {
        self.agent
            .set(0, agent, 0)
            .context("cannot write the map agent")
    }

    /// The learned pods of this node.
    ///
    /// # Errors
    /// Where the kernel does not answer.
    pub fn endpoints(&self) -> Result<BTreeMap<IpAddr, Endpoint>> {
        let mut endpoints = self.v4.endpoints()?;
        endpoints.append(&mut self.v6.endpoints()?);
        Ok(endpoints)
    }

    /// Forgets a pod.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn remove_endpoint(&mut self, address: &IpAddr) -> Result<()> {
        gone(match address {
            IpAddr::V4(v4) => self.v4.endpoints.remove(&v4.octets()),
            IpAddr::V6(v6) => self.v6.endpoints.remove(&v6.octets()),
        })
        .with_context(|| format!("cannot remove the endpoint {address}"))
    }

    /// All flows. The tables change while they are read: an entry may be missed or, seldom, read
    /// twice.
    ///
    /// # Errors
    /// Where the kernel does not answer.
    pub fn flows(&self) -> Result<Vec<(FlowKey<IpAddr>, Flow)>> {
        let mut flows = self.v4.flows()?;
        flows.append(&mut self.v6.flows()?);
        Ok(flows)
    }

    /// Forgets a flow: its packets are the kernel's until it is confirmed again.
    ///
    /// # Errors
    /// Where the kernel refuses, or the key has addresses of two families.
    pub fn remove_flow(&mut self, key: &FlowKey<IpAddr>) -> Result<()> {
        gone(match (key.pod, key.remote) {
            (IpAddr::V4(pod), IpAddr::V4(remote)) => {
                let key = key.with_addresses(pod.octets(), remote.octets());
                self.v4.flows.remove(&key)
            }
            (IpAddr::V6(pod), IpAddr::V6(remote)) => {
                let key = key.with_addresses(pod.octets(), remote.octets());
                self.v6.flows.remove(&key)
            }
            (pod, remote) => bail!("{pod} and {remote} have no flow: they are of two families"),
        })
        .context("cannot remove a flow")
    }

    /// Packets and bytes by hook and verdict, summed over all CPUs.
    ///
    /// # Errors
    /// Where the kernel does not answer.
    pub fn verdicts(&self) -> Result<Vec<(Hook, Verdict, Count)>> {
        let mut counts = Vec::new();
        for hook in Hook::ALL {
            for &verdict in Verdict::ALL {
                let per_cpu = self
                    .verdicts
                    .get(&verdict::index(hook, verdict), 0)
                    .context("cannot read the map verdicts")?;
                let sum = per_cpu.iter().fold(Count::default(), |sum, cpu| Count {
                    packets: sum.packets.wrapping_add(cpu.packets),
                    bytes: sum.bytes.wrapping_add(cpu.bytes),
                });
                counts.push((hook, verdict, sum));
            }
        }
        Ok(counts)
    }

    /// The veths that the agent knows, by interface index.
    ///
    /// # Errors
    /// Where the kernel does not answer.
    pub fn pods(&self) -> Result<BTreeMap<u32, Pod>> {
        Ok(read_all(&self.pods, map_names::PODS)?.into_iter().collect())
    }

    /// Adds or replaces a veth.
    ///
    /// # Errors
    /// Where the map is full.
    pub fn set_pod(&mut self, ifindex: u32, pod: &Pod) -> Result<()> {
        self.pods
            .insert(ifindex, pod, 0)
            .context("cannot write the map pods")
    }

    /// Removes a veth.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn remove_pod(&mut self, ifindex: u32) -> Result<()> {
        gone(self.pods.remove(&ifindex)).context("cannot remove from the map pods")
    }

    /// The other nodes.
    ///
    /// # Errors
    /// Where the kernel does not answer.
    pub fn peers(&self) -> Result<Vec<(PeerName, Peer)>> {
        read_all(&self.peers, map_names::PEERS)
    }

    /// Adds or replaces nodes. Those that could not be written.
    pub fn set_peers(&mut self, peers: &[(PeerName, Peer)]) -> Vec<Error> {
        let (names, records): (Vec<PeerName>, Vec<Peer>) = peers.iter().copied().unzip();
        let map = &mut self.peers;
        let refused = self.peers_batch.update(&names, &records, |place| {
            map.insert(names[place], records[place], 0)
        });
        let told = |(_, error)| Error::new(error).context("cannot write the map peers");
        refused.into_iter().map(told).collect()
    }

    /// Removes a node.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn remove_peer(&mut self, name: &PeerName) -> Result<()> {
        gone(self.peers.remove(name)).context("cannot remove from the map peers")
    }
}
