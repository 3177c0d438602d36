//! What is known of the machine: everything that the checks judge by. Gathered elsewhere, so that each
//! check is a pure function.

use std::collections::BTreeMap;
use std::net::IpAddr;

use caps::Capability;
use underpass_common::verdict::Hook;

use crate::neighbour_limits::{Limits, Table};
use crate::world::netlink::XdpFeatures;
use crate::xdp::XdpMode;

/// What was found out, or why it could not be, in one line.
pub type Answer<T> = Result<T, String>;

/// Everything that is judged.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The kernel, and what this process may do.
    pub machine: Machine,
    /// The settings that were read, by key. `Ok(None)`: this kernel or namespace has no such setting.
    pub sysctls: BTreeMap<String, Answer<Option<u64>>>,
    /// The limits of the kernel's neighbour tables. `Ok(None)`: not shown in this namespace.
    pub limits: Vec<(Table, Answer<Option<Limits>>)>,
    /// Interfaces, peers, programs of others.
    pub network: Network,
}

/// The kernel, and what this process may do.
#[derive(Clone, Debug)]
pub struct Machine {
    /// As `uname -r` shows it.
    pub release: String,
    /// Major and minor number and patch of the kernel's version.
    pub version: Answer<[u16; 3]>,
    /// The kernel describes its types.
    pub btf: bool,
    /// What the programs need of the kernel.
    pub features: Vec<Feature>,
    /// The kernel has the hooks of TCX.
    pub tcx: Answer<bool>,
    /// Where pins go, if that lies on a BPF file system.
    pub bpffs: Answer<String>,
    /// The capabilities that are needed and not there.
    pub missing_capabilities: Answer<Vec<Capability>>,
}

/// Something that the programs cannot do without.
#[derive(Clone, Debug)]
pub struct Feature {
    /// Its name in the kernel.
    pub name: &'static str,
    /// Whether the kernel has it.
    pub there: Answer<bool>,
}

/// Interfaces, peers, programs of others.
#[derive(Clone, Debug)]
pub struct Network {
    /// The main uplink: the interface on the nodes' segment, or why there is none.
    pub uplink: Answer<Port>,
    /// An uplink was asked for, or must be there because nodes are known.
    pub uplink_is_wanted: bool,
    /// The uplinks besides, by name, or why one cannot be used.
    pub extra_uplinks: Vec<(String, Answer<Port>)>,
    /// Host ends of the pods' veths.
    pub pods: Vec<Port>,
    /// The other nodes.
    pub peers: Peers,
    /// Programs and filters of others where ours are, or will be.
    pub programs: Answer<Vec<Foreign>>,
    /// What matters to XDP; `None`: nobody asks for it.
    pub xdp: Option<XdpFacts>,
}

/// What matters where XDP is asked for.
#[derive(Clone, Debug)]
pub struct XdpFacts {
    /// Where it is to run.
    pub mode: XdpMode,
    /// GRO is to be switched on at the pods' end of their veths.
    pub sets_pod_gro: bool,
    /// What devices can do, by interface index. `Ok(None)`: this kernel does not tell.
    pub features: Answer<Option<BTreeMap<u32, XdpFeatures>>>,
    /// Why the uplink has no native XDP, if it has none: by what kind of device it is.
    pub why_not_native: String,
    /// Names of the VLANs that the uplink carries.
    pub vlans: Vec<String>,
    /// This process may enter network namespaces.
    pub may_enter: Answer<bool>,
    /// Pods whose network namespace cannot be found from here.
    pub hidden: Vec<String>,
}

/// An interface where programs are, or will be, attached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Port {
    /// Interface index.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// Its MTU, in bytes of the IP packet.
    pub mtu: u32,
    /// What hangs on it, or on its bridge, and may hold back, limit or redirect: kinds of queueing
    /// disciplines and filters.
    pub limits: Vec<String>,
    /// The MTU of the bridge before it, where there is one.
    pub bridge_mtu: Option<u32>,
    /// What it does for the kernel.
    pub offloads: Offloads,
}

/// Offloads of an interface. `None`: it does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Received segments are put together (GRO).
    pub gro: Option<bool>,
    /// Long segments are cut by the device (TSO).
    pub tso: Option<bool>,
    /// Long segments are cut as late as can be (GSO).
    pub gso: Option<bool>,
}

/// The other nodes.
#[derive(Clone, Debug, Default)]
pub struct Peers {
    /// Where they are known from, for people; `None`: nobody tells of them.
    pub source: Option<String>,
    /// Why the source tells nothing.
    pub error: Option<String>,
    /// Each with each of its addresses.
    pub list: Vec<PeerFact>,
}

/// A node's address on the segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerFact {
    /// The Node's name.
    pub name: String,
    /// Its address; `None`: it has none that can be used.
    pub address: Option<IpAddr>,
    /// What came of it.
    pub standing: Standing,
}

/// What came of a node's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has a MAC on the segment of an uplink.
    Answers,
    /// The kernel has asked for its MAC in vain.
    Silent,
    /// The kernel does not reach it straight by an uplink.
    NotOnLink(String),
    /// Its claim is refused.
    Refused(String),
    /// Nobody has asked: why.
    NotAsked(String),
}

/// A program or filter that is not ours, at a hook of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// The interface.
    pub device: String,
    /// The hook.
    pub hook: Hook,
    /// What it is, with name and id as far as they are known.
    pub what: String,
    /// Whether it runs before ours.
    pub before_ours: bool,
    /// It has XDP's place, of which there is one.
    pub is_xdp: bool,
}

impl Network {
    /// All uplinks that are there, the main one first.
    pub fn uplinks(&self) -> impl Iterator<Item = &Port> {
        let extra = self.extra_uplinks.iter().map(|(_, port)| port);
        [&self.uplink].into_iter().chain(extra).flatten()
    }
}

impl Facts {
    /// A setting that was read; one that was not is not there.
    pub fn sysctl(&self, key: &str) -> Answer<Option<u64>> {
        self.sysctls.get(key).cloned().unwrap_or(Ok(None))
    }
}
