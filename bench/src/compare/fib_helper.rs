//! The stand-in for xdp-forward on the nodes of a lab: the BPF program `fib_helper`, whose file tells what it does.

use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use aya::maps::{HashMap, MapData, PerCpuArray};
use aya::programs::tc::TcAttachOptions;
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType, XdpMode};
use aya::util::KernelVersion;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use underpass_common::addr::Mac;

use super::bpf::{self, layout::Routed};
use crate::Lab;
use crate::lab::{Node, names};

const PROGRAM: &str = "fib_helper";
const XDP_PROGRAM: &str = "fib_helper_xdp";

/// The kernel that brought TCX, by which a program goes away with its link.
const TCX: KernelVersion = KernelVersion::new(6, 6, 0);

/// Programs that redirect packets past the kernel.
pub trait Redirects {
    /// How many packets they have redirected, on all nodes.
    ///
    /// # Panics
    /// Where the kernel does not let its counters be read, which it has let be made.
    fn packets(&self) -> u64;
}

/// The program on nodes of a lab, at ingress of the uplinks and of each pod's veth. Dropping it detaches it.
pub struct FibHelper {
    nodes: Vec<OnNode>,
}

/// Maps of a node's own, for devices of two namespaces can have the same index.
struct OnNode {
    /// Keeps the program, and by it the links.
    _ebpf: Ebpf,
    redirected: PerCpuArray<MapData, u64>,
}

impl FibHelper {
    /// Attaches it on all nodes, on each to the pods that the lab was built with.
    ///
    /// # Errors
    /// The kernel is older than Linux 6.6, or does not take the program.
    pub fn attach(lab: &Lab) -> Result<Self> {
        Self::attach_on(lab.nodes())
    }

    /// As [`attach`](Self::attach), on these nodes.
    ///
    /// # Errors
    /// Likewise.
    pub fn attach_on(nodes: &[Node]) -> Result<Self> {
        let running = KernelVersion::current().context("cannot tell the kernel's release")?;
        ensure!(
            running >= TCX,
            "{PROGRAM} is attached by TCX, which Linux 6.6 brought, and this kernel is older: leave it out"
        );
        let attach = |node: &Node| {
            node.enter(|| OnNode::attach(node))
                .with_context(|| format!("cannot attach {PROGRAM} on {}", node.name()))
        };
        let nodes = nodes.iter().map(attach).collect::<Result<_>>()?;
        Ok(Self { nodes })
    }

    /// Attaches the one of XDP to the uplinks of a node.
    ///
    /// # Errors
    /// The kernel does not take the program, or there is one of XDP on an uplink.
    pub fn attach_xdp(node: &Node) -> Result<Self> {
        let attached = node.enter(|| OnNode::attach_xdp(node));
        let attached =
            attached.with_context(|| format!("cannot attach {XDP_PROGRAM} on {}", node.name()))?;
        Ok(Self {
            nodes: vec![attached],
        })
    }
}

impl Redirects for FibHelper {
    fn packets(&self) -> u64 {
        let of_node = |node: &OnNode| -> u64 {
            let by_cpu = node.redirected.get(&0, 0);
            let by_cpu = by_cpu.expect("an array has an entry 0");
            by_cpu.iter().sum()
        };
        self.nodes.iter().map(of_node).sum()
    }
}

impl OnNode {
    /// In the node's namespace.
    fn attach(node: &Node) -> Result<Self> {
        let mut ebpf = bpf::load(1)?;
        let mut routed = HashMap::try_from(bpf::map(&mut ebpf, "routed")?)?;
        let redirected = bpf::map(&mut ebpf, "redirected")?.try_into()?;
        let program = bpf::load_program(&mut ebpf, PROGRAM)?;
        for uplink in node.uplinks().map(|it| it.interface()) {
            attach_to(program, &mut routed, uplink, mac(uplink)?)?;
        }
        for pod in node.pods() {
            let veth = pod.node_veth();
            // Behind a bridge pods send to its MAC, else to the veth's.
            let gateway = mac(names::POD_BRIDGE).or_else(|_| mac(veth))?;
            attach_to(program, &mut routed, veth, gateway)?;
        }
        Ok(Self {
            _ebpf: ebpf,
            redirected,
        })
    }
}

impl OnNode {
    /// In the node's namespace.
    fn attach_xdp(node: &Node) -> Result<Self> {
        let mut ebpf = bpf::load(1)?;
        let mut routed = HashMap::try_from(bpf::map(&mut ebpf, "routed")?)?;
        let redirected = bpf::map(&mut ebpf, "redirected")?.try_into()?;
        let program = bpf::load_xdp(&mut ebpf, XDP_PROGRAM)?;
        for uplink in node.uplinks().map(|it| it.interface()) {
            set_routed(&mut routed, uplink, mac(uplink)?)?;
            program
                .attach(uplink, XdpMode::Driver)
                .with_context(|| format!("to {uplink}"))?;
        }
        Ok(Self {
            _ebpf: ebpf,
            redirected,
        })
    }
}

/// Has frames that come in by a device routed when they are sent to `mac`.
fn set_routed(routed: &mut HashMap<MapData, u32, Routed>, device: &str, mac: Mac) -> Result<()> {
    let ifindex = if_nametoindex(device).with_context(|| format!("there is no device {device}"))?;
    routed.insert(ifindex, Routed { mac, _pad: [0; 2] }, 0)?;
    Ok(())
}

/// Attaches the program to a device whose frames are to be routed when they are sent to `mac`.
fn attach_to(
    program: &mut SchedClassifier,
    routed: &mut HashMap<MapData, u32, Routed>,
    device: &str,
    mac: Mac,
) -> Result<()> {
    set_routed(routed, device, mac)?;
    let order = TcAttachOptions::TcxOrder(LinkOrder::last());
    program
        .attach_with_options(device, TcAttachType::Ingress, order)
        .with_context(|| format!("to the ingress of {device}"))?;
    Ok(())
}

/// The MAC address of a device of this namespace.
fn mac(device: &str) -> Result<Mac> {
    let addresses = getifaddrs().context("cannot list the devices")?;
    let mut macs = addresses
        .filter(|it| it.interface_name == device)
        .filter_map(|it| it.address?.as_link_addr()?.addr());
    macs.next()
        .with_context(|| format!("there is no device {device} with a MAC address"))
}
