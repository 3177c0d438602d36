//! How a lab is ordered, and made.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::host::{Host, explain_batch};
use super::nodes_file::NodesFile;
use super::registry::{self, Record};
use super::rules::{self, Backend};
use super::segment::TwoSegments;
use super::wire::Wiring;
use super::{Families, Family, Lab, Node, Pod, PodPlan, Segment, names, process, sysctls};

/// Orders a [`Lab`]. What isn't said otherwise: two nodes with one pod each on a bridge, host-gw routes,
/// an MTU of 1500, no netfilter rules, and IPv4 only.
#[derive(Clone, Debug)]
pub struct LabBuilder {
    name: Option<String>,
    nodes: usize,
    pods: usize,
    outside: bool,
    families: Families,
    node_families: BTreeMap<usize, Families>,
    conntrack: bool,
    flannel: bool,
    kube_proxy: Option<Backend>,
    underpass: Option<PathBuf>,
    whole_frames: bool,
    pod_gro: bool,
    segments: Option<TwoSegments>,
    wiring: Wiring,
}

impl Default for LabBuilder {
    fn default() -> Self {
        Self {
            name: None,
            nodes: 2,
            pods: 1,
            outside: false,
            families: Families::V4,
            node_families: BTreeMap::new(),
            conntrack: false,
            flannel: false,
            kube_proxy: None,
            underpass: None,
            whole_frames: false,
            pod_gro: false,
            segments: None,
            wiring: Wiring {
                mtu: 1500,
                second_mtu: None,
                routed_pods: false,
                routes: true,
            },
        }
    }
}

impl LabBuilder {
    /// Calls the lab `name`. Otherwise it gets a name that no other lab has.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// With this many nodes.
    #[must_use]
    pub fn nodes(mut self, nodes: usize) -> Self {
        self.nodes = nodes;
        self
    }

    /// With this many pods on each node.
    #[must_use]
    pub fn pods(mut self, pods: usize) -> Self {
        self.pods = pods;
        self
    }

    /// With this MTU on all wires, in bytes of the IP packet.
    #[must_use]
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.wiring.mtu = mtu;
        self
    }

    /// With a second L2 segment: the nodes `behind` (from 1) are on it and not on the first, and `router` is on both, by
    /// its uplinks `eth0` and `eth1`. The others' routes to the podCIDRs across lead by the router's address on their
    /// segment. Its wires take frames that XDP sends: their ends in the switch have GRO.
    #[must_use]
    pub fn second_segment(mut self, behind: &[usize], router: usize) -> Self {
        self.segments = Some(TwoSegments {
            behind: behind.to_vec(),
            router,
        });
        self
    }

    /// With this MTU on the wires of the second segment, in bytes of the IP packet; pods keep the MTU of the others.
    #[must_use]
    pub fn second_mtu(mut self, mtu: u32) -> Self {
        self.wiring.second_mtu = Some(mtu);
        self
    }

    /// Without routes to the other nodes' podCIDRs: somebody else is going to make them.
    #[must_use]
    pub fn no_routes(mut self) -> Self {
        self.wiring.routes = false;
        self
    }

    /// With pods on veths of their own and a /32 route to each, as Calico has them, instead of a
    /// bridge.
    #[must_use]
    pub fn routed_pods(mut self) -> Self {
        self.wiring.routed_pods = true;
        self
    }

    /// With a host on the switch that is no node and has no routes to pods.
    #[must_use]
    pub fn outside(mut self) -> Self {
        self.outside = true;
        self
    }

    /// With these address families on all hosts. Of IPv6 there is what traffic needs: neighbour
    /// discovery and multicast listener reports, no duplicate address detection and no router
    /// solicitations. A host without IPv6 sends nothing of it, one without IPv4 has no such address.
    #[must_use]
    pub fn families(mut self, families: impl Into<Families>) -> Self {
        self.families = families.into();
        self
    }

    /// With other address families on this node and its pods, from 1.
    #[must_use]
    pub fn node_families(mut self, node: usize, families: impl Into<Families>) -> Self {
        self.node_families.insert(node, families.into());
        self
    }

    /// With Flannel's FORWARD and masquerade rules on each node; in kube-proxy's backend, or
    /// iptables' without kube-proxy.
    #[must_use]
    pub fn flannel_rules(mut self, on: bool) -> Self {
        self.flannel = on;
        self
    }

    /// With kube-proxy's rules on each node, so that services can be added.
    #[must_use]
    pub fn kube_proxy_rules(mut self, backend: Backend) -> Self {
        self.kube_proxy = Some(backend);
        self
    }

    /// With connection tracking on each node, also where no other rule asks for it.
    #[must_use]
    pub fn conntrack(mut self, on: bool) -> Self {
        self.conntrack = on;
        self
    }

    /// With frames on the nodes' wires as they are on a real one: each with its checksum, and none larger than the
    /// MTU. Otherwise a veth hands over what a NIC would still have had to do.
    #[must_use]
    pub fn whole_frames(mut self, on: bool) -> Self {
        self.whole_frames = on;
        self
    }

    /// With GRO at the pods' end of their veths, by which they take frames from XDP.
    #[must_use]
    pub fn pod_gro(mut self, on: bool) -> Self {
        self.pod_gro = on;
        self
    }

    /// With the program `underpass` for [`Lab::start_agent`] and [`Lab::underpass`].
    #[must_use]
    pub fn underpass(mut self, binary: impl Into<PathBuf>) -> Self {
        self.underpass = Some(binary.into());
        self
    }

    /// Makes the lab; first takes down what dead processes left of theirs.
    ///
    /// # Errors
    /// When this isn't root, the name is taken, or a command fails; nothing is left then.
    pub fn build(self) -> Result<Lab> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "the lab makes network namespaces: run this as root"
        );
        ensure!(
            (1..=names::MOST_NODES).contains(&self.nodes) && self.pods <= names::MOST_PODS,
            "a lab has 1 to {} nodes with up to {} pods each",
            names::MOST_NODES,
            names::MOST_PODS
        );
        ensure!(
            self.node_families.range(self.nodes + 1..).next().is_none(),
            "families are chosen for a node that this lab doesn't have"
        );
        if let Some(TwoSegments { behind, router }) = &self.segments {
            ensure!(
                behind
                    .iter()
                    .chain([router])
                    .all(|node| (1..=self.nodes).contains(node)),
                "a second segment is ordered for a node that this lab doesn't have"
            );
            ensure!(
                !behind.contains(router),
                "node{router} can't be a router and behind the router as well"
            );
        }
        let name = self.name.clone().unwrap_or_else(names::fresh_lab_name);
        names::check_lab_name(&name)?;
        let record = Record::claim(&name).with_context(|| format!("lab {name}"))?;
        let mut lab = Lab {
            switch: Host::new(&name, names::SWITCH),
            outside: self.outside.then(|| Host::new(&name, names::OUTSIDE)),
            nodes: (1..=self.nodes)
                .map(|number| {
                    let own = self.node_families.get(&number).copied();
                    let segments = self.segments.as_ref();
                    let segments = segments.map_or(&[Segment::First][..], |it| it.of(number));
                    Node::new(&name, number, own.unwrap_or(self.families), segments)
                })
                .collect(),
            backend: self.kube_proxy.unwrap_or(Backend::Iptables),
            has_kube_proxy: self.kube_proxy.is_some(),
            underpass: self.underpass.clone(),
            agents_started: 0.into(),
            wiring: self.wiring,
            families: self.families,
            record,
        };
        self.make(&mut lab).with_context(|| format!("lab {name}"))?;
        Ok(lab)
    }

    fn make(&self, lab: &mut Lab) -> Result<()> {
        let plans = (1..=self.nodes)
            .flat_map(|node| (1..=self.pods).map(move |pod| PodPlan::new(node, pod)));
        let pods: Vec<_> = plans
            .map(|plan| {
                let families = lab.nodes[plan.node - 1].families();
                (Pod::new(lab.name(), plan.clone(), families), plan)
            })
            .collect();

        // The switch speaks neither.
        let mut hosts = vec![(&lab.switch, false)];
        let v6 = Family::V6;
        hosts.extend(lab.outside.iter().map(|host| (host, self.families.has(v6))));
        hosts.extend(
            lab.nodes
                .iter()
                .map(|node| (&**node, node.families().has(v6))),
        );
        hosts.extend(pods.iter().map(|(pod, _)| (&**pod, pod.families().has(v6))));
        lab.add_namespaces(&hosts)?;

        lab.switch
            .ip(&lab.wiring.switch(&lab.nodes, lab.outside.as_ref()))?;
        // No switch looks for iptables' rules, and what it takes is in everybody's figures.
        sysctls::set_bridge_netfilter(&lab.switch, false)?;
        if let Some(outside) = &lab.outside {
            outside.ip(&Wiring::outside(self.families, &lab.nodes))?;
        }
        if let Some(TwoSegments { router, .. }) = &self.segments {
            // A veth takes what XDP sends where its other end has GRO.
            for uplink in lab.nodes[router - 1].uplinks() {
                let port = uplink.switch_port();
                lab.switch.run(&["ethtool", "-K", &port, "gro", "on"])?;
            }
            if self.whole_frames {
                // What GRO has joined there is taken apart again.
                for uplink in lab.nodes.iter().flat_map(Node::uplinks) {
                    let port = uplink.switch_port();
                    lab.switch.run(&["ethtool", "-K", &port, "tx", "off"])?;
                }
            }
        }
        for node in &lab.nodes {
            self.make_node(lab, node, &pods)?;
        }
        for (pod, plan) in &pods {
            pod.ip(&lab.wiring.pod(plan, pod.families()))?;
            if self.pod_gro {
                pod.run(&["ethtool", "-K", pod.interface(), "gro", "on"])?;
            }
        }
        for (pod, plan) in pods {
            lab.nodes[plan.node - 1].pods.push(pod);
        }
        lab.wait_for_links()?;
        lab.write_nodes_file(&NodesFile::of(&lab.nodes))?;
        registry::write_json(&lab.record.file("lab.json"), &lab.describe())
    }

    fn make_node(&self, lab: &Lab, node: &Node, pods: &[(Pod, PodPlan)]) -> Result<()> {
        sysctls::route(node)?;
        sysctls::set_bridge_netfilter(node, self.kube_proxy.is_some() || self.flannel)?;
        let mut wires = lab.wiring.node(node, &lab.nodes);
        for (pod, plan) in pods.iter().filter(|(pod, _)| pod.node() == node.number()) {
            wires += &lab
                .wiring
                .pod_at_node(plan, pod.families(), pod.namespace());
        }
        node.ip(&wires)?;
        if self.whole_frames {
            for uplink in node.uplinks() {
                node.run(&["ethtool", "-K", uplink.interface(), "tx", "off"])?;
            }
        }
        if self.flannel {
            rules::flannel::apply(node, lab.backend)?;
        }
        if self.kube_proxy.is_some() {
            rules::kube_proxy::apply(node, lab.backend)?;
        }
        if self.conntrack {
            rules::track(node, lab.backend)?;
        }
        Ok(())
    }
}

impl Lab {
    /// Waits until all wires carry packets.
    fn wait_for_links(&self) -> Result<()> {
        let mut ports = Vec::new();
        for uplink in self.nodes.iter().flat_map(Node::uplinks) {
            ports.extend([uplink.switch_port(), uplink.segment().bridge().to_owned()]);
        }
        ports.extend(self.outside.iter().map(|outside| outside.name().to_owned()));
        let ports: Vec<_> = ports.iter().map(String::as_str).collect();
        self.switch.wait_for_links(&ports, false)?;
        if let Some(outside) = &self.outside {
            outside.wait_for_links(&[names::UPLINK], self.families.has(Family::V6))?;
        }
        for node in &self.nodes {
            let ipv6 = node.families().has(Family::V6);
            let mut links: Vec<_> = node.pods().iter().map(|pod| pod.node_veth()).collect();
            links.extend(node.uplinks().map(|uplink| uplink.interface()));
            if !self.wiring.routed_pods && !node.pods().is_empty() {
                links.push(names::POD_BRIDGE);
            }
            node.wait_for_links(&links, ipv6)?;
            for pod in node.pods() {
                pod.wait_for_links(&[pod.interface()], ipv6)?;
            }
        }
        Ok(())
    }

    /// Makes the hosts' namespaces, with nothing in them but `lo`; each with IPv6 or without.
    pub(super) fn add_namespaces(&self, hosts: &[(&Host, bool)]) -> Result<()> {
        let mut lines = String::new();
        for (host, _) in hosts {
            self.record.add_namespace(host.namespace())?;
            lines += &format!("netns add {}\n", host.namespace());
        }
        let mut command = std::process::Command::new("ip");
        command.args(["-batch", "-"]);
        let output =
            process::run(command, &lines).context("cannot run ip: is iproute2 installed?")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "{}",
            explain_batch(&lines, said.trim())
        );
        // Before any link comes up.
        hosts.iter().try_for_each(|(host, ipv6)| match ipv6 {
            true => sysctls::prepare_ipv6(host),
            false => sysctls::disable_ipv6(host),
        })
    }
}
