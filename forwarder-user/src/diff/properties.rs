use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::plan::fixtures::{CNI0, ETH0, ETH1, OWN_MAC, ip, net, peer_mac, random};
use crate::plan::plan;

fn next_hop(n: u8) -> NextHop {
    NextHop {
        gateway: ip(&format!("10.0.0.{n}")),
        ifindex: ETH0,
    }
}

fn prefix() -> impl Strategy<Value = IpNet> {
    select(vec![
        "10.244.1.0/24",
        "10.244.2.0/24",
        "10.244.2.9/32",
        "10.9.0.0/32",
        "fd00:244:2::/64",
        "fd00:244:2::9/128",
    ])
    .prop_map(net)
}

fn address() -> impl Strategy<Value = IpAddr> {
    select(vec![
        "10.0.0.2",
        "10.0.0.3",
        "10.244.1.5",
        "10.244.2.5",
        "fd00::2",
        "fd00:244:1::5",
    ])
    .prop_map(ip)
}

fn ifindex() -> impl Strategy<Value = u32> {
    prop_oneof![Just(ETH0), Just(ETH1), Just(CNI0), 10u32..14]
}

fn actual() -> impl Strategy<Value = Actual> {
    let route = (0u32..3, random::mac()).prop_map(|(ifindex, peer_mac)| Route {
        ifindex,
        peer_mac,
        own_mac: OWN_MAC,
    });
    let endpoint = (ifindex(), random::mac()).prop_map(|(ifindex, pod_mac)| Endpoint {
        ifindex,
        pod_mac,
        gateway_mac: OWN_MAC,
    });
    let pod = (random::mac(), 0u8..6).prop_map(|(mac, state)| Pod {
        mac,
        state,
        ..Pod::default()
    });
    let peer = random::mac().prop_map(|mac| {
        let mut peer = Peer::default();
        (peer.v4.mac, peer.v6.mac) = (mac, mac);
        peer
    });
    let next_hops = btree_set(2u8..6, 1..3).prop_map(|ns| ns.into_iter().map(next_hop).collect());
    let name = select(vec!["node-1", "node-2", "gone"]).prop_map(str::to_owned);
    (
        vec(prefix(), 0..3),
        btree_map(prefix(), route, 0..5),
        btree_map(address(), endpoint, 0..5),
        btree_map(ifindex(), pod, 0..5),
        btree_map(name, peer, 0..3),
        btree_set((select(&Hook::ALL[..]), ifindex()), 0..8),
        btree_set((ifindex(), address()), 0..5),
        btree_map(prefix(), next_hops, 0..4),
        (btree_set(ifindex(), 0..5), btree_set(ifindex(), 0..3)),
    )
        .prop_map(
            |(
                own_pod_cidrs,
                routes,
                endpoints,
                pods,
                peers,
                attached,
                neighbours,
                kernel_routes,
                (xdp_pods, xdp_uplinks),
            )| Actual {
                own_pod_cidrs,
                routes,
                endpoints,
                pods,
                peers,
                outdated: attached.iter().step_by(2).copied().collect(),
                attached,
                neighbours,
                kernel_routes,
                xdp_pods,
                xdp_uplinks,
            },
        )
}

/// What the trie says of an address.
fn lookup(routes: &BTreeMap<IpNet, Route>, address: IpAddr) -> Option<Route> {
    let matching = routes
        .iter()
        .filter(|(prefix, _)| prefix.contains(&address));
    matching
        .max_by_key(|(prefix, _)| prefix.prefix_len())
        .map(|(_, route)| *route)
}

/// Prefixes that lie in one another, up to five deep.
fn nested() -> impl Strategy<Value = IpNet> {
    let texts = [
        "10.244.0.0/16",
        "10.244.2.0/24",
        "10.244.2.0/26",
        "10.244.2.64/26",
        "10.244.2.0/30",
        "10.244.2.1/32",
    ];
    select(texts.to_vec()).prop_map(net)
}

proptest! {
    #[test]
    fn once_the_changes_are_made_nothing_is_left_to_change(
        config in random::config(), world in random::world(), actual in actual()
    ) {
        let plan = plan(&config, &world).unwrap();
        let mut actual = actual;
        let changes = diff(&actual, &plan);
        actual.apply(&changes);
        let again = diff(&actual, &plan);
        prop_assert!(again.is_empty(), "{again:?}");
        prop_assert_eq!(&actual.routes, &plan.routes);
        prop_assert_eq!(&actual.neighbours, &plan.neighbours);
        for ifindex in actual.endpoints.values().map(|endpoint| endpoint.ifindex) {
            prop_assert!(actual.attached.contains(&(Hook::ToPod, ifindex)));
        }
        for ifindex in &actual.xdp_pods {
            prop_assert!(actual.attached.contains(&(Hook::ToPod, *ifindex)));
            prop_assert!(world.kernel.xdp_targets.contains(ifindex));
        }
        prop_assert_eq!(&actual.xdp_uplinks, &plan.xdp_uplinks);
        for uplink in &plan.uplinks {
            for hook in [Hook::ToWire, Hook::FromWire] {
                prop_assert!(actual.attached.contains(&(hook, uplink.ifindex)));
            }
        }
    }

    #[test]
    fn no_step_on_the_way_catches_what_is_the_kernel_s_before_and_after(
        before in btree_map(nested(), any::<bool>(), 0..5),
        after in btree_map(nested(), any::<bool>(), 0..5),
    ) {
        let way = Route { ifindex: ETH0, peer_mac: peer_mac(2), own_mac: OWN_MAC };
        let trie = |of: BTreeMap<IpNet, bool>| -> BTreeMap<IpNet, Route> {
            of.into_iter().map(|(prefix, is_way)| (prefix, if is_way { way } else { Route::KERNEL })).collect()
        };
        let (mut now, after) = (trie(before.clone()), trie(after));
        let before = trie(before);
        let is_kernels = |routes: &BTreeMap<IpNet, Route>, address| {
            lookup(routes, address).is_none_or(|route| route.is_kernels())
        };
        let addresses = before.keys().chain(after.keys()).map(IpNet::addr);
        let kernels: Vec<IpAddr> = addresses
            .filter(|address| is_kernels(&before, *address) && is_kernels(&after, *address))
            .collect();
        for change in routes(&before, &after) {
            match change {
                RouteChange::Set(prefix, route) => now.insert(prefix, route),
                RouteChange::Remove(prefix) => now.remove(&prefix),
            };
            for address in &kernels {
                prop_assert!(is_kernels(&now, *address), "{address} after {change:?}");
            }
        }
        prop_assert_eq!(now, after);
    }
}
