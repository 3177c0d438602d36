//! Who takes part: ways to connect the same pods.

use std::fmt;
use std::str::FromStr;

use super::trial::{Target, Traffic, Trial};

/// A way from one end to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contender {
    /// The ends' stacks straight on the switch: the limit.
    Wire,
    /// Node to node, without pods, on the nodes of `routes`.
    Node,
    /// host-gw as Flannel makes it, without any rule of netfilter.
    Routes,
    /// The same once more, in a cluster of its own: by how much two like ones differ is the noise.
    RoutesTwin,
    /// host-gw with Flannel's and kube-proxy's rules and thousands of Services, in iptables.
    RoutesProxied,
    /// The same in nftables.
    RoutesProxiedNft,
    /// VXLAN as Flannel makes it, without rules.
    Vxlan,
    /// Underpass beside what `routes-proxied` has.
    Underpass,
    /// Underpass beside what `routes` has.
    UnderpassClean,
    /// Underpass with `--offload always`, beside what `routes-proxied` has.
    UnderpassAlways,
    /// A stand-in for xdp-tools' xdp-forward, beside what `routes` has: TC programs that ask the FIB
    /// (`bpf_fib_lookup`) for every packet, and redirect it.
    FibHelper,
    /// The least that programs at Underpass's hooks can do, beside what `routes` has: one lookup, two MACs, a redirect. It
    /// keeps no rule; what it loses to `node` no program at these hooks can win back.
    HooksLimit,
    /// Underpass with `--ingress xdp`, beside what `routes` has. Its nodes' wires carry whole frames, as real ones do: a
    /// checksum in each, none larger than the MTU. So it is compared with `underpass-whole` and not with the others.
    UnderpassXdp,
    /// Underpass with TC on wires and pods like those of `underpass-xdp`.
    UnderpassWhole,
    /// Underpass with `--ingress xdp` and `--offload always`, of packets in transit.
    UnderpassXdpAlways,
    /// `fib-helper` in XDP, of packets in transit.
    FibHelperXdp,
}

impl Contender {
    /// All, in the order in which they are told.
    pub const ALL: [Self; 16] = [
        Self::Wire,
        Self::Node,
        Self::Routes,
        Self::RoutesTwin,
        Self::RoutesProxied,
        Self::RoutesProxiedNft,
        Self::Vxlan,
        Self::Underpass,
        Self::UnderpassClean,
        Self::UnderpassAlways,
        Self::FibHelper,
        Self::HooksLimit,
        Self::UnderpassXdp,
        Self::UnderpassWhole,
        Self::UnderpassXdpAlways,
        Self::FibHelperXdp,
    ];

    /// The name on the command line and in the report.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wire => "wire",
            Self::Node => "node",
            Self::Routes => "routes",
            Self::RoutesTwin => "routes-twin",
            Self::RoutesProxied => "routes-proxied",
            Self::RoutesProxiedNft => "routes-proxied-nft",
            Self::Vxlan => "vxlan",
            Self::Underpass => "underpass",
            Self::UnderpassClean => "underpass-clean",
            Self::UnderpassAlways => "underpass-always",
            Self::UnderpassXdp => "underpass-xdp",
            Self::UnderpassWhole => "underpass-whole",
            Self::UnderpassXdpAlways => "underpass-xdp-always",
            Self::FibHelperXdp => "fib-helper-xdp",
            Self::FibHelper => "fib-helper",
            Self::HooksLimit => "hooks-limit",
        }
    }

    /// What it is, in one line.
    pub const fn description(self) -> &'static str {
        match self {
            Self::Wire => "the ends' stacks straight on the switch: the limit",
            Self::Node => "node to node without pods, on the nodes of routes",
            Self::Routes => "host-gw as Flannel makes it, no rule of netfilter",
            Self::RoutesTwin => "routes once more: what the two differ by is noise",
            Self::RoutesProxied => {
                "host-gw with Flannel's and kube-proxy's rules and thousands of Services, iptables"
            }
            Self::RoutesProxiedNft => "the same in nftables",
            Self::Vxlan => "VXLAN as Flannel makes it, no rule of netfilter",
            Self::Underpass => "Underpass beside what routes-proxied has",
            Self::UnderpassClean => "Underpass beside what routes has",
            Self::UnderpassAlways => {
                "Underpass with --offload always, beside what routes-proxied has"
            }
            Self::UnderpassXdp => {
                "Underpass with --ingress xdp, beside routes, with whole frames on the wire and GRO in the pods"
            }
            Self::UnderpassWhole => {
                "Underpass with TC on wires and pods like those of underpass-xdp"
            }
            Self::UnderpassXdpAlways => {
                "Underpass with --ingress xdp and --offload always, in transit, beside routes"
            }
            Self::FibHelperXdp => "fib-helper in XDP, in transit, beside routes",
            Self::FibHelper => {
                "a stand-in for xdp-forward: TC programs that ask the FIB for every packet, beside routes"
            }
            Self::HooksLimit => {
                "the least that TC programs at the same hooks can do: one lookup, two MACs, a redirect"
            }
        }
    }

    /// Whether this trial can be run there: Services and masquerading take rules. Beside `--offload always`
    /// Services are there and not used: it sends what the pod behind one answers past the translation. In transit wires
    /// carry whole frames by whomever, a node is never alone, and a packet has no tunnel; and the limit is that of
    /// sender and sink, which know no TCP.
    pub const fn runs(self, trial: Trial) -> bool {
        match trial.target {
            Target::Peer => !matches!(self, Self::UnderpassXdpAlways | Self::FibHelperXdp),
            Target::Service => self.is_proxied() && !matches!(self, Self::UnderpassAlways),
            Target::Outside => self.is_proxied(),
            Target::Transit => match self {
                Self::Node | Self::Vxlan | Self::UnderpassWhole | Self::HooksLimit => false,
                Self::Wire => matches!(trial.traffic, Traffic::Flood(_)),
                _ => true,
            },
        }
    }

    /// With kube-proxy's and Flannel's rules.
    pub const fn is_proxied(self) -> bool {
        matches!(
            self,
            Self::RoutesProxied | Self::RoutesProxiedNft | Self::Underpass | Self::UnderpassAlways
        )
    }

    /// With frames on the nodes' wires that a NIC need not finish, and pods that join what they receive.
    pub const fn has_whole_frames(self) -> bool {
        matches!(self, Self::UnderpassXdp | Self::UnderpassWhole)
    }

    /// With agents of Underpass.
    pub const fn has_agents(self) -> bool {
        matches!(
            self,
            Self::Underpass
                | Self::UnderpassClean
                | Self::UnderpassAlways
                | Self::UnderpassXdp
                | Self::UnderpassWhole
                | Self::UnderpassXdpAlways
        )
    }

    /// With agents that ask for XDP.
    pub const fn is_by_xdp(self) -> bool {
        matches!(self, Self::UnderpassXdp | Self::UnderpassXdpAlways)
    }

    /// With agents that ask for `--offload always`.
    pub const fn is_always(self) -> bool {
        matches!(self, Self::UnderpassAlways | Self::UnderpassXdpAlways)
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Contender {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|it| it.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("there is no contender {name:?}; there are {names}")
        })
    }
}
