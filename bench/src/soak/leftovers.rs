//! What is left on a node after `underpass detach`.

use anyhow::Result;
use aya::programs::{ProgramInfo, SchedClassifier, TcAttachType};

use crate::lab::{Lab, Node};

/// The sysctl that an agent changes, and `detach` puts back.
pub(super) const LIBERAL: &str = "net.netfilter.nf_conntrack_tcp_be_liberal";

/// What is left, in words; `liberal`: what [`LIBERAL`] was.
///
/// # Errors
/// Where the node cannot be looked at.
pub(super) fn of(lab: &Lab, node: &Node, liberal: &str) -> Result<Vec<String>> {
    let mut left = Vec::new();
    let pins = lab.bpffs(node);
    if pins.exists() {
        left.push(pins.display().to_string());
    }
    for family in ["-4", "-6"] {
        let routes = node.run(&["ip", family, "route", "show", "proto", "85"])?;
        left.extend(routes.lines().map(str::to_owned));
    }
    let programs = attached(node)?;
    if programs > 0 {
        left.push(format!("{programs} programs"));
    }
    let now = node.read_sysctl(LIBERAL)?;
    if now != liberal {
        left.push(format!("{LIBERAL} is {now}"));
    }
    Ok(left
        .iter()
        .map(|it| format!("{}: {it}", node.name()))
        .collect())
}

/// How many programs hang on a node's devices by TCX.
fn attached(node: &Node) -> Result<usize> {
    let mut devices: Vec<_> = node.pods().iter().map(|pod| pod.node_veth()).collect();
    devices.push(node.uplink());
    node.enter(|| {
        let mut programs = 0;
        for device in devices {
            for side in [TcAttachType::Ingress, TcAttachType::Egress] {
                // A kernel without TCX has none.
                let found = SchedClassifier::query_tcx(device, side);
                programs += found.map_or(0, |(_, found)| found.iter().map(ProgramInfo::id).count());
            }
        }
        Ok(programs)
    })
}
