//! Which packet is asked about.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, bail};
use underpass_common::flow::{FlowKey, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP};
use underpass_common::pod::PodState;
use underpass_common::verdict::Hook;

use super::{PacketReport, Snapshot};
use crate::cli::{Protocol, TraceArgs};

/// Which of a flow's two directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From a pod of this node to the wire.
    Out,
    /// From the wire to a pod of this node.
    In,
    /// From one uplink to another: from another node's pod to one of a third. The former stands for the pod.
    Transit,
}

impl Way {
    /// Where its packets come in.
    pub fn entrance(self) -> Hook {
        match self {
            Self::Out => Hook::FromPod,
            Self::In | Self::Transit => Hook::FromWire,
        }
    }

    /// Where the kernel sends them.
    pub fn exit(self) -> Hook {
        match self {
            Self::Out | Self::Transit => Hook::ToWire,
            Self::In => Hook::ToPod,
        }
    }
}

/// A packet, as a flow's key names it: seen from the pod. What is `None` may be anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Which way it goes.
    pub way: Way,
    /// The pod of this node; in transit the one that sends.
    pub pod: Option<IpAddr>,
    /// The far end.
    pub remote: Option<IpAddr>,
    /// Its protocol.
    pub protocol: Option<Protocol>,
    /// The pod's port; for ICMP echo the identifier.
    pub pod_port: Option<u16>,
    /// The far end's port.
    pub remote_port: Option<u16>,
}

impl Question {
    /// Takes it from the command line; a pod, where none is named, from what is known.
    ///
    /// # Errors
    /// Where there can be no such packet.
    pub fn new(args: &TraceArgs, known: &Snapshot) -> Result<Self> {
        check(args)?;
        let (way, pod, remote) = match args.from {
            Some(from) if known.is_own(from) => (Way::Out, Some(from), Some(args.to)),
            Some(from) if known.settings.has_transit() && !known.is_own(args.to) => {
                (Way::Transit, Some(from), Some(args.to))
            }
            Some(from) => (Way::In, Some(args.to), Some(from)),
            None if known.is_own(args.to) => (Way::In, Some(args.to), None),
            None => (Way::Out, some_pod(known, args.to), Some(args.to)),
        };
        let (pod_port, remote_port) = match (way, args.proto) {
            (_, Some(Protocol::Icmp)) => (args.port, None),
            (Way::Out | Way::Transit, _) => (args.from_port, args.port),
            (Way::In, _) => (args.port, args.from_port),
        };
        Ok(Self {
            way,
            pod,
            remote,
            protocol: args.proto,
            pod_port,
            remote_port,
        })
    }

    /// True where a flow may be the packet's.
    pub fn is_of(&self, key: &FlowKey<IpAddr>) -> bool {
        let is = |asked: Option<u16>, port: [u8; 2]| {
            asked.is_none_or(|asked| asked == u16::from_be_bytes(port))
        };
        self.pod.is_none_or(|pod| pod == key.pod)
            && self.remote.is_none_or(|remote| remote == key.remote)
            && self.protocol.is_none_or(|one| is_of(one, key.protocol))
            && is(self.pod_port, key.pod_port)
            && is(self.remote_port, key.remote_port)
    }

    /// Who sends it.
    pub fn sender(&self) -> Option<IpAddr> {
        match self.way {
            Way::Out | Way::Transit => self.pod,
            Way::In => self.remote,
        }
    }

    /// True where the packet is an IPv6 one.
    pub fn is_ipv6(&self) -> bool {
        self.pod.or(self.remote).is_some_and(|ip| ip.is_ipv6())
    }

    /// The packet in its own direction.
    pub fn report(&self) -> PacketReport {
        let pod = (self.pod, self.pod_port);
        let remote = match self.protocol {
            Some(Protocol::Icmp) => (self.remote, self.pod_port),
            _ => (self.remote, self.remote_port),
        };
        let ((from, from_port), (to, to_port)) = match self.way {
            Way::Out | Way::Transit => (pod, remote),
            Way::In => (remote, pod),
        };
        PacketReport {
            from,
            to,
            protocol: self.protocol.map(name),
            from_port,
            to_port,
        }
    }
}

impl PacketReport {
    /// `tcp 10.244.1.11 -> 10.244.2.11:80`.
    pub fn line(&self) -> String {
        let end = |ip: Option<IpAddr>, port: Option<u16>| match (ip, port) {
            (Some(ip), Some(port)) => SocketAddr::new(ip, port).to_string(),
            (Some(ip), None) => ip.to_string(),
            (None, Some(port)) => format!("anybody, port {port}"),
            (None, None) => "anybody".to_owned(),
        };
        let (from, to) = (end(self.from, self.from_port), end(self.to, self.to_port));
        format!("{} {from} -> {to}", self.protocol.unwrap_or("any protocol"))
    }
}

fn check(args: &TraceArgs) -> Result<()> {
    for ip in [Some(args.to), args.from].into_iter().flatten() {
        if ip.is_multicast() || ip.is_unspecified() || ip.is_loopback() {
            bail!("{ip} is no address that a pod's packet could be routed from or to");
        }
    }
    if let Some(from) = args.from
        && from.is_ipv4() != args.to.is_ipv4()
    {
        bail!(
            "a packet from {from} to {} cannot be: they are of two families",
            args.to
        );
    }
    if args.proto == Some(Protocol::Icmp) && args.from_port.is_some() {
        bail!("ICMP has no ports: its echo has one identifier, which --port takes");
    }
    Ok(())
}

/// A pod of this node that could send there: one that does already, or the first that can be fast.
fn some_pod(known: &Snapshot, to: IpAddr) -> Option<IpAddr> {
    let of_family = |pod: &&IpAddr| pod.is_ipv4() == to.is_ipv4();
    let attached = |pod: &&IpAddr| {
        let pod = known.endpoints.get(*pod);
        pod.and_then(|endpoint| known.pods.get(&endpoint.ifindex))
            .is_some_and(|pod| pod.state == PodState::Attached as u8)
    };
    let mut talking: Vec<IpAddr> = known
        .flows
        .iter()
        .filter(|(key, _)| key.remote == to)
        .map(|(key, _)| key.pod)
        .collect();
    talking.sort_unstable();
    let mut learned = known.endpoints.keys().filter(of_family);
    talking
        .first()
        .copied()
        .or_else(|| learned.clone().find(attached).copied())
        .or_else(|| learned.next().copied())
}

fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Icmp => "icmp",
    }
}

/// True where `number`, as it stands in a flow's key, is that protocol's.
fn is_of(protocol: Protocol, number: u8) -> bool {
    match protocol {
        Protocol::Tcp => number == PROTOCOL_TCP,
        Protocol::Udp => number == PROTOCOL_UDP,
        Protocol::Icmp => matches!(number, PROTOCOL_ICMP | PROTOCOL_ICMPV6),
    }
}
