//! What is run: one kind of traffic to one kind of target, and which figures it yields.

use std::fmt;
use std::str::FromStr;

use super::figure::Figure;

/// Who the traffic is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// The other end's own address.
    Peer,
    /// The ClusterIP of a Service with the other end behind it: kube-proxy's rules translate each flow.
    Service,
    /// A host that is no node: Flannel's rules masquerade each flow.
    Outside,
    /// A pod on another L2 segment, by a node with an uplink on each.
    Transit,
}

/// The kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Traffic {
    /// TCP, as fast as it goes, in this many streams.
    Streams(u8),
    /// TCP request and response, one at a time.
    Requests,
    /// TCP: connect, one HTTP request and response, close.
    Connections,
    /// UDP with this many bytes of payload, as many packets as one sender can send.
    Flood(u16),
    /// UDP with this many bytes of payload, at a fixed rate.
    Paced(u16),
}

/// One trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Trial {
    /// What is sent.
    pub traffic: Traffic,
    /// To whom.
    pub target: Target,
    /// Segmentation and receive offload of the ends, as Linux has them; without, every packet of the wire
    /// is a packet of its own in the stacks, too.
    pub offload: bool,
}

impl Trial {
    /// All, in the order in which they are told.
    pub const ALL: [Self; 24] = {
        use Target::{Outside, Peer, Service, Transit};
        use Traffic::{Connections, Flood, Paced, Requests, Streams};
        [
            with(Streams(1), Peer),
            with(Streams(1), Service),
            with(Streams(1), Outside),
            with(Streams(8), Peer),
            with(Streams(8), Service),
            without(Streams(1), Peer),
            without(Streams(1), Service),
            without(Streams(8), Peer),
            with(Requests, Peer),
            with(Requests, Service),
            with(Requests, Outside),
            with(Connections, Peer),
            with(Connections, Service),
            with(Flood(64), Peer),
            with(Flood(64), Service),
            with(Flood(64), Outside),
            with(Flood(1400), Peer),
            with(Flood(1400), Service),
            with(Paced(64), Peer),
            with(Paced(64), Service),
            with(Paced(1400), Peer),
            with(Flood(64), Transit),
            with(Flood(1400), Transit),
            with(Streams(1), Transit),
        ]
    };

    /// One of each kind of traffic, to see that it works.
    pub const QUICK: [Self; 6] = {
        use Target::{Peer, Service};
        use Traffic::{Connections, Flood, Paced, Requests, Streams};
        [
            with(Streams(1), Peer),
            with(Streams(1), Service),
            with(Requests, Peer),
            with(Connections, Peer),
            with(Flood(64), Peer),
            with(Paced(64), Peer),
        ]
    };

    /// The name on the command line and in the report: `tcp-stream`, `tcp-8-streams-service`,
    /// `udp-64-outside`, `tcp-stream-no-offload`, `transit-udp-64`.
    pub fn name(self) -> String {
        let traffic = match self.traffic {
            Traffic::Streams(1) => "tcp-stream".to_owned(),
            Traffic::Streams(count) => format!("tcp-{count}-streams"),
            Traffic::Requests => "tcp-requests".to_owned(),
            Traffic::Connections => "tcp-connections".to_owned(),
            Traffic::Flood(size) => format!("udp-{size}"),
            Traffic::Paced(size) => format!("udp-{size}-paced"),
        };
        let (before, after) = match self.target {
            Target::Peer => ("", ""),
            Target::Service => ("", "-service"),
            Target::Outside => ("", "-outside"),
            Target::Transit => ("transit-", ""),
        };
        let offload = if self.offload { "" } else { "-no-offload" };
        format!("{before}{traffic}{after}{offload}")
    }

    /// In words, for headings: `TCP, one stream, pod to Service`.
    pub fn title(self) -> String {
        let traffic = match self.traffic {
            Traffic::Streams(1) => "TCP, one stream".to_owned(),
            Traffic::Streams(count) => format!("TCP, {count} streams"),
            Traffic::Requests => "TCP request and response".to_owned(),
            Traffic::Connections => "TCP connect, request, close".to_owned(),
            Traffic::Flood(size) => format!("UDP, {size} B, as many as go"),
            Traffic::Paced(size) => format!("UDP, {size} B, at a fixed rate"),
        };
        let target = match self.target {
            Target::Peer => "pod to pod",
            Target::Service => "pod to Service",
            Target::Outside => "pod to outside",
            Target::Transit => "in transit between two segments",
        };
        let offload = if self.offload {
            ""
        } else {
            ", without segmentation offload"
        };
        format!("{traffic}, {target}{offload}")
    }

    /// What it yields, the main figure first.
    pub fn figures(self) -> &'static [Figure] {
        match self.traffic {
            Traffic::Streams(_) => &[Figure::Throughput, Figure::CpuPerGigabit],
            Traffic::Requests => &[
                Figure::LatencyP50,
                Figure::LatencyP99,
                Figure::LatencyP999,
                Figure::RequestRate,
            ],
            Traffic::Connections => &[Figure::ConnectionRate, Figure::CpuPerMillionConnections],
            Traffic::Flood(_) => &[Figure::PacketRate, Figure::CpuPerMillionPackets],
            Traffic::Paced(_) => &[
                Figure::CpuPerMillionPackets,
                Figure::PacketRate,
                Figure::Loss,
            ],
        }
    }
}

const fn with(traffic: Traffic, target: Target) -> Trial {
    Trial {
        traffic,
        target,
        offload: true,
    }
}

const fn without(traffic: Traffic, target: Target) -> Trial {
    Trial {
        traffic,
        target,
        offload: false,
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl FromStr for Trial {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|it| it.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("there is no test {name:?}; there are {names}")
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_tell_trials_apart() {
        let names: BTreeSet<_> = Trial::ALL.map(Trial::name).into();
        let titles: BTreeSet<_> = Trial::ALL.map(Trial::title).into();
        assert_eq!(
            (names.len(), titles.len()),
            (Trial::ALL.len(), Trial::ALL.len())
        );
        assert!(names.contains("tcp-stream-no-offload") && names.contains("udp-64-paced-service"));
        assert!(names.contains("transit-udp-1400"));
    }
}
