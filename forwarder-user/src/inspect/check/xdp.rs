//! What XDP needs, where it is asked for. Without it TC does the work: nothing here fails.

use underpass_common::verdict::Hook;

use super::Finding;
use super::facts::{Answer, Foreign, Network, Port, XdpFacts};
use super::network::listed;
use crate::world::netlink::XdpFeatures;
use crate::xdp::XdpMode;

/// What there is to do where the kernel does not tell what it is asked.
const LOOK: &str = "start the agent: its log and underpass status tell";

pub(super) fn findings(network: &Network) -> Vec<Finding> {
    let Some(xdp) = &network.xdp else {
        return Vec::new();
    };
    let mut findings = vec![driver(xdp, network), place(network), sight(xdp, network)];
    findings.push(pods(xdp, &network.pods));
    findings.extend(pod_gro(xdp));
    findings
}

/// Of one device; `Ok(None)`: the kernel does not tell.
fn features(xdp: &XdpFacts, port: &Port) -> Answer<Option<XdpFeatures>> {
    let all = xdp.features.as_ref().map_err(Clone::clone)?;
    Ok(all
        .as_ref()
        .map(|all| all.get(&port.ifindex).copied().unwrap_or_default()))
}

fn driver(xdp: &XdpFacts, network: &Network) -> Finding {
    let name = "XDP in the driver";
    let Ok(uplink) = &network.uplink else {
        return Finding::pass(name, "nothing to ask: there is no uplink");
    };
    if xdp.mode == XdpMode::Generic {
        return Finding::pass(
            name,
            "not needed with --xdp-mode generic, which saves little",
        );
    }
    let device = &uplink.name;
    match features(xdp, uplink) {
        Ok(Some(features)) if features.runs_programs() => {
            Finding::pass(name, format!("{device} runs programs and redirects"))
        }
        Ok(Some(_)) => Finding::warn(
            name,
            format!("{device}: {}; TC will do its work", xdp.why_not_native),
            "the driver's settings (MTU, LRO, queues; ethtool), --xdp-mode generic for trying, or --ingress tc",
        ),
        Ok(None) => Finding::warn(
            name,
            format!("this kernel does not tell what {device} can do: Linux 6.3 does"),
            LOOK,
        ),
        Err(error) => Finding::warn(name, error, LOOK),
    }
}

/// What others have on what comes in by the uplink, in XDP's place or behind it.
fn others(network: &Network, is_xdp: bool) -> Answer<Vec<&str>> {
    let Ok(uplink) = &network.uplink else {
        return Ok(Vec::new());
    };
    let programs = network.programs.as_ref().map_err(Clone::clone)?;
    let is_there = |one: &&Foreign| {
        one.device == uplink.name && one.hook == Hook::FromWire && one.is_xdp == is_xdp
    };
    let there = programs.iter().filter(is_there);
    Ok(there.map(|one| one.what.as_str()).collect())
}

fn unread(name: &'static str, error: &str) -> Finding {
    let fix = "run the check as root, or with CAP_NET_ADMIN";
    Finding::warn(name, format!("cannot be read: {error}"), fix)
}

fn place(network: &Network) -> Finding {
    let name = "XDP's place";
    match others(network, true) {
        Err(error) => unread(name, &error),
        Ok(there) if there.is_empty() => Finding::pass(name, "no program of others on the uplink"),
        Ok(there) => Finding::warn(
            name,
            format!(
                "taken: {}; it is left alone, and TC will do the work",
                listed(&there)
            ),
            "take it off with the tool that put it there (bpftool net show), or --ingress tc",
        ),
    }
}

/// What XDP would not see, or would keep others from seeing.
fn sight(xdp: &XdpFacts, network: &Network) -> Finding {
    let name = "XDP and others";
    if !xdp.vlans.is_empty() {
        return Finding::warn(
            name,
            format!(
                "the uplink carries VLANs ({}), whose tags XDP would not see: TC will do the work",
                listed(&xdp.vlans)
            ),
            "nothing where they are wanted; else ip link del VLAN, or --ingress tc",
        );
    }
    match others(network, false) {
        Err(error) => unread(name, &error),
        Ok(there) if there.is_empty() => Finding::pass(
            name,
            "no VLANs, and nobody looks on at what comes in by the uplink",
        ),
        Ok(there) => Finding::warn(
            name,
            format!(
                "{} on what comes in would not see what XDP carries: TC will do the work",
                listed(&there)
            ),
            "nothing where that is wanted; else take it off, or --ingress tc",
        ),
    }
}

fn pods(xdp: &XdpFacts, pods: &[Port]) -> Finding {
    let name = "pods by XDP";
    let all = match &xdp.features {
        Ok(Some(all)) => all,
        Ok(None) => {
            return Finding::warn(
                name,
                "this kernel does not tell which pods take frames: TC will have all of them",
                "boot Linux 6.3 or later, or --ingress tc",
            );
        }
        Err(error) => return Finding::warn(name, error.clone(), LOOK),
    };
    let takes = |pod: &&Port| all.get(&pod.ifindex).is_some_and(|it| it.takes_frames());
    let without: Vec<_> = pods.iter().filter(|pod| !takes(pod)).collect();
    let without: Vec<_> = without.iter().map(|pod| pod.name.as_str()).collect();
    let (count, taking) = (pods.len(), pods.len() - without.len());
    match (count, without.is_empty(), xdp.sets_pod_gro) {
        (0, ..) => Finding::pass(name, "none known here yet"),
        (_, true, _) => Finding::pass(name, format!("all {count} take frames")),
        (_, false, true) => Finding::pass(
            name,
            format!("{taking} of {count} take frames; the agent is to switch GRO on in the others"),
        ),
        (_, false, false) => Finding::warn(
            name,
            format!(
                "{taking} of {count} take frames; by TC, for GRO is off at the pod's end: {}",
                listed(&without)
            ),
            "--pod-gro set, or ethtool -K eth0 gro on in the pod",
        ),
    }
}

fn pod_gro(xdp: &XdpFacts) -> Option<Finding> {
    let name = "--pod-gro set";
    xdp.sets_pod_gro.then(|| match &xdp.may_enter {
        Err(error) => Finding::warn(name, error.clone(), "is /proc mounted?"),
        Ok(false) => Finding::warn(
            name,
            "CAP_SYS_ADMIN is missing, without which nobody enters the pods' network namespaces: where GRO is off \
             TC will do the work",
            "add SYS_ADMIN to the container's capabilities, or leave --pod-gro set out",
        ),
        Ok(true) if !xdp.hidden.is_empty() => Finding::warn(
            name,
            format!(
                "the network namespaces are not to be found of {}",
                listed(&xdp.hidden)
            ),
            "in a container: mount the host's /run/netns with mountPropagation HostToContainer",
        ),
        Ok(true) => Finding::pass(name, "pods' network namespaces can be entered"),
    })
}
