//! What is left on a node after `underpass detach`.

use anyhow::Result;
use aya::programs::{SchedClassifier, TcAttachType};
use aya::util::KernelVersion;

use crate::lab::{Lab, Node};

/// The kernel that brought TCX.
const TCX: KernelVersion = KernelVersion::new(6, 6, 0);

/// The sysctl that an agent changes, and `detach` puts back.
pub(crate) const LIBERAL: &str = "net.netfilter.nf_conntrack_tcp_be_liberal";

/// What is left, in words; `liberal`: what [`LIBERAL`] was.
///
/// # Errors
/// Where the node cannot be looked at.
pub(crate) fn of(lab: &Lab, node: &Node, liberal: &str) -> Result<Vec<String>> {
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

/// How many programs hang on a node's devices, by TCX, as filters or by XDP.
fn attached(node: &Node) -> Result<usize> {
    let mut devices: Vec<_> = node.pods().iter().map(|pod| pod.node_veth()).collect();
    devices.push(node.uplink());
    let mut programs = 0;
    for device in &devices {
        for side in ["ingress", "egress"] {
            let filters = node.run(&["tc", "filter", "show", "dev", device, side])?;
            programs += filters.matches(" bpf ").count();
        }
        let shown = node.run(&["ip", "-json", "link", "show", "dev", device])?;
        let links: serde_json::Value = serde_json::from_str(&shown)?;
        programs += usize::from(links.pointer("/0/xdp").is_some());
    }
    if KernelVersion::current()? < TCX {
        return Ok(programs);
    }
    node.enter(|| {
        for device in devices {
            for side in [TcAttachType::Ingress, TcAttachType::Egress] {
                programs += SchedClassifier::query_tcx(device, side)?.1.len();
            }
        }
        Ok(programs)
    })
}
