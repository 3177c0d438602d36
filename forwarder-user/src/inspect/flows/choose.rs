//! Which flows are shown, and in which order. Pure.

use std::cmp::Ordering;

use anyhow::{Result, bail};
use ipnet::IpNet;

use super::super::peers::PeerReport;
use super::FlowReport;
use crate::cli::{FlowFilter, FlowOrder, Protocol};

/// A filter, with what its peer is known by.
pub(super) struct Chosen<'a> {
    filter: &'a FlowFilter,
    /// Where the peer's pods are; `None`: any.
    of_peer: Option<Vec<IpNet>>,
}

impl<'a> Chosen<'a> {
    /// # Errors
    /// Where the filter names a peer that is not known.
    pub(super) fn new(filter: &'a FlowFilter, peers: &[PeerReport]) -> Result<Self> {
        let of_peer = filter.peer.as_ref().map(|peer| prefixes(peer, peers));
        Ok(Self {
            filter,
            of_peer: of_peer.transpose()?,
        })
    }

    /// True where a flow is to be shown.
    pub(super) fn holds(&self, flow: &FlowReport) -> bool {
        let filter = self.filter;
        let has = |port| flow.pod_port == port || flow.remote_port == Some(port);
        let is_confirmed = flow.egress.confirmed || flow.ingress.confirmed;
        filter
            .address
            .is_none_or(|ip| flow.pod == ip || flow.remote == ip)
            && filter.pod.is_none_or(|ip| flow.pod == ip)
            && filter.port.is_none_or(has)
            && filter.proto.is_none_or(|one| is_of(one, flow))
            && (!filter.confirmed || is_confirmed)
            && (!filter.unconfirmed || !is_confirmed)
            && self
                .of_peer
                .as_ref()
                .is_none_or(|prefixes| prefixes.iter().any(|one| one.contains(&flow.remote)))
    }
}

/// The podCIDRs of a node, by its name or one of its addresses.
fn prefixes(wanted: &str, peers: &[PeerReport]) -> Result<Vec<IpNet>> {
    let address = wanted.parse().ok();
    let mut named = peers.iter().filter(|peer| {
        let mut families = peer.families.iter();
        peer.name == wanted || families.any(|one| one.address.is_some() && one.address == address)
    });
    let Some(peer) = named.next() else {
        bail!("there is no peer {wanted}: `underpass peers` lists them by name and address");
    };
    let cidrs = peer.families.iter().filter_map(|one| one.pod_cidr.as_ref());
    Ok(cidrs.filter_map(|cidr| cidr.parse().ok()).collect())
}

fn is_of(protocol: Protocol, flow: &FlowReport) -> bool {
    match protocol {
        Protocol::Tcp => flow.protocol == "tcp",
        Protocol::Udp => flow.protocol == "udp",
        Protocol::Icmp => flow.protocol == "icmp" || flow.protocol == "icmpv6",
    }
}

/// Sorts flows. No two are equal, so that the order is the same each time.
pub(super) fn sort(flows: &mut [FlowReport], order: FlowOrder) {
    flows.sort_by(|a, b| {
        let first = match order {
            FlowOrder::Pod => Ordering::Equal,
            FlowOrder::Remote => a.remote.cmp(&b.remote),
            FlowOrder::Proto => a.protocol.cmp(&b.protocol),
            FlowOrder::Port => a.remote_port.cmp(&b.remote_port),
            FlowOrder::Road => ways(a).cmp(&ways(b)),
        };
        first.then_with(|| usual(a).cmp(&usual(b)))
    });
}

/// How many directions are confirmed.
fn ways(flow: &FlowReport) -> u8 {
    u8::from(flow.egress.confirmed) + u8::from(flow.ingress.confirmed)
}

fn usual(flow: &FlowReport) -> impl Ord + use<'_> {
    let ends = (flow.pod, flow.remote);
    let ports = (flow.pod_port, flow.remote_port);
    (ends, &flow.protocol, ports, flow.asked_by)
}

#[cfg(test)]
mod tests {
    use super::super::super::peers::PeerFamilyReport;
    use super::super::DirectionReport;
    use super::*;

    fn direction(confirmed: bool) -> DirectionReport {
        DirectionReport {
            confirmed,
            mid_stream: false,
            device: confirmed.then(|| "eth0".to_owned()),
        }
    }

    /// `tcp 10.244.1.11 40000 10.244.2.11 80 both`; without a second port: ICMP.
    fn flow(line: &str) -> FlowReport {
        let words: Vec<_> = line.split(' ').collect();
        let [protocol, pod, pod_port, remote, remote_port, road] = words[..] else {
            panic!("{line}");
        };
        FlowReport {
            protocol: protocol.into(),
            pod: pod.parse().unwrap(),
            pod_port: pod_port.parse().unwrap(),
            remote: remote.parse().unwrap(),
            remote_port: remote_port.parse().ok(),
            asked_by: (remote_port == "-").then_some("pod"),
            transit: false,
            egress: direction(road != "none"),
            ingress: direction(road == "both"),
        }
    }

    fn flows() -> Vec<FlowReport> {
        [
            "udp 10.244.1.12 53 10.244.3.11 5000 out",
            "tcp 10.244.1.11 40001 10.244.2.11 80 none",
            "icmp 10.244.1.11 7 10.244.2.11 - both",
            "tcp 10.244.1.11 40000 10.244.2.11 443 both",
            "tcp fd00:1::b 40000 fd00:2::b 80 out",
            "udp 10.244.1.11 40000 10.244.2.11 443 none",
        ]
        .map(flow)
        .into()
    }

    fn node2() -> PeerReport {
        let family = |family, pod_cidr: &str, address: &str| PeerFamilyReport {
            family,
            state: "ready",
            refusal: None,
            pod_cidr: Some(pod_cidr.into()),
            address: address.parse().ok(),
            mac: None,
            uplink: None,
        };
        PeerReport {
            name: "node2".into(),
            state: "ready",
            refusal: None,
            pod_cidr: None,
            address: None,
            mac: None,
            families: vec![
                family("ipv4", "10.244.2.0/24", "192.168.77.2"),
                family("ipv6", "fd00:2::/64", "fd00::2"),
            ],
        }
    }

    /// Places in `flows()` of those that a filter leaves.
    fn left(filter: FlowFilter) -> Vec<usize> {
        let peers = [node2()];
        let chosen = Chosen::new(&filter, &peers).unwrap();
        let flows = flows();
        let places = flows.iter().enumerate();
        let held = places.filter(|(_, flow)| chosen.holds(flow));
        held.map(|(place, _)| place).collect()
    }

    #[test]
    fn each_filter_leaves_its_own() {
        let none = FlowFilter::default;
        let ip = |text: &str| text.parse().ok();
        let peer = |name: &str| Some(name.to_owned());
        for (filter, places) in [
            (none(), vec![0, 1, 2, 3, 4, 5]),
            (
                FlowFilter {
                    address: ip("10.244.3.11"),
                    ..none()
                },
                vec![0],
            ),
            (
                FlowFilter {
                    address: ip("10.244.1.12"),
                    ..none()
                },
                vec![0],
            ),
            (
                FlowFilter {
                    pod: ip("10.244.1.11"),
                    ..none()
                },
                vec![1, 2, 3, 5],
            ),
            (
                FlowFilter {
                    pod: ip("10.244.3.11"),
                    ..none()
                },
                vec![],
            ),
            (
                FlowFilter {
                    port: Some(80),
                    ..none()
                },
                vec![1, 4],
            ),
            (
                FlowFilter {
                    port: Some(7),
                    ..none()
                },
                vec![2],
            ),
            (
                FlowFilter {
                    port: Some(40000),
                    ..none()
                },
                vec![3, 4, 5],
            ),
            (
                FlowFilter {
                    proto: Some(Protocol::Icmp),
                    ..none()
                },
                vec![2],
            ),
            (
                FlowFilter {
                    proto: Some(Protocol::Udp),
                    ..none()
                },
                vec![0, 5],
            ),
            (
                FlowFilter {
                    peer: peer("node2"),
                    ..none()
                },
                vec![1, 2, 3, 4, 5],
            ),
            (
                FlowFilter {
                    peer: peer("fd00::2"),
                    ..none()
                },
                vec![1, 2, 3, 4, 5],
            ),
            (
                FlowFilter {
                    confirmed: true,
                    ..none()
                },
                vec![0, 2, 3, 4],
            ),
            (
                FlowFilter {
                    unconfirmed: true,
                    ..none()
                },
                vec![1, 5],
            ),
            (
                FlowFilter {
                    peer: peer("192.168.77.2"),
                    proto: Some(Protocol::Tcp),
                    confirmed: true,
                    ..none()
                },
                vec![3, 4],
            ),
        ] {
            let told = format!("{filter:?}");
            assert_eq!(left(filter), places, "{told}");
        }
    }

    #[test]
    fn a_peer_that_is_not_known_is_an_error() {
        let filter = FlowFilter {
            peer: Some("node9".into()),
            ..FlowFilter::default()
        };
        let Err(error) = Chosen::new(&filter, &[node2()]) else {
            panic!("it is known");
        };
        assert!(error.to_string().contains("no peer node9"), "{error}");
    }

    #[test]
    fn every_order_is_whole_and_always_the_same() {
        let sorted = |order, mut flows: Vec<FlowReport>| {
            sort(&mut flows, order);
            let show = |one: &FlowReport| {
                let port = one.remote_port.unwrap_or_default();
                format!("{} {} {} {port}", one.pod, one.protocol, one.pod_port)
            };
            flows.iter().map(show).collect::<Vec<_>>()
        };
        let usual = [
            "10.244.1.11 icmp 7 0",
            "10.244.1.11 tcp 40000 443",
            "10.244.1.11 tcp 40001 80",
            "10.244.1.11 udp 40000 443",
            "10.244.1.12 udp 53 5000",
            "fd00:1::b tcp 40000 80",
        ];
        assert_eq!(sorted(FlowOrder::Pod, flows()), usual);
        let by_road = [2, 3, 4, 5, 0, 1].map(|place| usual[place]);
        assert_eq!(sorted(FlowOrder::Road, flows()), by_road);
        let by_port = [0, 2, 5, 1, 3, 4].map(|place| usual[place]);
        assert_eq!(sorted(FlowOrder::Port, flows()), by_port);
        for order in [FlowOrder::Remote, FlowOrder::Proto, FlowOrder::Road] {
            let reversed = flows().into_iter().rev().collect();
            assert_eq!(sorted(order, reversed), sorted(order, flows()), "{order:?}");
        }
    }
}
