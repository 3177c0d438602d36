//! Which Nodes are believed. A Node object is a claim by somebody else: what it says is taken only
//! where it can do no harm, and where two say the same neither is believed.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use underpass_common::peer::Refusal;

use super::overlap::{Addresses, clashes, overlap};
use super::parse::{node_address, pod_cidr, quoted};
use crate::world::cluster::Node;

/// The longest node name that a map's key holds, in bytes.
pub const LONGEST_NAME: usize = 255;

/// Where a node's addresses stand, for messages.
const INTERNAL_IP: &str = "status.addresses: InternalIP";
const PUBLIC_IP: &str = "annotation flannel.alpha.coreos.com/public-ip";
const PUBLIC_IPV6: &str = "annotation flannel.alpha.coreos.com/public-ipv6";

/// What claims are judged by.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// The name of this node's own Node.
    pub own_name: &'a str,
    /// Where podCIDRs must lie; a family of which none is given may lie anywhere.
    pub cluster_cidrs: &'a [IpNet],
    /// The addresses that this machine really has.
    pub local_addresses: &'a [IpAddr],
}

/// What a Node says, as far as it could be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Its podCIDRs, in its own order, each once.
    pub pod_cidrs: Vec<IpNet>,
    /// Of each family the address that Flannel reaches it by, else its first InternalIP.
    pub addresses: Vec<IpAddr>,
    /// Set where the claim is not taken.
    pub refused: Option<Refused>,
}

/// Why a claim is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The reason as a code; never `None`.
    pub code: Refusal,
    /// One line that names the node, the field and the value.
    pub detail: String,
}

/// All claims, judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// This node's own; `None`: no Node has this node's name.
    pub own: Option<Claim>,
    /// Everybody else's, by name.
    pub peers: BTreeMap<String, Claim>,
}

/// Judges every Node. The outcome does not depend on their order.
pub fn judge(nodes: &[Node], rules: &Rules<'_>) -> Claims {
    let mut entries: Vec<Entry<'_>> = nodes
        .iter()
        .map(|node| Entry::read(node, node.name == rules.own_name, rules.cluster_cidrs))
        .collect();
    entries.sort_by(|a, b| a.order().cmp(&b.order()));
    refuse_names(&mut entries);
    refuse_by_addresses(&mut entries, rules);
    refuse_overlaps(&mut entries);
    sort_out(entries)
}

/// A Node while it is being judged.
#[derive(Debug)]
struct Entry<'a> {
    name: &'a str,
    is_own: bool,
    pod_cidrs: Vec<IpNet>,
    /// All of them, not only the first of each family.
    addresses: Vec<IpAddr>,
    /// How many of them, from the first, are Flannel's.
    flannels: usize,
    refused: Option<Refused>,
}

impl<'a> Entry<'a> {
    /// Reads a Node and judges it by itself.
    fn read(node: &'a Node, is_own: bool, cluster_cidrs: &[IpNet]) -> Self {
        let mut entry = Self {
            name: &node.name,
            is_own,
            pod_cidrs: Vec::new(),
            addresses: Vec::new(),
            flannels: 0,
            refused: None,
        };
        for (index, text) in node.pod_cidrs.iter().enumerate() {
            let field = || pod_cidr_field(index, node.pod_cidrs.len());
            match pod_cidr(text) {
                Ok(cidr) if entry.pod_cidrs.contains(&cidr) => {}
                Ok(cidr) => {
                    entry.pod_cidrs.push(cidr);
                    if is_outside(cidr, cluster_cidrs) {
                        let code = Refusal::OutsideClusterCidr;
                        let cluster = join(cluster_cidrs);
                        entry.refuse(code, || {
                            format!(
                                "{} {text:?} lies outside the cluster CIDR {cluster}",
                                field()
                            )
                        });
                    }
                }
                Err((code, why)) => {
                    entry.refuse(code, || format!("{} {} {why}", field(), quoted(text)))
                }
            }
        }
        // Flannel's come first: where there are any, it is by them that flanneld reaches the node.
        for (field, text, is_v4) in [
            (PUBLIC_IP, &node.public_ip, true),
            (PUBLIC_IPV6, &node.public_ipv6, false),
        ] {
            if let Some(text) = text {
                entry.read_address(field, text, |address| address.is_ipv4() == is_v4);
            }
        }
        entry.flannels = entry.addresses.len();
        for text in &node.internal_ips {
            entry.read_address(INTERNAL_IP, text, |_| true);
        }
        if node.pod_cidrs.is_empty() {
            entry.refuse(Refusal::NoPodCidr, || {
                "spec.podCIDR and spec.podCIDRs are empty".to_owned()
            });
        }
        entry.refuse_without_address();
        entry
    }

    fn read_address(&mut self, field: &str, text: &str, belongs: impl Fn(IpAddr) -> bool) {
        match node_address(text) {
            Ok(address) if !belongs(address) => self.refuse(Refusal::Malformed, || {
                format!("{field} {address} is of the other family")
            }),
            Ok(address) if self.addresses.contains(&address) => {}
            Ok(address) => self.addresses.push(address),
            Err(why) => self.refuse(Refusal::Malformed, || {
                format!("{field} {} {why}", quoted(text))
            }),
        }
    }

    /// Each podCIDR is of use only with an address of its own family.
    fn refuse_without_address(&mut self) {
        let is_v4 = |address: &IpAddr| address.is_ipv4();
        let families = |v4: bool| self.addresses.iter().any(|address| is_v4(address) == v4);
        let usable = |cidr: &IpNet| families(is_v4(&cidr.addr()));
        if !self.pod_cidrs.iter().any(usable) {
            self.refuse(Refusal::NoAddress, || {
                "status.addresses: no InternalIP of its podCIDR's family".to_owned()
            });
        }
    }

    /// By name; by content too, so that of several Nodes with one name none stands out.
    fn order(&self) -> (&str, &[IpNet], &[IpAddr]) {
        (self.name, &self.pod_cidrs, &self.addresses)
    }

    /// Notes a reason; the first one stays.
    fn refuse(&mut self, code: Refusal, detail: impl FnOnce() -> String) {
        if self.refused.is_none() {
            let detail = format!("node {}: {}", shown(self.name), detail());
            self.refused = Some(Refused { code, detail });
        }
    }

    /// Notes a reason in place of any other.
    fn refuse_above_all(&mut self, code: Refusal, detail: impl FnOnce() -> String) {
        self.refused = None;
        self.refuse(code, detail);
    }

    /// True where the claim makes sense by itself, so that another one may not contradict it.
    fn contends(&self) -> bool {
        use Refusal::{Duplicate, NoAddress, OverlapsOwn};
        self.refused
            .as_ref()
            .is_none_or(|refused| matches!(refused.code, Duplicate | NoAddress | OverlapsOwn))
    }

    fn into_claim(self) -> Claim {
        let first = |v4| self.addresses.iter().find(move |a| a.is_ipv4() == v4);
        Claim {
            addresses: [first(true), first(false)]
                .into_iter()
                .flatten()
                .copied()
                .collect(),
            pod_cidrs: self.pod_cidrs,
            refused: self.refused,
        }
    }
}

/// Kubernetes keeps `podCIDR` and `podCIDRs[0]` equal, and a file may have the one alone.
fn pod_cidr_field(index: usize, count: usize) -> String {
    if count == 1 {
        "spec.podCIDR".to_owned()
    } else {
        format!("spec.podCIDRs[{index}]")
    }
}

fn is_outside(cidr: IpNet, cluster_cidrs: &[IpNet]) -> bool {
    let same_family = |cluster: &&IpNet| cluster.addr().is_ipv4() == cidr.addr().is_ipv4();
    let mut cluster = cluster_cidrs.iter().filter(same_family).peekable();
    cluster.peek().is_some() && !cluster.any(|cluster| cluster.contains(&cidr))
}

fn join(cidrs: &[IpNet]) -> String {
    let texts: Vec<String> = cidrs.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

/// A node's name in a message; what could break the line is escaped.
fn shown(name: &str) -> String {
    if is_good_name(name) {
        name.to_owned()
    } else {
        quoted(name)
    }
}

fn is_good_name(name: &str) -> bool {
    let lengths = 1..=LONGEST_NAME;
    lengths.contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

fn refuse_names(entries: &mut [Entry<'_>]) {
    for same_name in entries.chunk_by_mut(|a, b| a.name == b.name) {
        let count = same_name.len();
        for entry in same_name {
            if count > 1 {
                entry.refuse_above_all(Refusal::Duplicate, || {
                    format!("metadata.name: {count} Nodes have this name")
                });
            } else if !is_good_name(entry.name) {
                entry.refuse_above_all(Refusal::Malformed, || {
                    format!(
                        "metadata.name must be 1 to {LONGEST_NAME} ASCII characters, none blank"
                    )
                });
            }
        }
    }
}

fn refuse_by_addresses(entries: &mut [Entry<'_>], rules: &Rules<'_>) {
    let claimed = entries.iter().enumerate().flat_map(|(index, entry)| {
        let with_holder = move |&address| (address, index);
        entry.addresses.iter().map(with_holder)
    });
    let known = Known {
        claimed: Addresses::new(claimed),
        names: entries.iter().map(|entry| entry.name).collect(),
        local: Addresses::new(rules.local_addresses.iter().map(|&address| (address, ()))),
        own_cidrs: refuse_own_by_address(entries),
    };
    for (index, entry) in entries.iter_mut().enumerate() {
        if !entry.is_own {
            known.refuse_pod_cidrs(entry);
            known.refuse_addresses(entry, index);
        }
    }
}

/// What peers' claims must not touch.
struct Known<'a> {
    /// InternalIPs, each with the index of its Node.
    claimed: Addresses<usize>,
    /// The Nodes' names, by index.
    names: Vec<&'a str>,
    /// The addresses that this machine has.
    local: Addresses<()>,
    /// This node's own podCIDRs.
    own_cidrs: Vec<IpNet>,
}

impl Known<'_> {
    /// What every node finds comes first: the nodes should agree on who contends with whom.
    fn refuse_pod_cidrs(&self, entry: &mut Entry<'_>) {
        let cidrs = entry.pod_cidrs.clone();
        for &cidr in &cidrs {
            if let Some((address, holder)) = self.claimed.first_in(cidr) {
                entry.refuse(Refusal::HoldsNodeAddress, || {
                    let holder = shown(self.names[holder]);
                    format!("spec.podCIDR {cidr} holds the InternalIP {address} of node {holder}")
                });
            }
        }
        for cidr in cidrs {
            if let Some(own) = self.own_cidrs.iter().find(|own| overlap(**own, cidr)) {
                entry.refuse(Refusal::OverlapsOwn, || {
                    format!("spec.podCIDR {cidr} overlaps this node's own {own}")
                });
            }
            if let Some((address, ())) = self.local.first_in(cidr) {
                entry.refuse(Refusal::HoldsNodeAddress, || {
                    format!("spec.podCIDR {cidr} holds this machine's address {address}")
                });
            }
        }
    }

    fn refuse_addresses(&self, entry: &mut Entry<'_>, index: usize) {
        for (place, address) in entry.addresses.clone().into_iter().enumerate() {
            let field = match (place < entry.flannels, address) {
                (false, _) => INTERNAL_IP,
                (true, IpAddr::V4(_)) => PUBLIC_IP,
                (true, IpAddr::V6(_)) => PUBLIC_IPV6,
            };
            // Thousands of addresses are looked at and hardly one is told of: text is made only then.
            let field = format_args!("{field} {address}");
            if let Some(own) = self.own_cidrs.iter().find(|own| own.contains(&address)) {
                entry.refuse(Refusal::Malformed, || {
                    format!("{field} lies in this node's own podCIDR {own}")
                });
            }
            if let Some(other) = self.claimed.owners(address).find(|other| *other != index) {
                entry.refuse(Refusal::Duplicate, || {
                    format!(
                        "{field} is also the one of node {}",
                        shown(self.names[other])
                    )
                });
            }
            if self.local.owners(address).next().is_some() {
                entry.refuse(Refusal::Duplicate, || {
                    format!("{field} is this machine's own")
                });
            }
        }
    }
}

/// Our own podCIDRs are the peers' business only as far as they are believed. They are judged by our
/// own Node's addresses alone: a node that claims an address in our podCIDR harms itself.
fn refuse_own_by_address(entries: &mut [Entry<'_>]) -> Vec<IpNet> {
    let mut believed = Vec::new();
    for entry in entries.iter_mut().filter(|entry| entry.is_own) {
        for cidr in entry.pod_cidrs.clone() {
            if let Some(address) = entry.addresses.iter().copied().find(|a| cidr.contains(a)) {
                entry.refuse(Refusal::HoldsNodeAddress, || {
                    format!("spec.podCIDR {cidr} holds its own InternalIP {address}")
                });
            }
        }
        if entry.contends() {
            believed.extend(&entry.pod_cidrs);
        }
    }
    believed
}

fn refuse_overlaps(entries: &mut [Entry<'_>]) {
    let contenders = entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| !entry.is_own && entry.contends());
    let prefixes = contenders
        .flat_map(|(index, entry)| entry.pod_cidrs.iter().map(move |&cidr| (cidr, index)));
    for (index, clash) in clashes(prefixes) {
        let other = shown(entries[clash.other].name);
        entries[index].refuse(Refusal::OverlapsPeer, || {
            let (own, others) = (clash.own, clash.others);
            format!("spec.podCIDR {own} overlaps {others} of node {other}")
        });
    }
}

fn sort_out(entries: Vec<Entry<'_>>) -> Claims {
    let mut claims = Claims::default();
    for entry in entries {
        if entry.is_own {
            claims.own = Some(entry.into_claim());
        } else {
            claims
                .peers
                .insert(entry.name.to_owned(), entry.into_claim());
        }
    }
    claims
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
