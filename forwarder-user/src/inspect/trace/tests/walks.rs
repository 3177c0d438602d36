//! Where packets go.

use underpass_common::flow::{PROTOCOL_UDP, confirmed};
use underpass_common::pod::{PodIngress, PodState};
use underpass_common::verdict::Hook;

use super::*;

#[test]
fn from_a_pod() {
    const NOT_YET: &[&str] = &["flow"];
    check(
        Way::Out,
        &[
            row(
                |_, _| {},
                "fast",
                "",
                &[],
                "fast: redirected to eth0 (ifindex 2), dst MAC 02:4e:00:00:00:02, peer node2",
            ),
            row(
                |s, _| s.flows.clear(),
                "unconfirmed",
                "confirmed",
                NOT_YET,
                "to_wire confirms it",
            ),
            row(
                |_, q| q.remote_port = Some(81),
                "unconfirmed",
                "confirmed",
                NOT_YET,
                "no entry",
            ),
            row(
                |_, q| q.protocol = Some(Protocol::Udp),
                "unconfirmed",
                "confirmed",
                NOT_YET,
                "udp",
            ),
            row(
                |_, q| q.protocol = None,
                "fast",
                "",
                &[],
                "1 of 1 confirmed",
            ),
            row(
                |s, _| s.flows[0].1.egress.confirmed = confirmed::NO,
                "unconfirmed",
                "confirmed",
                &["confirmation"],
                "not confirmed",
            ),
            row(
                |s, _| s.flows[0].1.egress.confirmed = confirmed::MID_STREAM,
                "fast",
                "",
                &[],
                "confirmed in mid-stream (FIN and RST go by the kernel); from vethpod1 to 02:47:00:00:00:01; epoch 3, generation 7",
            ),
            row(
                |s, _| s.settings.epoch = 4,
                "unconfirmed",
                "confirmed",
                &["confirmation"],
                "epoch 3",
            ),
            row(
                |s, _| s.settings.generation = 8,
                "fast",
                "",
                &[],
                "looked up again",
            ),
            row(
                |s, _| s.flows[0].1.egress.entrance.ifindex = 9,
                "other_entrance",
                "confirmed",
                &["confirmation"],
                "confirmed from ifindex 9",
            ),
            row(
                |s, _| s.settings.offload = 0,
                "off",
                "confirmed",
                &["offload"],
                "an agent has to run",
            ),
            row(
                |_, q| q.pod = Some(ip("10.9.9.9")),
                "not_pod_traffic",
                "confirmed",
                &["pod_cidrs", "flow"],
                "10.9.9.9 is not in there",
            ),
            row(
                |s, _| s.attached.clear(),
                "",
                "",
                &["programs", "agreement"],
                "NOT attached: from_pod, to_wire",
            ),
            row(
                |s, _| {
                    s.attached.remove(&(Hook::ToWire, UPLINK));
                    s.flows.clear();
                },
                "unconfirmed",
                "",
                &["programs", "flow", "agreement"],
                "never as it stands: the kernel sends it out of eth0, where to_wire is not",
            ),
            row(
                |s, _| s.pods.get_mut(&VETH).unwrap().state = PodState::Shaped as u8,
                "fast",
                "",
                &["pod"],
                "shaped",
            ),
            row(
                |s, _| {
                    s.links.remove(&UPLINK);
                },
                "way_out_gone",
                "other_next_hop",
                &["way_out", "agreement"],
                "no such device",
            ),
        ],
    );
}

#[test]
fn from_the_wire() {
    check(
        Way::In,
        &[
            row(
                |_, q| q.remote_port = None,
                "fast",
                "",
                &[],
                "fast: redirected to vethpod1 (ifindex 5), dst MAC 02:50:00:01:00:01 the kernel has",
            ),
            row(
                |_, q| (q.remote, q.remote_port) = (None, None),
                "fast",
                "",
                &[],
                "tcp anybody -> 10.244.1.11",
            ),
            row(
                |s, _| {
                    s.attached.insert((Hook::FromWireXdp, UPLINK));
                    s.pods.get_mut(&VETH).unwrap().ingress = PodIngress::Xdp as u8;
                },
                "fast",
                "",
                &[],
                "carries what is confirmed, if it has its checksum",
            ),
            row(
                |s, _| {
                    s.attached.insert((Hook::FromWireXdp, UPLINK));
                    s.pods.get_mut(&VETH).unwrap().ingress = PodIngress::TcNoGro as u8;
                },
                "fast",
                "",
                &[],
                "lets it pass: GRO is off at the pod's end of the veth",
            ),
            row(
                |s, _| s.flows.clear(),
                "unconfirmed",
                "confirmed",
                &["flow"],
                "to_pod confirms it",
            ),
            row(
                |s, _| {
                    s.flows.clear();
                    s.endpoints.clear();
                    s.veth_by_mac = Some(VETH);
                },
                "unconfirmed",
                "confirmed",
                &["flow"],
                "the endpoint is learned with the first packet",
            ),
            row(
                |s, _| {
                    s.flows.clear();
                    s.endpoints.clear();
                    s.kernel = by_bridge(None);
                },
                "unconfirmed",
                "",
                &["flow"],
                "attached, but for to_pod: not known",
            ),
            row(
                |s, _| {
                    s.flows.clear();
                    s.pods.get_mut(&VETH).unwrap().state = PodState::OtherMtu as u8;
                },
                "unconfirmed",
                "no_endpoint",
                &["pod", "flow"],
                "never as it stands: the bridge before it has a smaller MTU",
            ),
            row(
                |s, _| {
                    s.flows.clear();
                    s.kernel = by_bridge(Some(THIRD));
                },
                "unconfirmed",
                "other_next_hop",
                &["flow", "agreement"],
                "not the MAC behind vethpod1",
            ),
            row(
                |s, _| s.flows[0].1.ingress.generation = 0,
                "unconfirmed",
                "confirmed",
                &["confirmation"],
                "being written",
            ),
        ],
    );
}

#[test]
fn several_flows_are_counted() {
    let mut snapshot = snapshot(Way::Out);
    let (mut key, mut other) = flow();
    key.pod_port = 40_001u16.to_be_bytes();
    other.egress.confirmed = confirmed::NO;
    // First in the table, and not what the answer hangs on.
    snapshot.flows.insert(0, (key, other));
    key.protocol = PROTOCOL_UDP;
    snapshot.flows.push((key, other));
    let trace = walk(&question(Way::Out), &snapshot);
    let result = &trace.result;
    assert_eq!(
        (result.flows, result.fast_flows, result.road),
        (2, 1, "fast")
    );
    let text = unfolded(&trace);
    assert!(text.contains("1 of the 2 flows that match"), "{text}");
    let only = Question {
        pod_port: Some(40_001),
        ..question(Way::Out)
    };
    assert_eq!(walk(&only, &snapshot).result.verdict, Some("unconfirmed"));
}
