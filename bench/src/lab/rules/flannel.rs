//! Flannel's rules (flannel, `pkg/trafficmngr`): accept the cluster's traffic in FORWARD, masquerade
//! what leaves the cluster.

use anyhow::Result;

use super::{Backend, load};
use crate::lab::{Family, Node, names};

/// The mark of packets that kube-proxy is going to masquerade.
const KUBE_MARK: &str = "0x4000";

/// Loads them on a node, in each family that it speaks.
pub(crate) fn apply(node: &Node, backend: Backend) -> Result<()> {
    node.families().each().try_for_each(|family| {
        let rules = match backend {
            Backend::Iptables => iptables(family, node),
            Backend::Nftables => nftables(family, node),
        };
        load(node, backend, family, &rules)
    })
}

fn iptables(family: Family, node: &Node) -> String {
    let (pods, cluster) = (node.pod_cidr_of(family), names::cluster_cidr(family));
    let multicast = family.multicast();
    let forward = "-m comment --comment \"flanneld forward\"";
    let masquerade = "-m comment --comment \"flanneld masq\"";
    format!(
        "*filter
:FLANNEL-FWD - [0:0]
-A FORWARD {forward} -j FLANNEL-FWD
-A FLANNEL-FWD -s {cluster} {forward} -j ACCEPT
-A FLANNEL-FWD -d {cluster} {forward} -j ACCEPT
COMMIT
*nat
:FLANNEL-POSTRTG - [0:0]
-A POSTROUTING {masquerade} -j FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -m mark --mark {KUBE_MARK}/{KUBE_MARK} {masquerade} -j RETURN
-A FLANNEL-POSTRTG -s {pods} -d {cluster} {masquerade} -j RETURN
-A FLANNEL-POSTRTG -s {cluster} -d {pods} {masquerade} -j RETURN
-A FLANNEL-POSTRTG ! -s {cluster} -d {pods} {masquerade} -j RETURN
-A FLANNEL-POSTRTG -s {cluster} ! -d {multicast} {masquerade} -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG ! -s {cluster} -d {cluster} {masquerade} -j MASQUERADE --random-fully
COMMIT
"
    )
}

fn nftables(family: Family, node: &Node) -> String {
    let (pods, cluster) = (node.pod_cidr_of(family), names::cluster_cidr(family));
    let (ip, multicast) = (family.nft(), family.multicast());
    let table = match family {
        Family::V4 => "flannel-ipv4",
        Family::V6 => "flannel-ipv6",
    };
    format!(
        "table {ip} {table} {{
    chain forward {{
        type filter hook forward priority filter; policy accept;
        {ip} saddr {cluster} accept
        {ip} daddr {cluster} accept
    }}
    chain postrtg {{
        type nat hook postrouting priority srcnat; policy accept;
        meta mark & {KUBE_MARK} == {KUBE_MARK} return
        {ip} saddr {pods} {ip} daddr {cluster} return
        {ip} saddr {cluster} {ip} daddr {pods} return
        {ip} saddr != {cluster} {ip} daddr {pods} return
        {ip} saddr {cluster} {ip} daddr != {multicast} masquerade fully-random
        {ip} saddr != {cluster} {ip} daddr {cluster} masquerade fully-random
    }}
}}
"
    )
}
