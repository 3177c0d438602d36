//! What the agent says of itself, for `underpass status`; no program reads it.

/// The one entry of the map `agent`. It outlives the agent, as everything pinned does.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Seconds since the epoch when this agent started.
    pub started_unix_s: u64,
    /// Seconds since the epoch when the nodes were last read without an error, or their source was last
    /// heard where it gives signs of life; 0: never.
    pub nodes_read_unix_s: u64,
    /// What the agent made of policy rules, and of routes that lead pods' addresses elsewhere, in one
    /// number: where it is another one, every flow is confirmed anew.
    pub routing_digest: u64,
    /// Process id, in the agent's own PID namespace.
    pub pid: u32,
    /// Interface index of the uplink; 0: none found.
    pub uplink_ifindex: u32,
    /// 1: the agent keeps the kernel's host-gw routes itself (`--routes manage`).
    pub manages_routes: u8,
    /// A [`NodesSource`]; 0: not told.
    pub nodes_source: u8,
    /// The agent's version: major, minor, patch; zeros: one of before this was told.
    pub version: [u16; 3],
    /// An [`Ingress`].
    pub ingress: u8,
    /// Always 0.
    pub _pad: [u8; 7],
    /// This node's name, ended by zeros.
    pub node_name: [u8; 256],
    /// The newest error of the nodes' source, ended by zeros; empty: none.
    pub nodes_error: [u8; 512],
    /// Why XDP that was asked for is not on the uplink, ended by zeros; empty: it is, or nobody asked.
    pub xdp_error: [u8; 256],
}

/// Who looks first at what comes in by the uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Ingress {
    /// TC.
    Tc = 0,
    /// XDP in the device's driver.
    XdpNative = 1,
    /// XDP behind it.
    XdpGeneric = 2,
}

impl Ingress {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tc, Self::XdpNative, Self::XdpGeneric];

    /// Its name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tc => "tc",
            Self::XdpNative => "xdp",
            Self::XdpGeneric => "xdp_generic",
        }
    }

    /// The one of that number, where there is one.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|one| *one as u8 == number)
    }
}

/// Where the nodes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum NodesSource {
    /// A file, which says nothing between its changes.
    File = 1,
    /// The Kubernetes API, which gives a sign of life about once a minute.
    Kubernetes = 2,
}

impl NodesSource {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::File, Self::Kubernetes];

    /// Its name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Kubernetes => "kubernetes",
        }
    }
}

const _: () = assert!(size_of::<Agent>() == 48 + 256 + 512 + 256);
