//! The maps, pinned and shown by `bpftool` under the names that stand in `#[btf_map]`.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    btf_maps::{Array, DevMapHash, HashMap, LpmTrie, LruHashMap, PerCpuArray},
    macros::btf_map,
};
use underpass_common::{
    agent::Agent,
    endpoint::Endpoint,
    flow::{Entrance, Flow, FlowKey},
    packet_trace::Traced,
    peer::{Peer, PeerName},
    pod::Pod,
    route::Route,
    settings::Settings,
    verdict::{COUNTS, Count},
    xdp::{Lease, MAX_UPLINKS},
};

/// PodCIDRs of peers, and exceptions among them.
pub const MAX_ROUTES: usize = 65_536;
/// Pods of this node: Kubernetes recommends at most 110.
pub const MAX_PODS: usize = 4_096;
/// Flows, where the agent asks for no other number (`--max-flows`).
pub const MAX_FLOWS: usize = 65_536;

const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;

#[btf_map(name = "routes_v4")]
pub static ROUTES_V4: LpmTrie<[u8; 4], Route, MAX_ROUTES> = LpmTrie::new();

#[btf_map(name = "endpoints_v4")]
pub static ENDPOINTS_V4: HashMap<[u8; 4], Endpoint, MAX_PODS> = HashMap::new();

#[btf_map(name = "flows_v4")]
pub static FLOWS_V4: LruHashMap<FlowKey<[u8; 4]>, Flow, MAX_FLOWS> = LruHashMap::new();

#[btf_map(name = "routes_v6")]
pub static ROUTES_V6: LpmTrie<[u8; 16], Route, MAX_ROUTES> = LpmTrie::new();

#[btf_map(name = "endpoints_v6")]
pub static ENDPOINTS_V6: HashMap<[u8; 16], Endpoint, MAX_PODS> = HashMap::new();

#[btf_map(name = "flows_v6")]
pub static FLOWS_V6: LruHashMap<FlowKey<[u8; 16]>, Flow, MAX_FLOWS> = LruHashMap::new();

#[btf_map(name = "verdicts")]
pub static VERDICTS: PerCpuArray<Count, { COUNTS as usize }> = PerCpuArray::new();

#[btf_map(name = "settings")]
static SETTINGS: Array<Settings, 1> = Array::new();

#[btf_map(name = "pods")]
pub static PODS: HashMap<u32, Pod, MAX_PODS> = HashMap::new();

/// Where the last pod packet that this CPU stamped had come in. Only a hint: an exit believes it
/// where the packet's own tag agrees.
#[btf_map(name = "last_stamped")]
pub static LAST_STAMPED: PerCpuArray<Entrance, 1> = PerCpuArray::new();

#[btf_map(name = "xdp_lease")]
pub static XDP_LEASE: HashMap<u32, Lease, MAX_UPLINKS> = HashMap::new();

/// Host-side veths whose pod's end takes frames from XDP.
#[btf_map(name = "xdp_pods")]
pub static XDP_PODS: DevMapHash<MAX_PODS> = DevMapHash::new();

/// Uplinks that send what XDP hands them.
#[btf_map(name = "xdp_uplinks")]
pub static XDP_UPLINKS: DevMapHash<MAX_UPLINKS> = DevMapHash::new();

/// How many lines each CPU has written of traced packets. Not pinned: it goes with the programs.
#[btf_map(name = "traced")]
pub static TRACED: PerCpuArray<Traced, 1> = PerCpuArray::new();

/// For people: no program reads it. Its entries are made when they are needed: the keys are long,
/// and most clusters small.
#[btf_map(name = "peers")]
static PEERS: HashMap<PeerName, Peer, MAX_ROUTES, NO_PREALLOC> = HashMap::new();

/// For people and for `underpass detach`: no program reads it.
#[btf_map(name = "agent")]
static AGENT: Array<Agent, 1> = Array::new();

/// The agent's settings.
#[inline(always)]
pub fn settings() -> Option<&'static Settings> {
    SETTINGS.get(0)
}
