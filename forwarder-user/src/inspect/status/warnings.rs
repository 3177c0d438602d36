//! What is not as it should be, and what to do about it.

use serde::Serialize;

use super::Status;
use crate::inspect::check::listed;
use crate::sysctl;

/// So many packets by the kernel and none past it are no accident.
const MANY: u64 = 1000;

/// Something that somebody should look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// What was found.
    pub found: String,
    /// A command, or the document to read.
    pub fix: String,
}

/// The settings of the kernel that matter; `None`: not there.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Settings {
    pub be_liberal: Option<u64>,
    pub loose: Option<u64>,
}

impl Settings {
    /// What cannot be read is for `underpass check` to tell.
    pub fn read() -> Self {
        let read = |key| sysctl::read(key).ok().flatten();
        Self {
            be_liberal: read(sysctl::TCP_BE_LIBERAL),
            loose: read(sysctl::TCP_LOOSE),
        }
    }
}

fn warning(found: impl Into<String>, fix: impl Into<String>) -> Warning {
    Warning {
        found: found.into(),
        fix: fix.into(),
    }
}

/// All warnings, the gravest first.
pub(super) fn warnings(status: &Status, settings: Settings) -> Vec<Warning> {
    let mut all = Vec::new();
    all.extend(agent(status));
    all.extend(nodes(status));
    all.extend(peers(status));
    all.extend(pods(status));
    all.extend(xdp(status));
    all.extend(packets(status));
    all.extend(kernel(status, settings));
    all
}

fn agent(status: &Status) -> Vec<Warning> {
    let mut all = Vec::new();
    if !status.agent_running {
        all.push(warning(
            "no agent runs: what it set up goes on, changes are not followed",
            "systemctl status underpass, or kubectl -n kube-system get pods -o wide",
        ));
    }
    if status.uplink.is_none() {
        all.push(warning(
            "no uplink was found: nothing goes fast",
            "underpass check; the agent's --iface names it",
        ));
    }
    if status.transit && status.uplinks.len() < 2 {
        all.push(warning(
            "there is transit, and no program on a second uplink",
            "the agent's log says why; ip link",
        ));
    }
    if status.offload == "off" {
        all.push(warning(
            "the fast path is not switched on yet",
            "the agent's log says what it waits for",
        ));
    } else if status.pod_cidrs.is_empty() {
        all.push(warning(
            "this node has no podCIDR that is carried",
            "the agent's log says why; kubectl get nodes -o yaml shows spec.podCIDRs",
        ));
    }
    all
}

fn nodes(status: &Status) -> Option<Warning> {
    let look = match status.nodes_source {
        "kubernetes" => "underpass check --kubeconfig FILE, or the agent's log",
        _ => "the agent's --nodes-file: what `kubectl get nodes -o yaml` prints",
    };
    if let Some(error) = &status.nodes_error {
        return Some(warning(
            format!("the nodes cannot be read, the last good ones stay: {error}"),
            look,
        ));
    }
    if status.nodes_stale {
        let found = "the Kubernetes API has said nothing for five minutes: changes may be missed";
        return Some(warning(found, look));
    }
    let never = status.nodes_read_unix_s == 0;
    never.then(|| warning("the nodes have not been read yet: nothing is set up", look))
}

/// A state of a peer, what it means, and what to do about it.
const PEER_STATES: [(&str, &str, &str); 5] = [
    (
        "waiting_for_neighbour",
        "no MAC is known of",
        "underpass check asks for it; ip neigh show",
    ),
    (
        "kernel_routes_elsewhere",
        "the kernel has no direct route to the podCIDR of",
        "the CNI is to route it (Flannel: host-gw), or the agent with --routes manage",
    ),
    (
        "other_mtu",
        "a smaller MTU is kept for the way to",
        "ip route show; give route and uplink one MTU",
    ),
    (
        "not_on_link",
        "not on the uplink's segment, and left to the kernel:",
        "nothing where that is meant; else underpass check",
    ),
    (
        "refused",
        "what these nodes claim is refused:",
        "underpass peers says why; mend the Node",
    ),
];

/// One for each state that keeps peers from being fast.
fn peers(status: &Status) -> Vec<Warning> {
    let of_state = |&(state, what, fix): &(&str, &str, &str)| {
        let peers = status.peers.iter().filter(|peer| peer.state == state);
        let names: Vec<_> = peers.map(|peer| peer.name.as_str()).collect();
        (!names.is_empty()).then(|| warning(format!("{what} {}", listed(&names)), fix))
    };
    PEER_STATES.iter().filter_map(of_state).collect()
}

/// A state of a pod's veth, what it means, and what to do about it. A shaped one is left to the kernel
/// because somebody wants it.
const POD_STATES: [(&str, &str, &str); 3] = [
    (
        "attach_failed",
        "no program could be attached to",
        "the agent's log says why",
    ),
    (
        "peer_unknown",
        "the pod's end cannot be read of",
        "underpass check: does the agent have CAP_NET_ADMIN?",
    ),
    (
        "other_mtu",
        "the bridge has a smaller MTU than",
        "give bridge and pods one MTU, in the CNI's configuration",
    ),
];

fn pods(status: &Status) -> Vec<Warning> {
    let of_state = |&(state, what, fix): &(&str, &str, &str)| {
        let pods = status.pods.iter().filter(|pod| pod.state == state);
        let names: Vec<_> = pods.map(|pod| pod.veth.as_str()).collect();
        (!names.is_empty()).then(|| warning(format!("{what} {}", listed(&names)), fix))
    };
    POD_STATES.iter().filter_map(of_state).collect()
}

/// XDP that was asked for, and does nothing.
fn xdp(status: &Status) -> Option<Warning> {
    if let Some(error) = &status.xdp_error {
        return Some(warning(
            match status.uplinks.len() {
                0 | 1 => format!("no XDP on the uplink, TC does its work: {error}"),
                _ => format!("no XDP on all uplinks, TC does its work: {error}"),
            },
            "mend that, or start the agent without --ingress xdp",
        ));
    }
    let pods = status.pods.iter().filter(|pod| pod.ingress == "tc_no_gro");
    let names: Vec<_> = pods.map(|pod| pod.veth.as_str()).collect();
    (!names.is_empty()).then(|| {
        warning(
            format!(
                "by TC and not by XDP, for GRO is off at the pod's end: {}",
                listed(&names)
            ),
            "the agent's --pod-gro set, or ethtool -K eth0 gro on in the pod",
        )
    })
}

fn packets(status: &Status) -> Vec<Warning> {
    let count = |verdict: &str| {
        let counts = status.verdicts.iter().filter(|it| it.verdict == verdict);
        counts.fold(0, |sum: u64, it| sum.saturating_add(it.packets))
    };
    let mut all = Vec::new();
    let traffic = &status.traffic;
    if traffic.fast_packets == 0 && traffic.kernel_packets >= MANY {
        all.push(warning(
            "nothing has gone fast yet",
            "docs/packet-path.md#verdicts on the reasons above; underpass flows; underpass check",
        ));
    }
    match count("flow_table_full") {
        0 => {}
        packets => all.push(warning(
            format!("the flow table would not take {packets} flows"),
            "start the agent with a greater --max-flows",
        )),
    }
    match count("dropped") {
        0 => {}
        packets => all.push(warning(
            format!("{packets} packets could not be finished and were dropped"),
            "is the machine short of memory? dmesg",
        )),
    }
    all
}

fn kernel(status: &Status, settings: Settings) -> Vec<Warning> {
    let mut all: Vec<_> = status
        .neighbour_limits
        .iter()
        .map(|shortage| warning(shortage, "docs/scale.md; the agent's --neighbour-limits"))
        .collect();
    if settings.be_liberal == Some(0) {
        all.push(warning(
            "connections that fall back to the kernel may be INVALID there",
            format!("sysctl -w {}=1", sysctl::TCP_BE_LIBERAL),
        ));
    }
    if settings.loose == Some(0) {
        all.push(warning(
            "conntrack takes up no connection in mid-stream",
            format!("sysctl -w {}=1", sysctl::TCP_LOOSE),
        ));
    }
    all
}
