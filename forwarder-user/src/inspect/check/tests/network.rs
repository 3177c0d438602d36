//! Interfaces, peers and programs of others.

use underpass_common::verdict::Hook;

use super::Outcome::{Fail, Pass, Warn};
use super::{foreign, judge, no, port};
use crate::inspect::check::facts::{Facts, Offloads, Peers, Port, Standing};

#[test]
fn uplink_and_pods() {
    judge(&[
        (|_| {}, "uplink", Pass, "eth0, MTU 1500"),
        (
            |it| it.network.uplink = Err(no("no uplink")),
            "uplink",
            Fail,
            "no uplink",
        ),
        (
            |it| {
                it.network.uplink = Err(no("no uplink"));
                it.network.uplink_is_wanted = false;
            },
            "uplink",
            Warn,
            "no uplink",
        ),
        (|it| it.network.pods.clear(), "pods", Pass, "none known"),
        (
            |it| it.network.pods[1].mtu = 9000,
            "MTU",
            Warn,
            "veth2 send more than the uplink's 1500",
        ),
        (|it| it.network.pods[1].mtu = 1400, "MTU", Pass, "1500"),
        (
            |it| it.network.pods[0].bridge_mtu = Some(1400),
            "MTU",
            Warn,
            "the bridge before veth1",
        ),
        (
            |it| it.network.pods[0].limits = vec!["tbf".into()],
            "queueing",
            Warn,
            "veth1 (tbf)",
        ),
        (
            |it| {
                if let Ok(uplink) = &mut it.network.uplink {
                    uplink.limits = vec!["htb".into()];
                }
            },
            "queueing",
            Pass,
            "htb on eth0",
        ),
        (
            |it| {
                if let Ok(uplink) = &mut it.network.uplink {
                    uplink.offloads.gro = Some(false);
                }
            },
            "offloads of the uplink",
            Warn,
            "off: gro",
        ),
        (
            |it| it.network.pods[0].offloads.gro = Some(false),
            "offloads of pods",
            Pass,
            "",
        ),
        (
            |it| it.network.pods[0].offloads.tso = Some(false),
            "offloads of pods",
            Warn,
            "veth1",
        ),
        (
            |it| it.network.pods[0].offloads = Offloads::default(),
            "offloads of pods",
            Pass,
            "",
        ),
    ]);
}

#[test]
fn each_uplink_is_looked_at() {
    fn with_eth1(facts: &mut Facts, change: fn(&mut Port)) {
        let mut eth1 = port("eth1");
        change(&mut eth1);
        facts
            .network
            .extra_uplinks
            .push(("eth1".to_owned(), Ok(eth1)));
    }
    judge(&[
        (|it| with_eth1(it, |_| {}), "uplink eth1", Pass, "MTU 1500"),
        (
            |it| {
                let why = Err(no("the uplink eth1 (chosen by --extra-iface) is down"));
                it.network.extra_uplinks.push((no("eth1"), why));
            },
            "uplink eth1",
            Warn,
            "is down",
        ),
        (
            |it| with_eth1(it, |eth1| eth1.mtu = 1400),
            "MTU",
            Warn,
            "veth1, veth2 send more than eth1's 1400",
        ),
        (
            |it| with_eth1(it, |eth1| eth1.limits = vec!["htb".into()]),
            "queueing",
            Pass,
            "htb on eth1",
        ),
        (
            |it| with_eth1(it, |eth1| eth1.offloads.gro = Some(false)),
            "offloads of the uplink",
            Warn,
            "off: gro (on eth1)",
        ),
        (
            |it| {
                it.network.uplink = Err(no("no uplink"));
                with_eth1(it, |_| {});
            },
            "MTU",
            Pass,
            "the uplink's 1500",
        ),
    ]);
}

const SEGMENT: &str = "peers on the segment";

#[test]
fn peers_and_their_claims() {
    judge(&[
        (|_| {}, SEGMENT, Pass, "all 2 addresses answer"),
        (
            |it| it.network.peers.list.clear(),
            SEGMENT,
            Pass,
            "none to ask",
        ),
        (
            |it| it.network.peers.list[0].standing = Standing::Silent,
            SEGMENT,
            Warn,
            "1 of 2 answer; asked in vain for the MAC of node2 (10.0.0.2)",
        ),
        (
            |it| {
                for peer in &mut it.network.peers.list {
                    peer.standing = Standing::Silent;
                }
            },
            SEGMENT,
            Fail,
            "0 of 2 answer",
        ),
        (
            |it| it.network.peers.list[1].standing = Standing::NotOnLink(no("behind a router")),
            SEGMENT,
            Warn,
            "node3 (10.0.0.3): behind a router",
        ),
        (
            |it| it.network.peers.list[1].standing = Standing::NotAsked(no("too many")),
            SEGMENT,
            Warn,
            "1 answer; 1 not asked: too many",
        ),
        (
            |it| it.network.peers.list[1].standing = Standing::Refused(no("no podCIDR")),
            "claims",
            Warn,
            "1 refused: node3 (10.0.0.3): no podCIDR",
        ),
        (
            |_| {},
            "nodes",
            Pass,
            "2 others, from the nodes file nodes.yaml",
        ),
        (
            |it| it.network.peers = Peers::default(),
            "nodes",
            Warn,
            "nobody tells",
        ),
        (
            |it| it.network.peers.error = Some(no("no such file")),
            "nodes",
            Fail,
            "no such file",
        ),
    ]);
}

const OTHERS: &str = "programs of others";

#[test]
fn programs_of_others_and_what_they_mean() {
    judge(&[
        (|_| {}, OTHERS, Pass, "none"),
        (
            |it| it.network.programs = Ok(foreign(Hook::FromWire, true)),
            OTHERS,
            Warn,
            "TCX program guard (id 7) on eth0 ingress, before ours: it sees every packet; one that it drops or redirects",
        ),
        (
            |it| it.network.programs = Ok(foreign(Hook::FromPod, false)),
            OTHERS,
            Warn,
            "ingress, after ours: it does not see packets that go fast",
        ),
        (
            |it| it.network.programs = Ok(foreign(Hook::ToWire, true)),
            OTHERS,
            Warn,
            "egress, before ours: it sees every packet; what it does not pass on",
        ),
        (
            |it| it.network.programs = Ok(foreign(Hook::ToPod, false)),
            OTHERS,
            Warn,
            "straight into the pod",
        ),
        (
            |it| it.network.programs = Err(no("not permitted")),
            OTHERS,
            Warn,
            "not permitted",
        ),
    ]);
}
