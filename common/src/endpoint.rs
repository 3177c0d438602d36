//! A pod of this node, as the kernel's own frames to it showed it.

use crate::addr::Mac;

/// How to reach a local pod. Learned at `to_pod`, from a frame that the kernel itself sent there;
/// removed by the agent when the veth goes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// Interface index of the pod's host-side veth.
    pub ifindex: u32,
    /// The pod's own MAC: destination of frames to it.
    pub pod_mac: Mac,
    /// The MAC that the pod sees its node with: source of frames to it, and destination of the
    /// frames that it wants routed.
    pub gateway_mac: Mac,
}

const _: () = assert!(size_of::<Endpoint>() == 16);
