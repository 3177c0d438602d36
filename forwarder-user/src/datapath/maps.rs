//! The pinned maps, typed.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use anyhow::{Context as _, Result};
use aya::Pod as PlainOldData;
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, HashMap, LpmTrie, Map, MapData, PerCpuArray};
use ipnet::{IpNet, Ipv4Net};
use underpass_common::agent::Agent;
use underpass_common::endpoint::Endpoint;
use underpass_common::flow::{Flow, FlowKey};
use underpass_common::map_names;
use underpass_common::peer::{Peer, PeerName};
use underpass_common::pod::Pod;
use underpass_common::route::Route;
use underpass_common::settings::Settings;
use underpass_common::verdict::{self, Count, Hook, Verdict};

use super::Pins;

/// All maps that user space reads or writes.
pub struct Maps {
    routes_v4: LpmTrie<MapData, [u8; 4], Route>,
    endpoints_v4: HashMap<MapData, [u8; 4], Endpoint>,
    flows_v4: HashMap<MapData, FlowKey<[u8; 4]>, Flow>,
    verdicts: PerCpuArray<MapData, Count>,
    settings: Array<MapData, Settings>,
    pods: HashMap<MapData, u32, Pod>,
    peers: HashMap<MapData, PeerName, Peer>,
    agent: Array<MapData, Agent>,
}

impl Maps {
    /// Opens the pinned maps.
    ///
    /// # Errors
    /// Names the map that is not there, or is not of this layout.
    pub fn open(pins: &Pins) -> Result<Self> {
        Ok(Self {
            routes_v4: open(&pins.map(map_names::ROUTES_V4), Map::LpmTrie)?,
            endpoints_v4: open(&pins.map(map_names::ENDPOINTS_V4), Map::HashMap)?,
            flows_v4: open(&pins.map(map_names::FLOWS_V4), Map::LruHashMap)?,
            verdicts: open(&pins.map(map_names::VERDICTS), Map::PerCpuArray)?,
            settings: open(&pins.map(map_names::SETTINGS), Map::Array)?,
            pods: open(&pins.map(map_names::PODS), Map::HashMap)?,
            peers: open(&pins.map(map_names::PEERS), Map::HashMap)?,
            agent: open(&pins.map(map_names::AGENT), Map::Array)?,
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

    /// The trie.
    ///
    /// # Errors
    /// Where the kernel does not answer.
    pub fn routes(&self) -> Result<BTreeMap<IpNet, Route>> {
        let mut routes = BTreeMap::new();
        for entry in &self.routes_v4 {
            let (key, route) = entry.context("cannot read the map routes_v4")?;
            // A prefix length past 32 cannot be stored: the kernel checks it.
            if let Ok(prefix) = Ipv4Net::new(key.data().into(), key.prefix_len() as u8) {
                routes.insert(prefix.into(), route);
            }
        }
        Ok(routes)
    }

    /// Adds or replaces an entry of the trie.
    ///
    /// # Errors
    /// Where the map is full, or the family has no trie yet.
    pub fn set_route(&mut self, prefix: &IpNet, route: &Route) -> Result<()> {
        self.routes_v4
            .insert(&trie_key(prefix)?, route, 0)
            .with_context(|| format!("cannot write {prefix} to the map routes_v4"))
    }

    /// Removes an entry of the trie; none there is as good.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn remove_route(&mut self, prefix: &IpNet) -> Result<()> {
        gone(self.routes_v4.remove(&trie_key(prefix)?))
            .with_context(|| format!("cannot remove {prefix} from the map routes_v4"))
    }

    /// The learned pods of this node.
    ///
    /// # Errors
    /// Where the kernel does not answer.
    pub fn endpoints(&self) -> Result<BTreeMap<IpAddr, Endpoint>> {
        let all = read_all(&self.endpoints_v4, map_names::ENDPOINTS_V4)?;
        Ok(all
            .into_iter()
            .map(|(address, endpoint)| (IpAddr::V4(Ipv4Addr::from(address)), endpoint))
            .collect())
    }

    /// Forgets a pod.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn remove_endpoint(&mut self, address: &IpAddr) -> Result<()> {
        let IpAddr::V4(v4) = address else {
            return Ok(());
        };
        gone(self.endpoints_v4.remove(&v4.octets()))
            .with_context(|| format!("cannot remove {address} from the map endpoints_v4"))
    }

    /// All flows. The table changes while it is read: an entry may be missed or, seldom, read twice.
    ///
    /// # Errors
    /// Where the kernel does not answer.
    pub fn flows(&self) -> Result<Vec<(FlowKey<[u8; 4]>, Flow)>> {
        read_all(&self.flows_v4, map_names::FLOWS_V4)
    }

    /// Forgets a flow: its packets are the kernel's until it is confirmed again.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn remove_flow(&mut self, key: &FlowKey<[u8; 4]>) -> Result<()> {
        gone(self.flows_v4.remove(key)).context("cannot remove a flow from the map flows_v4")
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

    /// Adds or replaces a node.
    ///
    /// # Errors
    /// Where the map is full.
    pub fn set_peer(&mut self, name: &PeerName, peer: &Peer) -> Result<()> {
        self.peers
            .insert(name, peer, 0)
            .context("cannot write the map peers")
    }

    /// Removes a node.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn remove_peer(&mut self, name: &PeerName) -> Result<()> {
        gone(self.peers.remove(name)).context("cannot remove from the map peers")
    }
}

fn open<T>(path: &Path, kind: fn(MapData) -> Map) -> Result<T>
where
    T: TryFrom<Map, Error = aya::maps::MapError>,
{
    let data = MapData::from_pin(path).with_context(|| {
        format!(
            "there is no map at {}: does the agent run with this --bpffs?",
            path.display()
        )
    })?;
    T::try_from(kind(data)).with_context(|| {
        format!(
            "{} is not laid out as this version of underpass expects",
            path.display()
        )
    })
}

fn read_all<K: PlainOldData, V: PlainOldData>(
    map: &HashMap<MapData, K, V>,
    name: &str,
) -> Result<Vec<(K, V)>> {
    map.iter()
        .collect::<Result<_, _>>()
        .with_context(|| format!("cannot read the map {name}"))
}

/// Takes "there was none" for "removed".
fn gone(result: Result<(), aya::maps::MapError>) -> Result<(), aya::maps::MapError> {
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

fn trie_key(prefix: &IpNet) -> Result<Key<[u8; 4]>> {
    match prefix {
        IpNet::V4(v4) => Ok(Key::new(u32::from(v4.prefix_len()), v4.network().octets())),
        IpNet::V6(v6) => anyhow::bail!("{v6}: IPv6 prefixes are not accelerated yet"),
    }
}
