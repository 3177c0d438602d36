//! Looks at the machine.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Result;
use caps::Capability;
use ipnet::IpNet;
use underpass_common::peer::PeerState;
use underpass_common::settings::Offload;
use underpass_common::verdict::Hook;

use super::facts::{Answer, Facts, Foreign, Network, PeerFact, Peers, Port, Standing, XdpFacts};
use super::nodes::{self, Nodes};
use super::{foreign, probes, reach, settings};
use crate::capabilities;
use crate::cli::{CheckArgs, IngressArgs, IngressMode, PodGro};
use crate::config::{Config, Ingress, RoutesMode, UplinkChoice};
use crate::datapath::{Maps, Pins};
use crate::ethtool;
use crate::inspect::peers::{self, PeerReport};
use crate::inspect::print;
use crate::neighbour_limits::{Kernels, Limits, Table};
use crate::plan::{PeerPlan, Plan, Subject, plan};
use crate::sysctl;
use crate::world::kernel::LinkKind;
use crate::world::netlink::{Netlink, namespace_with_id, xdp_features};
use crate::world::{Kernel, Link, Node, World};

/// Gathers all facts. What cannot be found out is a fact as well.
pub async fn gather(args: &CheckArgs) -> Facts {
    let pins = Pins::new(&args.read.pins.bpffs);
    let machine = probes::machine(&pins);
    let tcx = machine.tcx == Ok(true);
    let network = match look(args, &pins, tcx).await {
        Ok(network) => network,
        Err(error) => unseen(&format!("{error:#}")),
    };
    let uplinks: Vec<&str> = network.uplinks().map(|port| port.name.as_str()).collect();
    Facts {
        sysctls: sysctls(&uplinks),
        limits: Table::ALL.map(|table| (table, limits(table))).to_vec(),
        machine,
        network,
    }
}

fn limits(table: Table) -> Answer<Option<Limits>> {
    Limits::read(&Kernels, table).map_err(|error| format!("{error:#}"))
}

fn sysctls(uplinks: &[&str]) -> BTreeMap<String, Answer<Option<u64>>> {
    let told = |answer: Result<Option<u64>>| answer.map_err(|error| format!("{error:#}"));
    let keys = [
        sysctl::IPV4_FORWARD,
        sysctl::IPV6_FORWARD,
        sysctl::TCP_BE_LIBERAL,
        sysctl::TCP_LOOSE,
        settings::RP_FILTER_ALL,
        settings::BRIDGE_NF,
    ];
    let read = |key: &str| (key.to_owned(), told(sysctl::read(key)));
    let mut sysctls: BTreeMap<_, _> = keys.into_iter().map(read).collect();
    let own: Answer<Vec<_>> = uplinks
        .iter()
        .map(|uplink| told(sysctl::rp_filter(uplink)))
        .collect();
    if !uplinks.is_empty() {
        // 1 is the strictest, and what one of them does is told.
        let strictest = own.map(|all| {
            let strict = all.iter().find(|value| **value == Some(1));
            strict.or(all.first()).copied().flatten()
        });
        sysctls.insert(settings::RP_FILTER_UPLINK.to_owned(), strictest);
    }
    sysctls
}

/// Where the kernel does not show its interfaces at all.
fn unseen(error: &str) -> Network {
    Network {
        uplink: Err(error.to_owned()),
        uplink_is_wanted: true,
        extra_uplinks: Vec::new(),
        pods: Vec::new(),
        peers: Peers::default(),
        programs: Err(error.to_owned()),
        xdp: None,
    }
}

/// What is known of interfaces and peers before anybody is asked.
struct Sight {
    uplink: Answer<u32>,
    uplink_is_wanted: bool,
    extra_uplinks: Vec<(String, Answer<u32>)>,
    pods: Vec<u32>,
    peers: Peers,
}

async fn look(args: &CheckArgs, pins: &Pins, tcx: bool) -> Result<Network> {
    let netlink = Netlink::to_ask()?;
    let kernel = netlink.read_all().await?;
    let is_chosen = args.uplink.is_given() || !args.extra.extra_iface.is_empty();
    let config = config(args, &netlink).await?;
    let mut sight = match nodes::read(args, pins).await {
        Nodes::Objects(source, nodes) => by_nodes(source, nodes, config, &kernel),
        Nodes::Maps(maps) => by_maps(pins, &maps, is_chosen.then_some(config), &kernel)?,
        Nodes::Nobody => by_kernel(None, is_chosen, config, &kernel),
        Nodes::Failed(error) => by_kernel(Some(error), is_chosen, config, &kernel),
    };
    ask_peers(&netlink, &kernel, &mut sight).await;
    let there =
        |ifindex| port(&kernel, ifindex).ok_or_else(|| format!("the interface {ifindex} is gone"));
    let uplink = sight.uplink.and_then(there);
    let extra_uplinks = sight.extra_uplinks.into_iter();
    let extra_uplinks: Vec<_> = extra_uplinks
        .map(|(name, found)| (name, found.and_then(there)))
        .collect();
    let pods: Vec<_> = sight
        .pods
        .iter()
        .filter_map(|&ifindex| port(&kernel, ifindex))
        .collect();
    let xdp = match args.ingress.ingress {
        IngressMode::Tc => None,
        IngressMode::Xdp => {
            let looked = xdp(
                &args.ingress,
                &netlink,
                &kernel,
                uplink.as_ref().ok(),
                &pods,
            );
            Some(looked.await?)
        }
    };
    let mut network = Network {
        uplink,
        uplink_is_wanted: sight.uplink_is_wanted,
        extra_uplinks,
        pods,
        peers: sight.peers,
        programs: Ok(Vec::new()),
        xdp,
    };
    let programs = programs(&netlink, pins, &network, tcx).await;
    network.programs = programs.map_err(|error| format!("{error:#}"));
    Ok(network)
}

/// What matters to XDP.
async fn xdp(
    args: &IngressArgs,
    netlink: &Netlink,
    kernel: &Kernel,
    uplink: Option<&Port>,
    pods: &[Port],
) -> Result<XdpFacts> {
    let is_vlan =
        |link: &&Link| uplink.is_some_and(|uplink| link.kind == LinkKind::Vlan(uplink.ifindex));
    let vlans = kernel.links.values().filter(is_vlan);
    let sets_pod_gro = args.pod_gro == PodGro::Set;
    let is_hidden = |pod: &&Port| match kernel.links.get(&pod.ifindex).map(|link| &link.kind) {
        Some(LinkKind::Veth(peer)) => peer.netns_id.and_then(namespace_with_id).is_none(),
        _ => false,
    };
    let hidden = pods.iter().filter(|pod| sets_pod_gro && is_hidden(pod));
    let told = |error: anyhow::Error| format!("{error:#}");
    Ok(XdpFacts {
        mode: args.xdp_mode,
        sets_pod_gro,
        features: xdp_features().map_err(told),
        why_not_native: match uplink {
            Some(uplink) => netlink.why_not_native(uplink.ifindex).await?,
            None => String::new(),
        },
        vlans: vlans.map(|link| link.name.clone()).collect(),
        may_enter: capabilities::has(Capability::CAP_SYS_ADMIN).map_err(told),
        hidden: hidden.map(|pod| pod.name.clone()).collect(),
    })
}

/// As an agent with these arguments has it.
async fn config(args: &CheckArgs, netlink: &Netlink) -> Result<Config> {
    let mut uplink = args.uplink.clone().choice();
    if let UplinkChoice::Reach { target, ifindex } = &mut uplink {
        *ifindex = netlink.route_to(*target).await?;
    }
    Ok(Config {
        node_name: args.node_name.clone().unwrap_or_default(),
        nodes_source: "nodes".into(),
        uplink,
        extra_uplinks: args.extra.extra_iface.clone(),
        cluster_cidrs: Vec::new(),
        offload: Offload::Confirmed,
        routes: RoutesMode::Observe,
        ingress: Ingress::Tc,
    })
}

fn planned(config: &Config, nodes: Vec<Node>, kernel: &Kernel) -> Plan {
    let world = World {
        nodes: Some(nodes),
        kernel: kernel.clone(),
    };
    // Only nodes that were not read yet have no plan.
    plan(config, &world).unwrap_or_default()
}

fn uplink_of(plan: &Plan) -> Answer<u32> {
    let why = || {
        let mut problems = plan.problems.iter();
        let about_uplink = problems.find(|one| one.subject == Subject::Uplink);
        about_uplink.map_or_else(|| "no uplink".into(), ToString::to_string)
    };
    plan.main_uplink()
        .map(|uplink| uplink.ifindex)
        .ok_or_else(why)
}

/// Those besides it, and why one of them cannot be used.
fn extra_uplinks_of(plan: &Plan) -> Vec<(String, Answer<u32>)> {
    let extra = plan.uplinks.iter().filter(|uplink| !uplink.is_main);
    let unfit = plan.problems.iter().filter_map(|one| match &one.subject {
        Subject::ExtraUplink(name) => Some((name.clone(), Err(one.to_string()))),
        _ => None,
    });
    extra
        .map(|uplink| (uplink.name.clone(), Ok(uplink.ifindex)))
        .chain(unfit)
        .collect()
}

/// By what an agent would make of these nodes.
fn by_nodes(source: String, nodes: Vec<Node>, mut config: Config, kernel: &Kernel) -> Sight {
    let ours = kernel.addresses.values().flatten();
    let ours: Vec<IpAddr> = ours.map(IpNet::addr).collect();
    let told = Some(config.node_name.as_str()).filter(|name| !name.is_empty());
    let own = nodes::own_name(told, &nodes, &ours).unwrap_or_default();
    let is_there = nodes.iter().any(|node| node.name == own);
    let error = (!is_there).then(|| match own.as_str() {
        "" => format!("{source}: no Node has an address of this machine: name it with --node-name"),
        own => format!("{source}: no Node is named {own:?}, as --node-name says this one is"),
    });
    config.node_name = own;
    let plan = planned(&config, nodes, kernel);
    Sight {
        uplink: uplink_of(&plan),
        uplink_is_wanted: true,
        extra_uplinks: extra_uplinks_of(&plan),
        pods: plan.pods.keys().copied().collect(),
        peers: Peers {
            source: Some(source),
            error,
            list: plan.peers.iter().flat_map(planned_peer).collect(),
        },
    }
}

fn planned_peer((name, peer): (&String, &PeerPlan)) -> Vec<PeerFact> {
    let detail = || peer.detail.clone().unwrap_or_default();
    let fact = |address: Option<IpAddr>, standing: Standing| PeerFact {
        name: name.clone(),
        address,
        standing,
    };
    if peer.state == PeerState::Refused {
        let address = peer.addresses.first().copied();
        return vec![fact(address, Standing::Refused(detail()))];
    }
    let of = |address: &IpAddr| {
        let family = match address {
            IpAddr::V4(_) => peer.v4,
            IpAddr::V6(_) => peer.v6,
        }?;
        let standing = match family.state {
            PeerState::NotOnLink => Standing::NotOnLink(detail()),
            _ => Standing::Silent,
        };
        Some(fact(Some(*address), standing))
    };
    peer.addresses.iter().filter_map(of).collect()
}

/// By what an agent has left in its maps; `chosen` is an uplink that was asked for by name.
fn by_maps(pins: &Pins, maps: &Maps, chosen: Option<Config>, kernel: &Kernel) -> Result<Sight> {
    let (uplink, extra_uplinks) = match chosen {
        Some(config) => {
            let plan = planned(&config, Vec::new(), kernel);
            (uplink_of(&plan), extra_uplinks_of(&plan))
        }
        None => {
            let agent = maps.agent()?;
            let main = agent.uplink_ifindex;
            let all = crate::inspect::uplinks(pins, &agent)?.into_iter();
            let extra = all.filter(|ifindex| *ifindex != main);
            let named = extra.map(|ifindex| (print::interface(ifindex), Ok(ifindex)));
            (Ok(main), named.collect())
        }
    };
    let peers = peers::read(maps)?;
    Ok(Sight {
        uplink,
        uplink_is_wanted: true,
        extra_uplinks,
        pods: maps.pods()?.into_keys().collect(),
        peers: Peers {
            source: Some("agent's maps".into()),
            error: None,
            list: peers.iter().flat_map(reported_peer).collect(),
        },
    })
}

fn reported_peer(peer: &PeerReport) -> Vec<PeerFact> {
    let fact = |address: Option<IpAddr>, standing: Standing| PeerFact {
        name: peer.name.clone(),
        address,
        standing,
    };
    if let Some(why) = peer.refusal {
        return vec![fact(peer.address, Standing::Refused(why.into()))];
    }
    let families = peer
        .families
        .iter()
        .filter(|family| family.refusal.is_none());
    families
        .map(|family| {
            let standing = match family.state {
                "not_on_link" => Standing::NotOnLink("as the agent found".into()),
                _ => Standing::Silent,
            };
            fact(family.address, standing)
        })
        .collect()
}

/// By the kernel alone: nobody tells of nodes.
fn by_kernel(error: Option<String>, is_chosen: bool, config: Config, kernel: &Kernel) -> Sight {
    let plan = planned(&config, Vec::new(), kernel);
    Sight {
        uplink: uplink_of(&plan),
        uplink_is_wanted: is_chosen,
        extra_uplinks: extra_uplinks_of(&plan),
        pods: Vec::new(),
        peers: Peers {
            source: None,
            error,
            list: Vec::new(),
        },
    }
}

/// Asks for those that nothing is known against, which are silent until they answer.
async fn ask_peers(netlink: &Netlink, kernel: &Kernel, sight: &mut Sight) {
    let open = |peer: &PeerFact| peer.address.filter(|_| peer.standing == Standing::Silent);
    let extra = sight.extra_uplinks.iter().map(|(_, found)| found);
    let uplinks = [&sight.uplink].into_iter().chain(extra);
    let uplinks: Vec<u32> = uplinks.flatten().copied().collect();
    let Some(&first) = uplinks.first() else {
        for peer in &mut sight.peers.list {
            if open(peer).is_some() {
                peer.standing = Standing::NotAsked("there is no uplink".into());
            }
        }
        return;
    };
    // Each where the kernel would send to it, so far as that is an uplink.
    let mut at: BTreeMap<u32, Vec<IpAddr>> = BTreeMap::new();
    for address in sight.peers.list.iter().filter_map(open) {
        let by = on_link_by(kernel, address).filter(|by| uplinks.contains(by));
        at.entry(by.unwrap_or(first)).or_default().push(address);
    }
    let mut found = BTreeMap::new();
    for (uplink, addresses) in at {
        found.extend(reach::reach(netlink, uplink, &addresses).await);
    }
    for peer in &mut sight.peers.list {
        if let Some(standing) = open(peer).and_then(|address| found.get(&address)) {
            peer.standing = standing.clone();
        }
    }
}

/// The interface on whose segment an address is, by the interfaces' own addresses.
fn on_link_by(kernel: &Kernel, address: IpAddr) -> Option<u32> {
    let on_segment = |net: &&IpNet| net.contains(&address);
    let nearest = |nets: &Vec<IpNet>| nets.iter().filter(on_segment).map(IpNet::prefix_len).max();
    let with_lengths = kernel
        .addresses
        .iter()
        .filter_map(|(ifindex, nets)| Some((nearest(nets)?, *ifindex)));
    with_lengths.max().map(|(_, ifindex)| ifindex)
}

fn port(kernel: &Kernel, ifindex: u32) -> Option<Port> {
    let link = kernel.links.get(&ifindex)?;
    let bridge = link.master.and_then(|bridge| kernel.links.get(&bridge));
    let hanging = |link: &Link| {
        [&link.qdiscs, &link.ingress_filters, &link.egress_filters]
            .into_iter()
            .flatten()
            .cloned()
            .collect::<Vec<_>>()
    };
    let mut limits = hanging(link);
    limits.extend(bridge.map(hanging).unwrap_or_default());
    Some(Port {
        ifindex,
        name: link.name.clone(),
        mtu: link.mtu,
        limits,
        bridge_mtu: bridge.map(|bridge| bridge.mtu),
        offloads: ethtool::offloads(&link.name),
    })
}

async fn programs(
    netlink: &Netlink,
    pins: &Pins,
    network: &Network,
    tcx: bool,
) -> Result<Vec<Foreign>> {
    let mut found = Vec::new();
    for uplink in network.uplinks() {
        let hooks = [Hook::FromWire, Hook::ToWire];
        found.extend(foreign::at(netlink, pins, uplink, hooks, tcx).await?);
    }
    for pod in &network.pods {
        let hooks = [Hook::FromPod, Hook::ToPod];
        found.extend(foreign::at(netlink, pins, pod, hooks, tcx).await?);
    }
    Ok(found)
}
