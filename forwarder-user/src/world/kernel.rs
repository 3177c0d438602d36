//! The kernel's network state, as netlink tells it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use underpass_common::addr::Mac;

/// A mirror of one network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    /// By interface index.
    pub links: BTreeMap<u32, Link>,
    /// Addresses with their on-link prefix length (`10.0.0.1/24`), sorted, by interface index.
    pub addresses: BTreeMap<u32, Vec<IpNet>>,
    /// By interface index and address; without unresolved ones that nobody keeps fresh.
    pub neighbours: BTreeMap<(u32, IpAddr), Neighbour>,
    /// Routes of the main table, by destination and metric.
    pub routes: Vec<KernelRoute>,
    /// Policy rules other than the three that every namespace begins with. A change of them makes
    /// every confirmation doubtful.
    pub rules: Vec<PolicyRule>,
    /// Interfaces that take frames from XDP, by index; empty where nobody has asked.
    pub xdp_targets: BTreeSet<u32>,
    /// Programs of others on the uplinks, by interface index; empty where nobody has asked.
    pub onlookers: BTreeMap<u32, Onlookers>,
}

/// BPF programs and filters of others on an interface, by name: what XDP carries they would not see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Onlookers {
    /// On what comes in.
    pub ingress: Vec<String>,
    /// On what goes out.
    pub egress: Vec<String>,
}

impl Kernel {
    /// The devices whose drivers see, and show to XDP under their own index, the frames that come in by an interface:
    /// itself, and those members of a bond that take part. What comes in by one that stands by the bond would drop.
    pub fn receivers(&self, ifindex: u32) -> BTreeSet<u32> {
        let is_bond = |link: &Link| link.kind == LinkKind::Bond;
        let is_member = |link: &&Link| link.upper == Some(ifindex) && link.up && !link.stands_by;
        let mut receivers = BTreeSet::from([ifindex]);
        if self.links.get(&ifindex).is_some_and(is_bond) {
            let members = self.links.values().filter(is_member);
            receivers.extend(members.map(|member| member.ifindex));
        }
        receivers
    }
}

/// A policy rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRule {
    /// The rule in one line, much as `ip rule` shows it.
    pub text: String,
    /// Of IPv6, else of IPv4.
    pub is_ipv6: bool,
    /// It tells packets of one flow apart: by their TOS, DSCP or flow label, or by what only a newer
    /// kernel knows. The way of one packet says nothing of the next one's then.
    pub splits_flows: bool,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: LinkKind,
    /// Its own MAC.
    pub mac: Mac,
    /// Its MTU, in bytes of the IP packet.
    pub mtu: u32,
    /// Its MTU for IPv6 (`net.ipv6.conf.NAME.mtu`, which a router's advertisement may set too), never
    /// above `mtu`; `None`: no IPv6 on it.
    pub mtu_v6: Option<u32>,
    /// Administratively up and with carrier.
    pub up: bool,
    /// Interface index of the bridge it is a port of.
    pub master: Option<u32>,
    /// Interface index of what takes all that comes in by it, and has the addresses: a bond, a team, a bridge or the
    /// like (the kernel's word is "master"). A VRF takes nothing away.
    pub upper: Option<u32>,
    /// It stands by in its bond, which drops what comes in by it.
    pub stands_by: bool,
    /// Kinds of its queueing disciplines that may hold packets back, sorted. Not those which send on
    /// at once what the device takes (`noqueue`, `pfifo_fast`, `fq_codel`, ...).
    pub qdiscs: Vec<String>,
    /// Kinds of the filters on what comes in (`clsact` or `ingress`) that may limit or redirect,
    /// sorted. Not BPF programs that decide by themselves.
    pub ingress_filters: Vec<String>,
    /// The same of what goes out (`clsact`).
    pub egress_filters: Vec<String>,
}

impl Link {
    /// True where something holds back, limits or redirects packets on their way through it, in
    /// either direction.
    pub fn shapes(&self) -> bool {
        !(self.qdiscs.is_empty()
            && self.ingress_filters.is_empty()
            && self.egress_filters.is_empty())
    }

    /// True where the kernel forwards over it no packet as large as its MTU, for this route's sake.
    pub fn is_narrowed_by(&self, route: &KernelRoute) -> bool {
        let for_ipv6 = self.mtu_v6.filter(|_| route.destination.addr().is_ipv6());
        [route.mtu, for_ipv6]
            .into_iter()
            .flatten()
            .any(|mtu| mtu < self.mtu)
    }
}

/// What an interface is, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// A virtual Ethernet pair's end.
    Veth(VethPeer),
    /// A bridge.
    Bridge,
    /// A bond of several interfaces.
    Bond,
    /// A VLAN (IEEE 802.1Q) of the interface with this index.
    Vlan(u32),
    /// Anything else.
    Other,
}

/// The other end of a veth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VethPeer {
    /// Its interface index in its own namespace.
    pub ifindex: u32,
    /// Our id for its namespace; `None`: it lives in ours.
    pub netns_id: Option<i32>,
    /// Its MAC, where it could be read.
    pub mac: Option<Mac>,
}

/// An entry of the neighbour table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its MAC. `None`: being resolved, or failed.
    pub mac: Option<Mac>,
    /// Set by an administrator (`NUD_PERMANENT`, `NUD_NOARP`): not ours to change.
    pub permanent: bool,
    /// Kept fresh by the kernel on somebody's request (`NTF_EXT_MANAGED`).
    pub managed: bool,
    /// Who made it (`NDA_PROTOCOL`); 0: nobody said.
    pub protocol: u8,
}

/// A route of the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelRoute {
    /// Destination; the default route is `0.0.0.0/0` or `::/0`.
    pub destination: IpNet,
    /// What it does.
    pub kind: RouteKind,
    /// Who made it (`rtm_protocol`).
    pub protocol: u8,
    /// Metric; the lowest wins among routes to one destination.
    pub priority: u32,
    /// The MTU that it was given (`mtu 1400`), which the kernel honours when it forwards
    /// (`ip_dst_mtu_maybe_forward()` of include/net/ip.h, and its like for IPv6).
    pub mtu: Option<u32>,
}

/// What a route does with a packet.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum RouteKind {
    /// To a gateway, out of an interface.
    Gateway {
        /// Next hop.
        gateway: IpAddr,
        /// Interface index.
        ifindex: u32,
    },
    /// Straight out of an interface: the destination is on-link.
    OnLink {
        /// Interface index.
        ifindex: u32,
    },
    /// Blackhole, unreachable, prohibit, throw, multipath, and whatever else is not one next hop.
    Other,
}
