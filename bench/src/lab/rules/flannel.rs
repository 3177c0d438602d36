//! Flannel's rules (flannel, `pkg/trafficmngr`): accept the cluster's traffic in FORWARD, masquerade
//! what leaves the cluster.

use anyhow::Result;

use super::{Backend, load};
use crate::lab::Node;
use crate::lab::names::CLUSTER_CIDR;

/// The mark of packets that kube-proxy is going to masquerade.
const KUBE_MARK: &str = "0x4000";

/// Loads them on a node.
pub(crate) fn apply(node: &Node, backend: Backend) -> Result<()> {
    let pods = node.pod_cidr_v4().to_string();
    let rules = match backend {
        Backend::Iptables => iptables(&pods),
        Backend::Nftables => nftables(&pods),
    };
    load(node, backend, &rules)
}

fn iptables(pods: &str) -> String {
    let forward = "-m comment --comment \"flanneld forward\"";
    let masquerade = "-m comment --comment \"flanneld masq\"";
    format!(
        "*filter
:FLANNEL-FWD - [0:0]
-A FORWARD {forward} -j FLANNEL-FWD
-A FLANNEL-FWD -s {CLUSTER_CIDR} {forward} -j ACCEPT
-A FLANNEL-FWD -d {CLUSTER_CIDR} {forward} -j ACCEPT
COMMIT
*nat
:FLANNEL-POSTRTG - [0:0]
-A POSTROUTING {masquerade} -j FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -m mark --mark {KUBE_MARK}/{KUBE_MARK} {masquerade} -j RETURN
-A FLANNEL-POSTRTG -s {pods} -d {CLUSTER_CIDR} {masquerade} -j RETURN
-A FLANNEL-POSTRTG -s {CLUSTER_CIDR} -d {pods} {masquerade} -j RETURN
-A FLANNEL-POSTRTG ! -s {CLUSTER_CIDR} -d {pods} {masquerade} -j RETURN
-A FLANNEL-POSTRTG -s {CLUSTER_CIDR} ! -d 224.0.0.0/4 {masquerade} -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG ! -s {CLUSTER_CIDR} -d {CLUSTER_CIDR} {masquerade} -j MASQUERADE --random-fully
COMMIT
"
    )
}

fn nftables(pods: &str) -> String {
    format!(
        "table ip flannel-ipv4 {{
    chain forward {{
        type filter hook forward priority filter; policy accept;
        ip saddr {CLUSTER_CIDR} accept
        ip daddr {CLUSTER_CIDR} accept
    }}
    chain postrtg {{
        type nat hook postrouting priority srcnat; policy accept;
        meta mark & {KUBE_MARK} == {KUBE_MARK} return
        ip saddr {pods} ip daddr {CLUSTER_CIDR} return
        ip saddr {CLUSTER_CIDR} ip daddr {pods} return
        ip saddr != {CLUSTER_CIDR} ip daddr {pods} return
        ip saddr {CLUSTER_CIDR} ip daddr != 224.0.0.0/4 masquerade fully-random
        ip saddr != {CLUSTER_CIDR} ip daddr {CLUSTER_CIDR} masquerade fully-random
    }}
}}
"
    )
}
