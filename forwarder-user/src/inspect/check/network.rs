//! The uplinks and the pods' veths.

use super::Finding;
use super::facts::{Answer, Network, Offloads, Port};

/// How many of many are named.
const NAMED: usize = 5;

pub(super) fn findings(network: &Network) -> Vec<Finding> {
    let mut findings = vec![uplink(network)];
    findings.extend(network.extra_uplinks.iter().map(extra_uplink));
    findings.extend([
        pods(network),
        mtu(network),
        queueing(network),
        offloads_of_uplinks(network),
        offloads_of_pods(network),
    ]);
    findings
}

/// `a, b, c and 12 more`.
pub(in crate::inspect) fn listed<S: AsRef<str>>(names: &[S]) -> String {
    let shown: Vec<_> = names.iter().take(NAMED).map(AsRef::as_ref).collect();
    match names.len().saturating_sub(NAMED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn uplink(network: &Network) -> Finding {
    let name = "uplink";
    let fix = "mend that, or name another with --iface, --iface-regex or --iface-can-reach";
    match &network.uplink {
        Ok(port) => Finding::pass(name, format!("{}, MTU {}", port.name, port.mtu)),
        Err(error) if network.uplink_is_wanted => Finding::fail(name, error.clone(), fix),
        Err(error) => Finding::warn(name, error.clone(), fix),
    }
}

/// The agent goes on without it.
fn extra_uplink((name, port): &(String, Answer<Port>)) -> Finding {
    let of = format!("uplink {name}");
    match port {
        Ok(port) => Finding::pass(of, format!("MTU {}", port.mtu)),
        Err(error) => Finding::warn(of, error.clone(), "mend that, or leave out --extra-iface"),
    }
}

fn pods(network: &Network) -> Finding {
    let name = "pods";
    let names: Vec<_> = network.pods.iter().map(|pod| pod.name.as_str()).collect();
    match names.len() {
        0 => Finding::pass(name, "none known here yet"),
        count => Finding::pass(name, format!("{count} veths: {}", listed(&names))),
    }
}

fn names_of(pods: &[Port], chosen: impl Fn(&Port) -> bool) -> Vec<&str> {
    let chosen = pods.iter().filter(|pod| chosen(pod));
    chosen.map(|pod| pod.name.as_str()).collect()
}

fn mtu(network: &Network) -> Finding {
    let name = "MTU";
    let behind = names_of(&network.pods, |pod| {
        pod.bridge_mtu.is_some_and(|bridge| bridge < pod.mtu)
    });
    if !behind.is_empty() {
        return Finding::warn(
            name,
            format!(
                "the bridge before {} carries less than they do: they are left to the kernel",
                listed(&behind)
            ),
            "give bridge and pods one MTU, in the CNI's configuration",
        );
    }
    let Some(uplink) = network.uplinks().min_by_key(|uplink| uplink.mtu) else {
        return Finding::pass(name, "nothing to compare: there is no uplink");
    };
    let of = match network.uplinks().count() {
        1 => "the uplink's".to_owned(),
        _ => format!("{}'s", uplink.name),
    };
    let wide = names_of(&network.pods, |pod| pod.mtu > uplink.mtu);
    if wide.is_empty() {
        return Finding::pass(name, format!("no pod sends more than {of} {}", uplink.mtu));
    }
    Finding::warn(
        name,
        format!(
            "{} send more than {of} {}: the kernel refuses such packets, or cuts them",
            listed(&wide),
            uplink.mtu
        ),
        format!("set the CNI's MTU to {} or less", uplink.mtu),
    )
}

/// An uplink's own queue is passed by fast packets as well; what hangs before a pod would be jumped over.
fn queueing(network: &Network) -> Finding {
    let name = "queueing";
    let limited: Vec<_> = network
        .pods
        .iter()
        .filter(|pod| !pod.limits.is_empty())
        .map(|pod| format!("{} ({})", pod.name, pod.limits.join(", ")))
        .collect();
    if !limited.is_empty() {
        return Finding::warn(
            name,
            format!(
                "limited or redirected, and left to the kernel: {}",
                listed(&limited)
            ),
            "nothing where that is wanted (kubernetes.io/*-bandwidth); else tc qdisc del dev VETH root",
        );
    }
    let limited = network.uplinks().filter(|port| !port.limits.is_empty());
    let limited: Vec<_> = limited
        .map(|port| format!("{} on {}", port.limits.join(", "), port.name))
        .collect();
    match limited.is_empty() {
        true => Finding::pass(name, "nothing limits the uplink or pods"),
        false => Finding::pass(
            name,
            format!(
                "{}, which fast packets pass as well; nothing before pods",
                limited.join("; ")
            ),
        ),
    }
}

fn off(offloads: Offloads) -> Vec<&'static str> {
    let all = [
        ("gro", offloads.gro),
        ("tso", offloads.tso),
        ("gso", offloads.gso),
    ];
    let off = all.into_iter().filter(|(_, on)| *on == Some(false));
    off.map(|(name, _)| name).collect()
}

fn offloads_of_uplinks(network: &Network) -> Finding {
    let name = "offloads of the uplink";
    if network.uplinks().next().is_none() {
        return Finding::pass(name, "there is no uplink");
    }
    let mut each = network
        .uplinks()
        .map(|uplink| (uplink, off(uplink.offloads)));
    let Some((uplink, off)) = each.find(|(_, off)| !off.is_empty()) else {
        return Finding::pass(name, "as they should be (GRO, TSO, GSO)");
    };
    Finding::warn(
        name,
        format!(
            "off: {} (on {}); TCP costs a pass for each packet then",
            off.join(", "),
            uplink.name
        ),
        format!("ethtool -K {} {} on", uplink.name, off.join(" on ")),
    )
}

fn offloads_of_pods(network: &Network) -> Finding {
    let name = "offloads of pods";
    // Received at the host's end is what the pod sends, whole already: GRO has nothing to do there.
    let cut = names_of(&network.pods, |pod| {
        pod.offloads.tso == Some(false) || pod.offloads.gso == Some(false)
    });
    if cut.is_empty() {
        return Finding::pass(name, "as they should be (TSO, GSO)");
    }
    Finding::warn(
        name,
        format!(
            "TSO or GSO is off: {}; TCP into these pods is cut before it",
            listed(&cut)
        ),
        "ethtool -K VETH tso on gso on, or the CNI's setting for it",
    )
}
