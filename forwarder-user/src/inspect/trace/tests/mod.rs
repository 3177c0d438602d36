//! The walk, without a kernel: one change of the world a row, and where the packet goes then.

mod elsewhere;
mod questions;
mod transit;
mod walks;

use std::collections::BTreeMap;
use std::net::IpAddr;

use underpass_common::addr::{Block, Mac};
use underpass_common::endpoint::Endpoint;
use underpass_common::flow::{Direction, Entrance, Flow, FlowKey, PROTOCOL_TCP, WayOut, confirmed};
use underpass_common::peer::{Peer, PeerFamily, PeerState, Refusal};
use underpass_common::pod::{Pod, PodState};
use underpass_common::route::Route;
use underpass_common::settings::{LAYOUT_VERSION, Offload, Settings};
use underpass_common::verdict::Hook;

use super::super::peers;
use super::super::print::WIDTH;
use super::*;
use crate::cli::Protocol;
use crate::world::kernel::{Link, LinkKind, VethPeer};
use crate::world::netlink::NeighbourNow;

const UPLINK: u32 = 2;
const BRIDGE: u32 = 3;
const VETH: u32 = 5;
const OWN: Mac = [2, 0x4e, 0, 0, 0, 1];
const PEER: Mac = [2, 0x4e, 0, 0, 0, 2];
const THIRD: Mac = [2, 0x4e, 0, 0, 0, 3];
const POD_MAC: Mac = [2, 0x50, 0, 1, 0, 1];
const GATEWAY: Mac = [2, 0x47, 0, 0, 0, 1];
const POD: &str = "10.244.1.11";
const FAR: &str = "10.244.2.11";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn link(ifindex: u32, name: &str, mac: Mac) -> (u32, Link) {
    let link = Link {
        ifindex,
        name: name.into(),
        kind: LinkKind::Other,
        mac,
        mtu: 1500,
        mtu_v6: None,
        up: true,
        master: None,
        upper: None,
        stands_by: false,
        qdiscs: Vec::new(),
        ingress_filters: Vec::new(),
        egress_filters: Vec::new(),
    };
    (ifindex, link)
}

fn links() -> BTreeMap<u32, Link> {
    let (ifindex, mut veth) = link(VETH, "vethpod1", [2, 0x56, 0, 1, 0, 1]);
    veth.master = Some(BRIDGE);
    veth.kind = LinkKind::Veth(VethPeer::default());
    [
        link(UPLINK, "eth0", OWN),
        link(BRIDGE, "cni0", GATEWAY),
        (ifindex, veth),
    ]
    .into()
}

fn settings() -> Settings {
    let mut settings = Settings {
        layout_version: LAYOUT_VERSION,
        generation: 7,
        epoch: 3,
        offload: Offload::Confirmed as u8,
        pod_cidrs_v4_len: 1,
        ..Settings::default()
    };
    settings.pod_cidrs_v4[0] = Block {
        network: [10, 244, 1, 0],
        mask: [255, 255, 255, 0],
    };
    settings
}

fn peer(state: PeerState, refusal: Refusal) -> peers::PeerReport {
    let v4 = PeerFamily {
        pod_cidr: [10, 244, 2, 0],
        address: [192, 168, 77, 2],
        mac: PEER,
        pod_cidr_len: 24,
        state: state as u8,
        refusal: refusal as u8,
        ..PeerFamily::default()
    };
    let peer = Peer {
        v4,
        state: state as u8,
        refusal: refusal as u8,
        ..Peer::default()
    };
    peers::report("node2".into(), &peer)
}

fn route() -> Route {
    Route {
        ifindex: UPLINK,
        peer_mac: PEER,
        own_mac: OWN,
    }
}

fn endpoint() -> Endpoint {
    Endpoint {
        ifindex: VETH,
        pod_mac: POD_MAC,
        gateway_mac: GATEWAY,
    }
}

fn neighbour(mac: Option<Mac>, state: &str) -> Option<NeighbourNow> {
    let state = state.into();
    Some(NeighbourNow { mac, state })
}

fn by_uplink(mac: Mac) -> KernelWay {
    KernelWay::Forwards {
        ifindex: UPLINK,
        next_hop: ip("192.168.77.2"),
        neighbour: neighbour(Some(mac), "reachable"),
    }
}

fn by_bridge(mac: Option<Mac>) -> KernelWay {
    KernelWay::Forwards {
        ifindex: BRIDGE,
        next_hop: ip(POD),
        neighbour: mac.and_then(|mac| neighbour(Some(mac), "stale")),
    }
}

fn direction(way_out: WayOut, entrance: Entrance) -> Direction {
    Direction {
        generation: 7,
        epoch: 3,
        way_out,
        entrance,
        confirmed: confirmed::FROM_START,
        _pad: [0; 3],
    }
}

/// A TCP flow of the pod's port 40000 with the far end's port 80, confirmed both ways.
fn flow() -> (FlowKey<IpAddr>, Flow) {
    let key = FlowKey {
        pod: ip(POD),
        remote: ip(FAR),
        pod_port: 40_000u16.to_be_bytes(),
        remote_port: 80u16.to_be_bytes(),
        protocol: PROTOCOL_TCP,
        icmp_type: 0,
        _pad: [0; 2],
    };
    let pod = Entrance {
        ifindex: VETH,
        mac: GATEWAY,
        _pad: [0; 2],
    };
    let flow = Flow {
        key_check: 0,
        egress: direction(route().into(), pod),
        ingress: direction(endpoint().into(), Entrance::WIRE),
    };
    (key, flow)
}

/// Node 1 of two, of which everything is known and a flow is confirmed.
fn snapshot(way: Way) -> Snapshot {
    let pod = Pod {
        mac: POD_MAC,
        state: PodState::Attached as u8,
        ingress: 0,
        name: [0; 16],
    };
    Snapshot {
        node: "node1".into(),
        settings: settings(),
        uplink: UPLINK,
        uplinks: vec![UPLINK],
        attached: [
            (Hook::FromPod, VETH),
            (Hook::ToPod, VETH),
            (Hook::FromWire, UPLINK),
            (Hook::ToWire, UPLINK),
        ]
        .into(),
        pods: [(VETH, pod)].into(),
        endpoints: [(ip(POD), endpoint())].into(),
        routes: [("10.244.2.0/24".parse().unwrap(), route())].into(),
        peers: vec![peer(PeerState::Ready, Refusal::None)],
        flows: vec![flow()],
        links: links(),
        veth_by_mac: None,
        kernel: match way {
            Way::Out | Way::Transit => by_uplink(PEER),
            Way::In => by_bridge(Some(POD_MAC)),
        },
    }
}

fn question(way: Way) -> Question {
    Question {
        way,
        pod: Some(ip(POD)),
        remote: Some(ip(FAR)),
        protocol: Some(Protocol::Tcp),
        pod_port: None,
        remote_port: Some(80),
    }
}

/// One row: what is otherwise, the verdicts at entrance and exit, the steps that are the kernel's, and
/// words that the text must have.
struct Row {
    otherwise: fn(&mut Snapshot, &mut Question),
    verdicts: [Option<&'static str>; 2],
    kernels: &'static [&'static str],
    says: &'static str,
}

fn row(
    otherwise: fn(&mut Snapshot, &mut Question),
    entrance: &'static str,
    exit: &'static str,
    kernels: &'static [&'static str],
    says: &'static str,
) -> Row {
    let verdict = |name| Some(name).filter(|name: &&str| !name.is_empty());
    Row {
        otherwise,
        verdicts: [verdict(entrance), verdict(exit)],
        kernels,
        says,
    }
}

/// The text as one line. No line of it may be wider than the screen.
fn unfolded(trace: &Trace) -> String {
    let text = show(trace);
    for line in text.lines() {
        assert!(line.chars().count() <= WIDTH, "{line:?} in\n{text}");
        assert_eq!(line.trim_end(), line, "in\n{text}");
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn check(way: Way, rows: &[Row]) {
    for (number, row) in rows.iter().enumerate() {
        let (mut snapshot, mut question) = (snapshot(way), question(way));
        (row.otherwise)(&mut snapshot, &mut question);
        let trace = walk(&question, &snapshot);
        let text = unfolded(&trace);
        let told = format!("row {number} ({})\n{text}", row.says);
        let verdicts = [trace.result.verdict, trace.result.exit_verdict];
        assert_eq!(verdicts, row.verdicts, "{told}");
        let is_fast = row.verdicts[0] == Some("fast");
        assert_eq!(trace.result.road == "fast", is_fast, "{told}");
        assert_eq!(trace.result.to_be_fast.is_none(), is_fast, "{told}");
        let kernels = trace
            .steps
            .iter()
            .filter(|step| step.outcome == Outcome::Kernel);
        let kernels: Vec<_> = kernels.map(|step| step.step).collect();
        assert_eq!(kernels, row.kernels, "{told}");
        assert!(text.contains(row.says), "{told}");
    }
}
