//! What we change in the kernel: neighbours kept fresh, routes of our own.

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use tokio::time::Instant;
use underpass::world::kernel::{Kernel, KernelRoute, Neighbour, RouteKind};
use underpass::world::netlink::{NextHop, PROTOCOL, RouteAdded};

use crate::namespace::{Elsewhere, Mirror, ifindex, in_a_namespace, ip};

const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const PEERS: [&str; 2] = ["10.1.0.2", "fd01::2"];

/// Two nodes with a wire between them: `eth0` here, where we are `.1`, and there, where the peer
/// is `.2`.
async fn beside_a_peer() -> Result<(Elsewhere, Mirror, u32)> {
    let node = Elsewhere::new()?;
    let add = "link add eth0 type veth peer name eth0 address 02:00:00:00:00:02";
    ip(&format!("{add} netns {}", node.id()))?;
    node.ip("addr add 10.1.0.2/24 dev eth0")?;
    node.ip("addr add fd01::2/64 dev eth0 nodad")?;
    node.ip("link set eth0 up")?;
    ip("addr add 10.1.0.1/24 dev eth0")?;
    ip("addr add fd01::1/64 dev eth0 nodad")?;
    ip("link set eth0 up")?;
    let mut mirror = Mirror::new().await?;
    let ifindex = ifindex("eth0")?;
    mirror
        .until(|kernel| kernel.links[&ifindex].up && !kernel.routes.is_empty())
        .await?;
    Ok((node, mirror, ifindex))
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn network(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn routes_to(kernel: &Kernel, destination: IpNet) -> Vec<KernelRoute> {
    let mut routes = kernel.routes.clone();
    routes.retain(|route| route.destination == destination);
    routes
}

#[test]
fn a_neighbour_kept_fresh_is_resolved_and_marked_as_ours() {
    in_a_namespace(
        "a_neighbour_kept_fresh_is_resolved_and_marked_as_ours",
        || async {
            let (_node, mut mirror, ifindex) = beside_a_peer().await?;
            for ip in PEERS.map(address) {
                mirror.netlink.keep_neighbour_fresh(ifindex, ip).await?;

                let ours = Neighbour {
                    mac: Some(PEER_MAC),
                    permanent: false,
                    managed: true,
                    protocol: PROTOCOL,
                };
                mirror
                    .until(|kernel| kernel.neighbours.get(&(ifindex, ip)) == Some(&ours))
                    .await?;
                // Once more changes nothing.
                mirror.netlink.keep_neighbour_fresh(ifindex, ip).await?;
                let kernel = mirror.netlink.read_all().await?;
                assert_eq!(kernel.neighbours[&(ifindex, ip)], ours);
            }
            Ok(())
        },
    );
}

#[test]
fn a_neighbour_keeps_its_mac_while_it_is_kept_fresh_and_released() {
    in_a_namespace(
        "a_neighbour_keeps_its_mac_while_it_is_kept_fresh_and_released",
        || async {
            let (node, mut mirror, ifindex) = beside_a_peer().await?;
            // Nothing is answered: a MAC that got lost would stay so.
            node.ip("link set eth0 arp off")?;
            node.ip("addr flush dev eth0")?;
            for (ip, state) in PEERS
                .into_iter()
                .flat_map(|ip| [(ip, "stale"), (ip, "reachable")])
            {
                let known = format!("{ip} lladdr 02:00:00:00:00:02 dev eth0 nud {state}");
                super::namespace::ip(&format!("neigh replace {known}"))?;
                let key = (ifindex, address(ip));
                let entry = async |mirror: &Mirror| -> Result<Neighbour> {
                    let kernel = mirror.netlink.read_all().await?;
                    Ok(*kernel.neighbours.get(&key).context("no such entry")?)
                };

                mirror.netlink.keep_neighbour_fresh(ifindex, key.1).await?;
                let kept = entry(&mirror).await?;
                assert_eq!(
                    (kept.mac, kept.managed),
                    (Some(PEER_MAC), true),
                    "{ip} {state}"
                );

                mirror.netlink.release_neighbour(ifindex, key.1).await?;
                let released = entry(&mirror).await?;
                assert_eq!(released.mac, Some(PEER_MAC), "{ip} {state}");
                assert!(!released.managed && !released.permanent);
                assert_ne!(released.protocol, PROTOCOL);
            }
            mirror.until_true().await
        },
    );
}

#[test]
fn releasing_a_neighbour_that_is_not_there_makes_none() {
    in_a_namespace(
        "releasing_a_neighbour_that_is_not_there_makes_none",
        || async {
            let (_node, mirror, ifindex) = beside_a_peer().await?;
            let nobody = address("10.1.0.99");
            mirror.netlink.release_neighbour(ifindex, nobody).await?;
            mirror
                .netlink
                .release_neighbour(ifindex + 1000, nobody)
                .await?;
            let kernel = mirror.netlink.read_all().await?;
            assert!(!kernel.neighbours.contains_key(&(ifindex, nobody)));
            Ok(())
        },
    );
}

#[test]
fn a_neighbour_that_falls_silent_loses_its_mac_and_comes_back() {
    in_a_namespace(
        "a_neighbour_that_falls_silent_loses_its_mac_and_comes_back",
        || async {
            let (node, mut mirror, ifindex) = beside_a_peer().await?;
            for (family, (ip, prefix)) in ["ipv4", "ipv6"].iter().zip(PEERS.iter().zip([24, 64])) {
                for (timer, value) in [
                    ("base_reachable_time_ms", "100"),
                    ("retrans_time_ms", "50"),
                    ("delay_first_probe_time", "0"),
                ] {
                    fs::write(format!("/proc/sys/net/{family}/neigh/eth0/{timer}"), value)
                        .with_context(|| format!("set {timer}"))?;
                }
                let its = format!("{ip}/{prefix} dev eth0");
                let ip = address(ip);
                let mac = |kernel: &Kernel| kernel.neighbours.get(&(ifindex, ip))?.mac;
                let is_known = |kernel: &Kernel| mac(kernel) == Some(PEER_MAC);
                keep_until(&mut mirror, ifindex, ip, is_known).await?;

                node.ip(&format!("addr del {its}"))?;
                keep_until(&mut mirror, ifindex, ip, |kernel| mac(kernel).is_none()).await?;

                let nodad = if ip.is_ipv6() { "nodad" } else { "" };
                node.ip(&format!("addr add {its} {nodad}"))?;
                keep_until(&mut mirror, ifindex, ip, is_known).await?;
            }
            Ok(())
        },
    );
}

/// Asks again and again, as one has to: the kernel deletes failed entries when it has many. Asking
/// also makes it probe at once, and not only when it next looks after all such entries.
async fn keep_until(
    mirror: &mut Mirror,
    ifindex: u32,
    ip: IpAddr,
    shown: impl Fn(&Kernel) -> bool,
) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !shown(&mirror.kernel) {
        assert!(Instant::now() < deadline, "{:#?}", mirror.kernel);
        mirror.netlink.keep_neighbour_fresh(ifindex, ip).await?;
        mirror
            .absorb(Instant::now() + Duration::from_millis(50))
            .await?;
    }
    Ok(())
}

#[test]
fn a_route_of_ours_is_added_led_elsewhere_and_deleted() {
    in_a_namespace(
        "a_route_of_ours_is_added_led_elsewhere_and_deleted",
        || async {
            let (_node, mut mirror, ifindex) = beside_a_peer().await?;
            for (destination, gateways) in [
                ("10.8.1.0/24", ["10.1.0.2", "10.1.0.3"]),
                ("fd08:1::/64", ["fd01::2", "fd01::3"]),
            ] {
                let destination = network(destination);
                let [old, new] = gateways.map(|gateway| NextHop {
                    gateway: address(gateway),
                    ifindex,
                });
                let leads = |kernel: &Kernel, next_hop: NextHop| {
                    let routes = routes_to(kernel, destination);
                    matches!(routes[..], [route] if route.protocol == PROTOCOL
                    && route.kind == RouteKind::from(next_hop))
                };
                let netlink = &mirror.netlink;

                let added = netlink.add_route(destination, old).await?;
                assert_eq!(added, RouteAdded::Added);
                let again = netlink.add_route(destination, old).await?;
                assert_eq!(again, RouteAdded::AlreadyThere);
                let other = netlink.add_route(destination, new).await?;
                assert_eq!(other, RouteAdded::Taken);
                mirror.until(|kernel| leads(kernel, old)).await?;

                for _ in 0..2 {
                    mirror.netlink.replace_route(destination, old, new).await?;
                    mirror.until(|kernel| leads(kernel, new)).await?;
                    mirror.until_true().await?;
                }

                for _ in 0..2 {
                    mirror.netlink.delete_route(destination, new).await?;
                    mirror
                        .until(|kernel| routes_to(kernel, destination).is_empty())
                        .await?;
                }
            }
            Ok(())
        },
    );
}

#[test]
fn a_route_of_somebody_else_is_left_alone() {
    in_a_namespace("a_route_of_somebody_else_is_left_alone", || async {
        let (_node, mut mirror, ifindex) = beside_a_peer().await?;
        for (destination, gateway) in [("10.8.1.0/24", "10.1.0.2"), ("fd08:1::/64", "fd01::2")] {
            ip(&format!("route add {destination} via {gateway}"))?;
            let destination = network(destination);
            let same = NextHop {
                gateway: address(gateway),
                ifindex,
            };
            mirror
                .until(|kernel| !routes_to(kernel, destination).is_empty())
                .await?;
            let theirs = routes_to(&mirror.kernel, destination);

            let added = mirror.netlink.add_route(destination, same).await?;
            assert_eq!(added, RouteAdded::Taken);
            mirror.netlink.delete_route(destination, same).await?;

            mirror.until_true().await?;
            assert_eq!(routes_to(&mirror.kernel, destination), theirs);
        }
        Ok(())
    });
}

#[test]
fn a_refused_route_names_device_destination_and_reason() {
    in_a_namespace(
        "a_refused_route_names_device_destination_and_reason",
        || async {
            let (_node, mirror, ifindex) = beside_a_peer().await?;
            let far = NextHop {
                gateway: address("192.0.2.1"),
                ifindex,
            };
            let error = mirror.netlink.add_route(network("10.8.1.0/24"), far).await;
            let message = format!("{:#}", error.unwrap_err());
            for part in [
                "10.8.1.0/24",
                "192.0.2.1",
                "eth0",
                "Nexthop has invalid gateway",
            ] {
                assert!(message.contains(part), "{part}: {message}");
            }
            Ok(())
        },
    );
}

#[test]
fn the_way_to_an_address_is_found() {
    in_a_namespace("the_way_to_an_address_is_found", || async {
        let (_node, mirror, ifindex) = beside_a_peer().await?;
        ip("route add unreachable 10.9.0.0/24")?;
        ip("-6 route add unreachable fd09::/64")?;
        for (to, way) in [
            ("10.1.0.2", Some(ifindex)),
            ("fd01::2", Some(ifindex)),
            ("10.1.0.1", None),
            ("10.9.0.1", None),
            ("fd09::1", None),
            ("192.0.2.1", None),
            ("2001:db8::1", None),
        ] {
            assert_eq!(mirror.netlink.route_to(address(to)).await?, way, "{to}");
        }
        Ok(())
    });
}

#[test]
fn five_thousand_peers_are_followed_without_delay() {
    in_a_namespace("five_thousand_peers_are_followed_without_delay", || async {
        const PEERS: usize = 5000;
        let (_node, mut mirror, ifindex) = beside_a_peer().await?;
        let batch = tempfile::NamedTempFile::new()?;
        let mut lines = String::new();
        for peer in 0..PEERS {
            let (high, low) = (peer / 250, peer % 250 + 1);
            lines += &format!("route add 10.{}.{low}.0/24 via 10.1.0.2\n", 100 + high);
            let mac = format!("02:00:00:01:{high:02x}:{low:02x}");
            lines += &format!("neigh add 10.1.{high}.{low} lladdr {mac} dev eth0\n");
        }
        fs::write(batch.path(), lines)?;
        ip(&format!("-batch {}", batch.path().display()))?;

        let started = Instant::now();
        let count = |kernel: &Kernel| {
            let permanent = |entry: &&Neighbour| entry.permanent;
            (
                kernel.routes.len(),
                kernel.neighbours.values().filter(permanent).count(),
            )
        };
        mirror
            .until(|kernel| count(kernel).0 >= PEERS && count(kernel).1 >= PEERS)
            .await?;
        mirror.until_true().await?;

        let duration = started.elapsed();
        assert!(duration < Duration::from_secs(5), "{duration:?}");
        assert!(mirror.kernel.neighbours.keys().all(|key| key.0 == ifindex));
        Ok(())
    });
}
