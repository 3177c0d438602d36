//! A pod's veth, as the agent knows it from netlink.

use crate::addr::Mac;

/// Whether a veth takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PodState {
    /// Programs are attached.
    Attached = 1,
    /// Left to the kernel: a queueing discipline on the veth shapes or redirects, which must not be
    /// jumped over.
    Shaped = 2,
    /// Left to the kernel: the pod's end of the veth cannot be read.
    PeerUnknown = 3,
    /// Left to the kernel: attaching failed; the agent's log says why.
    AttachFailed = 4,
    /// Left to the kernel: the bridge before it has a smaller MTU, which only the kernel honours.
    OtherMtu = 5,
}

/// Value of the map `pods`: what the agent knows of a veth. `to_pod` learns an endpoint only for the
/// MAC that stands here, so that a frame which a bridge floods teaches nothing on the wrong ports.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// MAC of the pod's end of the veth.
    pub mac: Mac,
    /// A [`PodState`].
    pub state: u8,
    /// A [`PodIngress`].
    pub ingress: u8,
    /// Name of the host's end, ended by zeros.
    pub name: [u8; 16],
}

const _: () = assert!(size_of::<Pod>() == 24);

/// How a packet of a confirmed flow reaches a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum PodIngress {
    /// By TC: nobody asked for XDP, or the veth takes no part.
    #[default]
    Tc = 0,
    /// By XDP, or by TC where XDP lets it pass.
    Xdp = 1,
    /// By TC: the pod's end takes nothing from XDP. GRO is off there.
    TcNoGro = 2,
}

impl PodIngress {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tc, Self::Xdp, Self::TcNoGro];

    /// The one of that number, where there is one.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|one| *one as u8 == number)
    }

    /// Its name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tc => "tc",
            Self::Xdp => "xdp",
            Self::TcNoGro => "tc_no_gro",
        }
    }
}

impl PodState {
    /// All states.
    pub const ALL: [Self; 5] = [
        Self::Attached,
        Self::Shaped,
        Self::PeerUnknown,
        Self::AttachFailed,
        Self::OtherMtu,
    ];

    /// The state of that number, where there is one.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| *state as u8 == number)
    }

    /// Its name in JSON and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Shaped => "shaped",
            Self::PeerUnknown => "peer_unknown",
            Self::AttachFailed => "attach_failed",
            Self::OtherMtu => "other_mtu",
        }
    }
}
