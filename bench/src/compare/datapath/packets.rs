//! The packets that are sent through the programs: who is who, flows, and frames. Pure.

use underpass_common::addr::Mac;
use underpass_common::flow::{Entrance, PROTOCOL_TCP, Tuple};
use underpass_common::route::Route;
use underpass_common::tag;

use super::cases::{Case, Flows, Witness};
use crate::compare::bpf::layout::{FRAME, PreparedFrame};
use crate::random::Random;
use underpass_common::verdict::Hook;

/// An IPv4 address, network order.
pub(super) type V4 = [u8; 4];

/// The node with its pod, its wire, and what is on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub pod: V4,
    pub pod_mac: Mac,
    /// The pod's host-side veth.
    pub veth: u32,
    /// The MAC that the pod sends to.
    pub gateway_mac: Mac,
    pub node: V4,
    pub node_mac: Mac,
    pub uplink: u32,
    /// The node behind all routes.
    pub peer_mac: Mac,
    /// The other uplink, by which packets in transit come in.
    pub second_uplink: u32,
    pub second_mac: Mac,
    /// A node behind it, and a pod of that node's.
    pub second_peer_mac: Mac,
    pub second_pod: V4,
    /// A host that no route of the trie leads to.
    pub outside: V4,
    /// Of the agent's settings.
    pub tag_seed: u32,
}

impl Ends {
    /// Where the pod's packets come in.
    pub fn entrance(&self) -> Entrance {
        Entrance {
            ifindex: self.veth,
            mac: self.gateway_mac,
            _pad: [0; 2],
        }
    }

    /// Where packets in transit come in.
    pub fn transit_entrance(&self) -> Entrance {
        Entrance {
            ifindex: self.second_uplink,
            ..Entrance::WIRE
        }
    }

    /// The entry of the trie for every peer.
    pub fn route(&self) -> Route {
        Route {
            ifindex: self.uplink,
            peer_mac: self.peer_mac,
            own_mac: self.node_mac,
        }
    }
}

/// The prefix of the trie's entry of this number, of 24 bits: `10.1.0.0`, `10.1.1.0`, ... They end before the lab's own
/// pods, whose addresses begin with 10.244.
pub(super) fn prefix(number: usize) -> V4 {
    let [.., high, low] = number.to_be_bytes();
    [10, 1 + high, low, 0]
}

/// The most prefixes that there can be.
pub(super) const MOST_ROUTES: usize = 200 << 8;

/// The far ends of so many flows, spread evenly over the trie's entries, in an order of chance.
pub(super) fn remotes(routes: usize, flows: usize, random: &mut Random) -> Vec<V4> {
    let remote = |flow: usize| {
        let [a, b, c, _] = prefix(flow * routes / flows);
        [a, b, c, 1 + (flow % 254) as u8]
    };
    let mut remotes: Vec<_> = (0..flows).map(remote).collect();
    random.shuffle(&mut remotes);
    remotes
}

/// The tuple of flow `number` of a kind, from the pod's side. No two are equal, whatever their far ends.
pub(super) fn tuple_from_pod(flows: Flows, number: usize, remote: V4, ends: &Ends) -> Tuple<V4> {
    let (first_port, pod, remote) = match flows {
        Flows::Known => (10_000, ends.pod, remote),
        Flows::New => (20_000, ends.pod, remote),
        Flows::Outside => (30_000, ends.pod, ends.outside),
        Flows::OfHost => (40_000, ends.node, remote),
        Flows::Transit => (50_000, ends.second_pod, remote),
    };
    Tuple {
        src: pod,
        dst: remote,
        src_port: (first_port + number as u16).to_be_bytes(),
        dst_port: 443u16.to_be_bytes(),
        protocol: PROTOCOL_TCP,
        icmp_type: 0,
    }
}

/// The most flows of a kind, so that their ports are their own.
pub(super) const MOST_FLOWS: usize = 8192;

/// A packet of flow `number`, as it arrives at the case's hook.
pub(super) fn prepare(case: &Case, number: usize, remote: V4, ends: &Ends) -> PreparedFrame {
    let from_pod = tuple_from_pod(case.flows, number, remote, ends);
    let (dst_mac, src_mac, tuple, entrance) = match case.hook {
        _ if case.flows == Flows::Transit => (
            ends.second_mac,
            ends.second_peer_mac,
            from_pod,
            ends.transit_entrance(),
        ),
        Hook::FromPod => (ends.gateway_mac, ends.pod_mac, from_pod, ends.entrance()),
        Hook::ToWire => (ends.peer_mac, ends.node_mac, from_pod, ends.entrance()),
        Hook::FromWire | Hook::FromWireXdp => (
            ends.node_mac,
            ends.peer_mac,
            from_pod.answer(),
            Entrance::WIRE,
        ),
        Hook::ToPod => (
            ends.pod_mac,
            ends.gateway_mac,
            from_pod.answer(),
            Entrance::WIRE,
        ),
    };
    let tc_index = match case.witness {
        Witness::None => tag::NONE,
        Witness::Fast => tag::FAST,
        Witness::Right => tag::tag(ends.tag_seed, &tuple, &entrance),
    };
    frame(dst_mac, src_mac, &tuple, tc_index)
}

/// Bytes of an IPv4 and a TCP header without options.
const HEADERS: usize = FRAME - 14;

/// A TCP segment with ACK and without payload. Its TCP checksum is not filled in: no program looks at it.
fn frame(dst_mac: Mac, src_mac: Mac, tuple: &Tuple<V4>, tc_index: u16) -> PreparedFrame {
    let mut headers = [0u8; HEADERS];
    let [len_high, len_low] = (HEADERS as u16).to_be_bytes();
    // Version 4 and five words; no TOS; length; identification; don't fragment; TTL 64.
    headers[..10].copy_from_slice(&[0x45, 0, len_high, len_low, 0, 0, 0x40, 0, 64, PROTOCOL_TCP]);
    headers[12..16].copy_from_slice(&tuple.src);
    headers[16..20].copy_from_slice(&tuple.dst);
    let sum = internet_checksum(&headers[..20]);
    headers[10..12].copy_from_slice(&sum);
    headers[20..22].copy_from_slice(&tuple.src_port);
    headers[22..24].copy_from_slice(&tuple.dst_port);
    // A header of five words, the flag ACK, and a window.
    headers[32..36].copy_from_slice(&[0x50, 0x10, 0xff, 0xff]);
    let ([a, b, c, d, e, f], [g, h, src_mac_rest @ ..]) = (dst_mac, src_mac);
    let mut parts = [[0; 8]; HEADERS / 8];
    for (part, bytes) in parts.iter_mut().zip(headers.chunks_exact(8)) {
        part.copy_from_slice(bytes);
    }
    PreparedFrame {
        macs: [a, b, c, d, e, f, g, h],
        src_mac_rest,
        ether_type: [0x08, 0x00],
        tc_index,
        headers: parts,
    }
}

/// RFC 1071, of whole words.
fn internet_checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks_exact(2);
    let sum: u32 = words
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    (!(folded as u16)).to_be_bytes()
}

/// The frame as it is on the wire.
pub(super) fn bytes(frame: &PreparedFrame) -> Vec<u8> {
    let PreparedFrame {
        macs,
        src_mac_rest,
        ether_type,
        headers,
        ..
    } = frame;
    [&macs[..], src_mac_rest, ether_type, headers.as_flattened()].concat()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use underpass_common::checksum::ipv4_header_is_valid;

    use super::super::cases::CASES;
    use super::*;

    const ENDS: Ends = Ends {
        pod: [10, 244, 1, 11],
        pod_mac: [2, 0, 0, 0, 0, 1],
        veth: 5,
        gateway_mac: [2, 0, 0, 0, 0, 2],
        node: [192, 168, 77, 1],
        node_mac: [2, 0, 0, 0, 0, 3],
        uplink: 2,
        peer_mac: [2, 0, 0, 0, 0, 4],
        second_uplink: 3,
        second_mac: [2, 0, 0, 0, 0, 5],
        second_peer_mac: [2, 0, 0, 0, 0, 6],
        second_pod: [10, 244, 2, 11],
        outside: [192, 0, 2, 1],
        tag_seed: 9,
    };

    #[test]
    fn flows_are_spread_over_all_routes() {
        let mut random = Random::new(1);
        for (routes, flows) in [(10, 4096), (1000, 4096), (10_000, 4096), (7, 8)] {
            let remotes = remotes(routes, flows, &mut random);
            let met: BTreeSet<_> = remotes.iter().map(|[a, b, c, _]| [a, b, c]).collect();
            assert_eq!(met.len(), routes.min(flows));
            let known: BTreeSet<_> = (0..routes).map(prefix).collect();
            assert!(
                remotes
                    .iter()
                    .all(|[a, b, c, _]| known.contains(&[*a, *b, *c, 0]))
            );
            assert!(remotes.iter().all(|[.., host]| ![0, 255].contains(host)));
        }
        let last = prefix(MOST_ROUTES - 1);
        assert!(last < [10, 244, 0, 0], "{last:?}");
    }

    #[test]
    fn flows_differ_from_one_another_whatever_their_kind() {
        let kinds = [
            Flows::Known,
            Flows::New,
            Flows::Outside,
            Flows::OfHost,
            Flows::Transit,
        ];
        let of_kind = |kind| {
            (0..MOST_FLOWS).map(move |number| {
                let tuple = tuple_from_pod(kind, number, [10, 1, 0, 1], &ENDS);
                (tuple.src, tuple.dst, tuple.src_port)
            })
        };
        let all: BTreeSet<_> = kinds.into_iter().flat_map(of_kind).collect();
        assert_eq!(all.len(), kinds.len() * MOST_FLOWS);
    }

    #[test]
    fn a_frame_is_a_whole_packet() {
        for case in &CASES {
            let prepared = prepare(case, 7, [10, 1, 2, 3], &ENDS);
            let bytes = bytes(&prepared);
            assert_eq!(bytes.len(), FRAME);
            let mut words = [0; 5];
            for (word, bytes) in words.iter_mut().zip(bytes[14..34].chunks_exact(4)) {
                *word = u32::from_ne_bytes(bytes.try_into().unwrap());
            }
            assert!(ipv4_header_is_valid(&words), "{case:?}");
            assert_eq!(bytes[16..18], [0, 40]);
            // TCP without options, and an ACK alone.
            assert_eq!((bytes[46], bytes[47]), (0x50, 0x10));
        }
    }

    #[test]
    fn a_frame_arrives_where_its_hook_is() {
        let bytes_of = |flows, hook| {
            let of_hook = |case: &&Case| case.hook == hook && case.flows == flows;
            let case = CASES.iter().find(of_hook).unwrap();
            bytes(&prepare(case, 0, [10, 1, 2, 3], &ENDS))
        };
        for hook in [Hook::FromWire, Hook::FromWireXdp] {
            let in_transit = bytes_of(Flows::Transit, hook);
            assert_eq!(in_transit[..6], ENDS.second_mac);
            assert_eq!(in_transit[6..12], ENDS.second_peer_mac);
            assert_eq!(in_transit[26..30], ENDS.second_pod);
            assert_eq!(in_transit[30..34], [10, 1, 2, 3]);
        }
        let macs_and_pod = |hook| {
            let bytes = bytes_of(Flows::Known, hook);
            let [src, dst] = [26, 30].map(|at| bytes[at..at + 4] == ENDS.pod);
            assert!(src != dst);
            (bytes[..6].to_vec(), bytes[6..12].to_vec(), src)
        };
        let (pod, gateway) = (ENDS.pod_mac.to_vec(), ENDS.gateway_mac.to_vec());
        let (node, peer) = (ENDS.node_mac.to_vec(), ENDS.peer_mac.to_vec());
        assert_eq!(
            Hook::TC.map(macs_and_pod),
            [
                (gateway.clone(), pod.clone(), true),
                (peer.clone(), node.clone(), true),
                (node, peer, false),
                (pod, gateway, false),
            ]
        );
    }
}
