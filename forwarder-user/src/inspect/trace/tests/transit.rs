//! From one uplink to another.

use underpass_common::flow::{Entrance, confirmed};
use underpass_common::pod::PodIngress;
use underpass_common::verdict::Hook;

use super::*;
use crate::cli::TraceArgs;

const SECOND: u32 = 6;
const SECOND_MAC: Mac = [2, 0x4e, 0, 0, 1, 1];
/// A pod of a node on the second segment.
const BEYOND: &str = "10.244.9.11";

fn entrance(ifindex: u32) -> Entrance {
    Entrance {
        ifindex,
        ..Entrance::WIRE
    }
}

fn to_second() -> Route {
    Route {
        ifindex: SECOND,
        peer_mac: THIRD,
        own_mac: SECOND_MAC,
    }
}

/// A node on two segments, and a flow that goes through it, confirmed from FAR to BEYOND.
fn between() -> (Snapshot, Question) {
    let mut snapshot = snapshot(Way::Transit);
    snapshot.settings.transit = 1;
    snapshot.uplinks.push(SECOND);
    snapshot
        .attached
        .extend([(Hook::FromWire, SECOND), (Hook::ToWire, SECOND)]);
    snapshot.links.extend([link(SECOND, "eth1", SECOND_MAC)]);
    let beyond = "10.244.9.0/24".parse().unwrap();
    snapshot.routes.insert(beyond, to_second());
    let (mut key, mut flow) = flow();
    (key.pod, key.remote) = (ip(FAR), ip(BEYOND));
    flow.egress = direction(to_second().into(), entrance(UPLINK));
    flow.ingress.confirmed = confirmed::NO;
    snapshot.flows = vec![(key, flow)];
    snapshot.kernel = KernelWay::Forwards {
        ifindex: SECOND,
        next_hop: ip("192.168.78.9"),
        neighbour: neighbour(Some(THIRD), "reachable"),
    };
    let question = Question {
        pod: Some(ip(FAR)),
        remote: Some(ip(BEYOND)),
        ..question(Way::Transit)
    };
    (snapshot, question)
}

/// What is otherwise, the verdicts at entrance and exit, and words of the text.
type Case = (fn(&mut Snapshot), [&'static str; 2], &'static str);

#[test]
fn between_the_pods_of_other_nodes() {
    let cases: [Case; 10] = [
        (
            |_| {},
            ["fast", ""],
            "fast: redirected to eth1 (ifindex 6), dst MAC 02:4e:00:00:00:03",
        ),
        (
            |_| {},
            ["fast", ""],
            "from_wire on eth0 (ifindex 2), to_wire on eth1 (ifindex 6)",
        ),
        (|_| {}, ["fast", ""], "confirmed; from eth0; epoch 3"),
        (
            |s| s.flows.clear(),
            ["unconfirmed", "confirmed"],
            "to_wire confirms it",
        ),
        (
            |s| s.flows[0].1.egress.entrance = entrance(SECOND),
            ["other_entrance", "confirmed"],
            "confirmed from eth1 (ifindex 6), and its sender is reached by eth0 (ifindex 2)",
        ),
        (
            |s| s.settings.generation = 8,
            ["fast", ""],
            "looked up again",
        ),
        (
            |s| {
                s.flows.clear();
                s.routes.remove(&"10.244.9.0/24".parse().unwrap());
            },
            ["not_pod_traffic", "not_pod_traffic"],
            "never as it stands: no node's podCIDR holds it",
        ),
        (
            |s| {
                s.flows.clear();
                s.kernel = by_uplink(PEER);
            },
            ["unconfirmed", "other_next_hop"],
            "DISAGREE: the trie has 02:4e:00:00:01:01 -> 02:4e:00:00:00:03 on eth1",
        ),
        (
            |s| {
                s.attached.remove(&(Hook::FromWire, UPLINK));
            },
            ["", "confirmed"],
            "NOT attached: from_wire",
        ),
        (
            |s| {
                s.attached.insert((Hook::FromWireXdp, UPLINK));
            },
            ["fast", ""],
            "from_wire_xdp on eth0 (ifindex 2)",
        ),
    ];
    for (number, (change, verdicts, says)) in cases.into_iter().enumerate() {
        let (mut snapshot, question) = between();
        change(&mut snapshot);
        let trace = walk(&question, &snapshot);
        let text = unfolded(&trace);
        let told = format!("case {number}\n{text}");
        let found = [trace.result.verdict, trace.result.exit_verdict];
        let found = found.map(Option::unwrap_or_default);
        assert_eq!(found, verdicts, "{told}");
        assert!(text.contains(says), "{told}");
        assert_eq!((trace.entrance, trace.exit), ("from_wire", "to_wire"));
        let steps: Vec<_> = trace.steps.iter().map(|step| step.step).collect();
        assert!(!steps.contains(&"pod"), "{told}");
    }
}

#[test]
fn the_pods_of_a_node_on_two_segments_use_the_uplink_on_their_peer_s() {
    let (mut snapshot, _) = between();
    snapshot.settings.transit = 1;
    let from_beyond = Question {
        remote: Some(ip(BEYOND)),
        ..question(Way::In)
    };
    let (mut key, mut flow) = flow();
    key.remote = ip(BEYOND);
    flow.ingress.entrance = entrance(SECOND);
    snapshot.flows = vec![(key, flow)];
    snapshot.kernel = by_bridge(Some(POD_MAC));
    let pod = snapshot.pods.get_mut(&VETH).unwrap();
    pod.ingress = PodIngress::Xdp as u8;
    let trace = walk(&from_beyond, &snapshot);
    let text = unfolded(&trace);
    assert_eq!(trace.result.verdict, Some("fast"), "{text}");
    assert!(text.contains("from_wire on eth1 (ifindex 6)"), "{text}");

    snapshot.flows[0].1.ingress.entrance = entrance(UPLINK);
    let trace = walk(&from_beyond, &snapshot);
    assert_eq!(trace.result.verdict, Some("other_entrance"));

    let to_beyond = Question {
        remote: Some(ip(BEYOND)),
        ..question(Way::Out)
    };
    let text = unfolded(&walk(&to_beyond, &snapshot));
    assert!(text.contains("to_wire on eth1 (ifindex 6)"), "{text}");
}

#[test]
fn a_packet_between_others_is_in_transit_only_where_there_is_transit() {
    let args = TraceArgs {
        from_port: None,
        ..super::questions::args(BEYOND, Some(FAR))
    };
    let (mut snapshot, _) = between();
    let question = Question::new(&args, &snapshot).unwrap();
    assert_eq!(question.way, Way::Transit);
    assert_eq!(
        (question.pod, question.remote),
        (Some(ip(FAR)), Some(ip(BEYOND)))
    );
    assert_eq!((question.pod_port, question.remote_port), (None, Some(80)));
    assert_eq!(
        question.report().line(),
        "tcp 10.244.2.11 -> 10.244.9.11:80"
    );
    snapshot.settings.transit = 0;
    let question = Question::new(&args, &snapshot).unwrap();
    assert_eq!(question.way, Way::In);
}
