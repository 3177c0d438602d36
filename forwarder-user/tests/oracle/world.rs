//! A world: a node, its pods and the wire, all of it held still.

use std::fmt::Write;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use underpass::datapath::{Maps, Pins};
use underpass_bench::lab::{AgentOptions, AgentProcess, Host, Segment, names};
use underpass_bench::{Lab, wait_for};
use underpass_common::addr::ShowMac;

use super::cast::{
    BLACKHOLED, Family, OVERRIDDEN, POD_MTU, PROHIBITED, Place, ROUTER_MAC, RULED, SECOND_MTU,
    UPLINK_MTU, node_addresses, remote,
};
use super::climate::Climate;
use super::exits::{Exits, wire_port};
use crate::xdp_pass;

/// The routing table of a rule.
const RULE_TABLE: u32 = 100;
/// CI machines are slow and busy.
const DEADLINE: Duration = Duration::from_secs(20);

/// Who forwards in a world.
#[derive(Debug)]
pub struct World {
    pub lab: Lab,
    pub exits: Exits,
    climate: Climate,
}

/// Collects lines; writing to a string cannot fail.
macro_rules! lines {
    ($out:ident, $($line:literal),+ $(,)?) => {
        $(let _ = writeln!($out, $line);)+
    };
}

impl World {
    /// # Errors
    /// Where a namespace can't be made so.
    pub fn build(climate: Climate) -> Result<Self> {
        let lab = Lab::builder()
            .nodes(1)
            .pods(Place::PODS.len())
            .second_segment(&[], 1)
            .no_routes()
            .pod_gro(climate.is_by_xdp)
            .underpass(env!("CARGO_BIN_EXE_underpass"))
            .build()?;
        make_wire(&lab)?;
        for (place, pod) in Place::PODS.into_iter().zip(lab.node(1).pods()) {
            let (device, mtu) = (pod.interface(), place.mtu());
            // Addresses would make it answer.
            pod.ip(&format!(
                "addr flush dev {device}\nlink set {device} mtu {mtu}\n"
            ))?;
        }
        make_node(lab.node(1), climate)?;
        lab.write_nodes_text(&nodes_file())?;
        let exits = Exits::open(&lab, climate)?;
        Ok(Self {
            lab,
            exits,
            climate,
        })
    }

    /// Starts an agent, and waits until it knows the way to both peers.
    ///
    /// # Errors
    /// Where it does not get there.
    pub fn start_agent(&self) -> Result<(AgentProcess, Maps)> {
        let node = self.lab.node(1);
        let ingress = match self.climate.is_by_xdp {
            true => "xdp",
            false => "tc",
        };
        let mut options = AgentOptions::default().args(["--ingress", ingress]);
        let mut peers = vec![2, 3];
        if self.climate.has_transit {
            options = options.args(["--extra-iface", names::SECOND_UPLINK]);
            peers.push(4);
        }
        let mut agent = self.lab.start_agent(node, &options)?;
        agent.wait_ready(DEADLINE)?;
        let maps = Maps::open(&Pins::new(self.lab.bpffs(node)))?;
        let wanted = |family| peers.iter().map(move |node| remote(family, *node, 11));
        wait_for(DEADLINE, "the agent knows the way to both peers", || {
            let routes = maps.routes()?;
            for address in Family::BOTH.into_iter().flat_map(wanted) {
                ensure!(
                    routes.keys().any(|prefix| prefix.contains(&address)),
                    "none to {address}, of {routes:?}"
                );
            }
            let pods = maps.pods()?;
            ensure!(pods.len() == Place::PODS.len(), "pods are missing");
            if self.climate.is_by_xdp {
                let taking = maps.xdp_pods()?;
                ensure!(taking.len() == pods.len(), "by XDP: {taking:?}");
                let (leased, wanted) = (maps.xdp_leases()?.len(), self.entrances().count());
                ensure!(
                    leased == wanted,
                    "XDP may carry what comes by {leased} uplinks"
                );
                let sending = maps.xdp_uplinks()?;
                let is_told = !self.climate.has_transit || sending.len() == wanted;
                ensure!(is_told, "out by XDP: {sending:?}");
            }
            Ok(())
        })
        .with_context(|| agent.log())?;
        if self.climate.is_by_xdp {
            self.keep_frames_apart()?;
        }
        Ok((agent, maps))
    }

    /// Puts an XDP program on the uplink that lets everything pass: a veth that has any has no segment trains.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn pass_by_xdp(&self) -> Result<()> {
        let node = self.lab.node(1);
        let pin = self.lab.bpffs(node).with_file_name("xdp-pass");
        xdp_pass::pin(&pin)?;
        let pin = pin.to_string_lossy();
        for uplink in self.entrances() {
            node.run(&["ip", "link", "set", uplink, "xdpdrv", "pinned", &pin])?;
        }
        self.keep_frames_apart()
    }

    /// The uplinks at which there is XDP.
    fn entrances(&self) -> impl Iterator<Item = &'static str> {
        let ends = [
            (Place::Wire, names::UPLINK),
            (Place::OtherWire, names::SECOND_UPLINK),
        ];
        let climate = self.climate;
        let with_xdp = ends
            .into_iter()
            .filter(move |(place, _)| climate.has_xdp_at(*place));
        with_xdp.map(|(_, uplink)| uplink)
    }

    /// An XDP program brings GRO with it, which joins what comes in one after the other, as it comes.
    fn keep_frames_apart(&self) -> Result<()> {
        let node = self.lab.node(1);
        for uplink in self.entrances() {
            node.run(&["ethtool", "-K", uplink, "gro", "off"])?;
        }
        Ok(())
    }

    /// Waits until the uplink and the pods' bridge carry packets.
    ///
    /// # Errors
    /// Where they don't in time.
    pub fn wait_until_up(&self) -> Result<()> {
        let node = self.lab.node(1);
        wait_for(DEADLINE, "the node's links are up", || {
            let shown = node.run(&["ip", "-json", "link", "show"])?;
            let links: Vec<serde_json::Value> = serde_json::from_str(&shown)?;
            let is_up = |name: &str| {
                let is_it = |link: &&serde_json::Value| link["ifname"] == name;
                let link = links.iter().find(is_it);
                link.is_some_and(|link| link["operstate"] == "UP")
            };
            for name in [names::UPLINK, names::SECOND_UPLINK, names::POD_BRIDGE] {
                ensure!(is_up(name), "{name} is not up: {shown}");
            }
            Ok(())
        })
    }

    /// The kernel's own counters of the node: `/proc/net/{snmp,netstat,snmp6}`.
    ///
    /// # Errors
    /// Where they can't be read.
    pub fn proc_net(&self) -> Result<[String; 3]> {
        // /proc/net is that of the process; ours is in another namespace than this thread.
        let read = |name: &str| fs::read_to_string(format!("/proc/thread-self/net/{name}"));
        self.lab
            .node(1)
            .enter(|| Ok([read("snmp")?, read("netstat")?, read("snmp6")?]))
            .context("cannot read the node's counters")
    }
}

/// The far ends of the uplinks: on no bridge, and silent.
fn make_wire(lab: &Lab) -> Result<()> {
    for place in [Place::Wire, Place::OtherWire] {
        let port = wire_port(lab, place);
        let lines = format!("link set {port} nomaster mtu {POD_MTU}\n");
        lab.switch().ip(&lines)?;
    }
    Ok(())
}

fn make_node(node: &Host, climate: Climate) -> Result<()> {
    if climate.is_bridged {
        bridge_uplink(node)?;
    }
    still(node)?;
    let rp_filter = climate.rp_filter.to_string();
    node.sysctl("net.ipv4.conf.all.rp_filter", &rp_filter)?;
    let mut out = String::new();
    let uplink = names::UPLINK;
    let second = names::SECOND_UPLINK;
    let bridge = names::POD_BRIDGE;
    lines!(
        out,
        "link set {uplink} mtu {UPLINK_MTU}",
        "link set {second} mtu {SECOND_MTU}",
        // No learning of stations, nor of groups.
        "link set {bridge} type bridge mcast_snooping 0",
    );
    for place in Place::PODS {
        let number = place.pod_number().unwrap_or_default();
        let (veth, mac) = (names::pod_veth(number), ShowMac(place.mac()));
        let mtu = place.mtu();
        lines!(out, "link set {veth} mtu {mtu}");
        let device = if place == Place::RoutedPod {
            lines!(out, "link set {veth} nomaster");
            for family in Family::BOTH {
                let address = place.address(family);
                lines!(out, "route add {address} dev {veth}");
            }
            veth
        } else {
            lines!(out, "link set {veth} type bridge_slave learning off",);
            bridge.to_owned()
        };
        for family in Family::BOTH {
            let address = place.address(family);
            lines!(
                out,
                "neigh replace {address} lladdr {mac} dev {device} nud permanent"
            );
        }
    }
    lines!(out, "link set {bridge} mtu {POD_MTU}");
    for (family, len) in [(Family::V4, 24), (Family::V6, 64)] {
        let [wire, pods, other_wire] = node_addresses(family);
        if family == Family::V6 {
            lines!(
                out,
                "addr add {wire}/{len} dev {uplink} nodad",
                "addr add {pods}/{len} dev {bridge} nodad",
                "addr add {other_wire}/{len} dev {second} nodad",
            );
        }
        for peer in PEERS {
            let address = node_address(family, peer);
            let mac = ShowMac(names::node_mac(peer));
            let cidr = names::pod_cidr(family, peer);
            let device = if peer == 4 { second } else { uplink };
            lines!(
                out,
                "neigh replace {address} lladdr {mac} dev {device} nud permanent",
                "route add {cidr} via {address} dev {device}",
            );
        }
        let router = names::outside_address(family);
        let mac = ShowMac(ROUTER_MAC);
        // What ip_error() says against a packet has a rate limit of its own, for the whole machine
        // (net/ipv4/route.c).
        let refused = match family {
            Family::V4 => "blackhole",
            Family::V6 => "prohibit",
        };
        let [overridden, blackholed, prohibited] =
            [OVERRIDDEN, BLACKHOLED, PROHIBITED].map(|host| remote(family, 3, host));
        lines!(
            out,
            "route add default via {router} dev {uplink} table {RULE_TABLE}",
        );
        lines!(
            out,
            "neigh replace {router} lladdr {mac} dev {uplink} nud permanent",
            "route replace default via {router} dev {uplink}",
            "route add {overridden} via {router} dev {uplink}",
            "route add blackhole {blackholed}",
            "route add {refused} {prohibited}",
        );
    }
    node.ip(&out)?;
    for family in Family::BOTH {
        // A pod whose packets to one address the kernel sends elsewhere, unlike the trie.
        let (from, to) = (Place::Pod2.address(family), remote(family, 2, RULED));
        let flag = match family {
            Family::V4 => "-4",
            Family::V6 => "-6",
        };
        let rule = format!("rule add from {from} to {to} lookup {RULE_TABLE}");
        let words: Vec<_> = ["ip", flag].into_iter().chain(rule.split(' ')).collect();
        node.run(&words)?;
    }
    let mut entries = String::new();
    for place in Place::PODS
        .into_iter()
        .filter(|place| *place != Place::RoutedPod)
    {
        let (mac, number) = (ShowMac(place.mac()), place.pod_number().unwrap_or_default());
        let veth = names::pod_veth(number);
        lines!(entries, "fdb replace {mac} dev {veth} master static");
    }
    let output = node.run_with_input(&["bridge", "-batch", "-"], &entries);
    output.map(drop)
}

/// Puts a bridge in the uplink's place, under its name and with its MAC.
fn bridge_uplink(node: &Host) -> Result<()> {
    let (uplink, mac) = (names::UPLINK, ShowMac(names::node_mac(1)));
    let family = Family::V4;
    let (address, len) = (names::node_address(family, 1), names::wire_prefix(family));
    node.ip(&format!(
        "link set {uplink} down\n\
         addr flush dev {uplink}\n\
         link set {uplink} name port0\n\
         link add name {uplink} address {mac} type bridge forward_delay 0 mcast_snooping 0\n\
         link set port0 master {uplink} up\n\
         link set port0 type bridge_slave learning off\n\
         addr add {address}/{len} dev {uplink}\n\
         link set {uplink} up\n"
    ))
}

/// Takes away all that the node's kernel would do by a clock or by its own choice.
fn still(node: &Host) -> Result<()> {
    node.sysctls(&[
        ("net.ipv4.icmp_ratelimit", "0"),
        ("net.ipv4.icmp_ratemask", "0"),
        // No fragment is given up, with or without a word, before the run is over.
        ("net.ipv4.ipfrag_time", "36000"),
        ("net.ipv4.ipfrag_max_dist", "0"),
        // No reports of multicast groups.
        ("net.ipv4.igmp_link_local_mcast_reports", "0"),
        ("net.ipv6.conf.all.forwarding", "1"),
        ("net.ipv6.icmp.ratelimit", "0"),
        ("net.ipv6.icmp.ratemask", ""),
        ("net.ipv6.ip6frag_time", "36000"),
        ("net.ipv6.auto_flowlabels", "0"),
        // What the node learns of a path's MTU for itself it applies to what it forwards, too, but for
        // this: it is forgotten a second before it is learned.
        ("net.ipv6.route.mtu_expires", "-1"),
    ])?;
    node.enter(|| {
        for device in DEVICES {
            for (key, value) in [
                ("ipv4/conf/DEVICE/send_redirects", "0"),
                ("ipv4/conf/DEVICE/accept_redirects", "0"),
                ("ipv4/conf/DEVICE/secure_redirects", "0"),
                ("ipv6/conf/DEVICE/accept_redirects", "0"),
                ("ipv6/conf/DEVICE/accept_ra", "0"),
                ("ipv6/conf/DEVICE/accept_dad", "0"),
                ("ipv6/conf/DEVICE/router_solicitations", "0"),
                // Reports of groups that are joined go out at once, and not later on.
                ("ipv6/conf/DEVICE/mldv1_unsolicited_report_interval", "1"),
                ("ipv6/conf/DEVICE/mldv2_unsolicited_report_interval", "1"),
                // Without a link-local address it sends no redirect.
                ("ipv6/conf/DEVICE/addr_gen_mode", "1"),
            ] {
                write_sysctl(key, device, value)?;
            }
            if !["all", "default"].contains(&device) {
                // What is not known is not asked for.
                for key in ["mcast_solicit", "ucast_solicit", "app_solicit"] {
                    for family in ["ipv4", "ipv6"] {
                        write_sysctl(&format!("{family}/neigh/DEVICE/{key}"), device, "0")?;
                    }
                }
            }
        }
        // Where br_netfilter is loaded a bridge has netfilter fragment what is too large for a port.
        for family in ["ip", "ip6", "arp"] {
            let path = format!("bridge/bridge-nf-call-{family}tables");
            if Path::new("/proc/sys/net").join(&path).exists() {
                write_sysctl(&path, "", "0")?;
            }
        }
        let routers = [
            names::UPLINK,
            names::SECOND_UPLINK,
            names::POD_BRIDGE,
            "vethpod4",
        ];
        for device in routers {
            write_sysctl("ipv6/conf/DEVICE/disable_ipv6", device, "0")?;
        }
        Ok(())
    })
}

/// What a node has, once its pods are there; and what sysctls know as devices.
const DEVICES: [&str; 9] = [
    "all",
    "default",
    names::UPLINK,
    names::SECOND_UPLINK,
    names::POD_BRIDGE,
    "vethpod1",
    "vethpod2",
    "vethpod3",
    "vethpod4",
];

fn write_sysctl(path: &str, device: &str, value: &str) -> Result<()> {
    let path = path.replace("DEVICE", device);
    fs::write(format!("/proc/sys/net/{path}"), value)
        .with_context(|| format!("cannot set net/{path} to {value}"))
}

/// The other nodes; the last is on the segment of the second uplink.
const PEERS: [usize; 3] = [2, 3, 4];

/// The address of a node where it is.
fn node_address(family: Family, node: usize) -> IpAddr {
    let segment = match node {
        4 => Segment::Second,
        _ => Segment::First,
    };
    names::node_address_on(segment, family, node)
}

/// All peers, and this node.
fn nodes_file() -> String {
    let mut out = "apiVersion: v1\nkind: List\nitems:\n".to_owned();
    for node in [1].into_iter().chain(PEERS) {
        let [v4, v6] = Family::BOTH.map(|family| node_address(family, node));
        let [cidr_v4, cidr_v6] = Family::BOTH.map(|family| names::pod_cidr(family, node));
        lines!(
            out,
            "- apiVersion: v1",
            "  kind: Node",
            "  metadata: {{name: node{node}}}",
            "  spec: {{podCIDR: \"{cidr_v4}\", podCIDRs: [\"{cidr_v4}\", \"{cidr_v6}\"]}}",
            "  status: {{addresses: [{{type: InternalIP, address: \"{v4}\"}}, {{type: InternalIP, address: \"{v6}\"}}]}}",
        );
    }
    out
}
