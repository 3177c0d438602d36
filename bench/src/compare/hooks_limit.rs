//! The limit of what programs at Underpass's hooks can reach, on the nodes of a lab: the BPF program `hooks_limit`,
//! whose file tells what it does.

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::maps::{HashMap, MapData, PerCpuArray};
use aya::programs::tc::TcAttachOptions;
use aya::programs::{LinkOrder, TcAttachType};
use nix::net::if_::if_nametoindex;
use underpass_common::addr::Mac;

use super::bpf::{self, layout::StraightWay};
use super::fib_helper::Redirects;
use crate::Lab;
use crate::lab::{Family, Node, names};

const PROGRAM: &str = "hooks_limit";

/// The program on the nodes of a lab, at ingress of the uplinks and of each pod's veth. Dropping it detaches it.
pub struct HooksLimit {
    nodes: Vec<OnNode>,
}

struct OnNode {
    /// Keeps the program, and by it the links.
    _ebpf: Ebpf,
    sent: PerCpuArray<MapData, u64>,
}

impl HooksLimit {
    /// Attaches it on all nodes, on each to the pods that the lab was built with.
    ///
    /// # Errors
    /// The kernel does not take the program.
    pub fn attach(lab: &Lab) -> Result<Self> {
        let attach = |node: &Node| {
            node.enter(|| OnNode::attach(lab, node))
                .with_context(|| format!("cannot attach {PROGRAM} on {}", node.name()))
        };
        let nodes = lab.nodes().iter().map(attach).collect::<Result<_>>()?;
        Ok(Self { nodes })
    }
}

impl Redirects for HooksLimit {
    fn packets(&self) -> u64 {
        let of_node = |node: &OnNode| -> u64 {
            let by_cpu = node.sent.get(&0, 0).expect("an array has an entry 0");
            by_cpu.iter().sum()
        };
        self.nodes.iter().map(of_node).sum()
    }
}

impl OnNode {
    /// In the node's namespace.
    fn attach(lab: &Lab, node: &Node) -> Result<Self> {
        let mut ebpf = bpf::load(1)?;
        let mut ways: HashMap<MapData, u32, StraightWay> =
            HashMap::try_from(bpf::map(&mut ebpf, "straight_ways")?)?;
        let sent = bpf::map(&mut ebpf, "sent_straight")?.try_into()?;
        let uplink = node.uplink();
        for other in lab.nodes() {
            let is_own = other.number() == node.number();
            for (number, pod) in (1..).zip(other.pods()) {
                let way = match is_own {
                    true => StraightWay {
                        ifindex: index(pod.node_veth())?,
                        macs: macs(pod.mac(), names::gateway_mac(node.number())),
                        is_into_pod: 1,
                    },
                    false => StraightWay {
                        ifindex: index(uplink)?,
                        macs: macs(other.mac(), node.mac()),
                        is_into_pod: 0,
                    },
                };
                let address = names::pod_address(Family::V4, other.number(), number);
                let std::net::IpAddr::V4(address) = address else {
                    continue;
                };
                ways.insert(u32::from_ne_bytes(address.octets()), way, 0)?;
            }
        }
        let program = bpf::load_program(&mut ebpf, PROGRAM)?;
        let veths = node.pods().iter().map(|pod| pod.node_veth());
        for device in veths.chain([uplink]) {
            let order = TcAttachOptions::TcxOrder(LinkOrder::last());
            program
                .attach_with_options(device, TcAttachType::Ingress, order)
                .with_context(|| format!("to the ingress of {device}"))?;
        }
        Ok(Self { _ebpf: ebpf, sent })
    }
}

fn index(device: &str) -> Result<u32> {
    if_nametoindex(device).with_context(|| format!("there is no device {device}"))
}

/// Destination and source as they begin a frame, in words of this machine's order.
fn macs(dst: Mac, src: Mac) -> [u32; 3] {
    let [a, b, c, d, e, f] = dst;
    let [g, h, i, j, k, l] = src;
    [[a, b, c, d], [e, f, g, h], [i, j, k, l]].map(u32::from_ne_bytes)
}
