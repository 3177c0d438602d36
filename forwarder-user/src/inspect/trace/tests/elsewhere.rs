//! Where packets do not go to the peer that the trie names, and where nothing but the trie is asked.

use underpass_common::peer::{PeerState, Refusal};
use underpass_common::route::Route;
use underpass_common::settings::Offload;

use super::*;

#[test]
fn where_no_route_leads() {
    macro_rules! peer_is {
        ($state:expr, $refusal:expr) => {
            |s: &mut Snapshot, _: &mut Question| {
                s.flows.clear();
                s.routes.clear();
                s.peers = vec![peer($state, $refusal)];
            }
        };
    }
    const STEPS: &[&str] = &["flow", "route"];
    let row = |otherwise, says| row(otherwise, "unconfirmed", "no_route", STEPS, says);
    check(
        Way::Out,
        &[
            row(
                peer_is!(PeerState::WaitingForNeighbour, Refusal::None),
                "node2 (10.244.2.0/24) waits for its neighbour: 192.168.77.2 has no MAC",
            ),
            row(
                peer_is!(PeerState::Refused, Refusal::OverlapsOwn),
                "is refused: the podCIDR overlaps this node's own",
            ),
            row(
                peer_is!(PeerState::NotOnLink, Refusal::None),
                "192.168.77.2 is not on-link",
            ),
            row(peer_is!(PeerState::OtherMtu, Refusal::None), "another MTU"),
            row(
                |_, q| q.remote = Some(ip("192.168.77.2")),
                "never as it stands: it is the address of node2 itself",
            ),
            row(
                |_, q| q.remote = Some(ip("10.96.0.10")),
                "never as it stands: no node's podCIDR holds it: it is a Service's address",
            ),
            row(
                |s, _| {
                    s.flows.clear();
                    s.routes
                        .insert("10.244.2.11/32".parse().unwrap(), Route::KERNEL);
                },
                "10.244.2.11/32 is left to the kernel: node2",
            ),
        ],
    );
}

#[test]
fn where_the_kernel_goes_elsewhere() {
    check(
        Way::Out,
        &[
            row(
                |s, _| {
                    s.flows.clear();
                    s.kernel = by_uplink(THIRD);
                },
                "unconfirmed",
                "other_next_hop",
                &["flow", "agreement"],
                "they DISAGREE: the trie has 02:4e:00:00:00:01 -> 02:4e:00:00:00:02 (node2) on eth0, the kernel sends \
                 02:4e:00:00:00:01 -> 02:4e:00:00:00:03 on eth0",
            ),
            // What is confirmed goes on until the agent hears of it.
            row(
                |s, _| s.kernel = by_uplink(THIRD),
                "fast",
                "",
                &["agreement"],
                "DISAGREE",
            ),
            row(
                |s, _| {
                    s.flows.clear();
                    s.kernel = KernelWay::Drops("a blackhole route".into());
                },
                "unconfirmed",
                "",
                &["flow", "kernel_route"],
                "never as it stands: the kernel drops it: a blackhole route",
            ),
            row(
                |s, q| {
                    q.remote = Some(ip("192.168.77.1"));
                    s.kernel = KernelWay::Local;
                },
                "unconfirmed",
                "",
                &["flow", "route", "kernel_route"],
                "never as it stands: for this node itself",
            ),
            row(
                |s, _| {
                    s.flows.clear();
                    s.kernel = by_bridge(None);
                },
                "unconfirmed",
                "",
                &["flow", "agreement"],
                "out of cni0",
            ),
            row(
                |s, _| {
                    s.flows.clear();
                    s.kernel = KernelWay::Forwards {
                        ifindex: UPLINK,
                        next_hop: ip("192.168.77.2"),
                        neighbour: neighbour(None, "failed"),
                    };
                },
                "unconfirmed",
                "confirmed",
                &["flow"],
                "no MAC, failed",
            ),
        ],
    );
}

#[test]
fn offload_always_asks_trie_and_endpoints_alone() {
    macro_rules! always {
        ($($change:tt)*) => {
            |s: &mut Snapshot, q: &mut Question| {
                s.settings.offload = Offload::Always as u8;
                s.flows.clear();
                let change: fn(&mut Snapshot, &mut Question) = $($change)*;
                change(s, q);
            }
        };
    }
    check(
        Way::Out,
        &[
            row(always!(|_, _| {}), "fast", "", &[], "the trie decides"),
            row(
                always!(|_, q| q.remote = Some(ip("10.96.0.10"))),
                "no_route",
                "no_route",
                &["route"],
                "a Service's address",
            ),
            row(
                always!(|s, _| s.endpoints.clear()),
                "other_entrance",
                "confirmed",
                &[],
                "nothing is known of the pod's veth",
            ),
        ],
    );
    let unknown = always!(|s, _| {
        s.endpoints.clear();
        s.veth_by_mac = Some(VETH);
    });
    check(
        Way::In,
        &[
            row(always!(|_, _| {}), "fast", "", &[], "the trie decides"),
            row(
                unknown,
                "no_endpoint",
                "confirmed",
                &[],
                "to_pod confirms it",
            ),
        ],
    );
}
