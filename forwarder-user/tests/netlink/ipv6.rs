//! What IPv6 has of its own, and what must be told of routes in both families.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use underpass::world::kernel::{Kernel, RouteKind};
use underpass::world::netlink::{NextHop, PROTOCOL};

use crate::link;
use crate::namespace::{Elsewhere, Mirror, ifindex, in_a_namespace, ip};

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn set_mtu_v6(device: &str, mtu: u32) -> Result<()> {
    let file = format!("/proc/sys/net/ipv6/conf/{device}/mtu");
    fs::write(&file, mtu.to_string()).with_context(|| format!("write {file}"))
}

async fn with_a_bridge() -> Result<Mirror> {
    ip("link add br0 type bridge")?;
    ip("link set br0 up")?;
    ip("addr add 10.1.0.1/24 dev br0")?;
    ip("addr add fd01::1/64 dev br0 nodad")?;
    Mirror::new().await
}

#[test]
fn a_route_s_own_mtu_is_seen() {
    in_a_namespace("a_route_s_own_mtu_is_seen", || async {
        let mut mirror = with_a_bridge().await?;
        for (destination, gateway, options, mtu) in [
            ("10.8.1.0/24", "10.1.0.2", "mtu 1400", Some(1400)),
            ("10.8.2.0/24", "10.1.0.2", "mtu lock 1300", Some(1300)),
            ("10.8.3.0/24", "10.1.0.2", "advmss 1000 window 500", None),
            ("fd08:1::/64", "fd01::2", "mtu 1400", Some(1400)),
            ("fd08:2::/64", "fd01::2", "mtu lock 1300", Some(1300)),
            ("fd08:3::/64", "fd01::2", "advmss 1000 hoplimit 9", None),
        ] {
            ip(&format!("route add {destination} via {gateway} {options}"))?;
            let found = |kernel: &Kernel| {
                let routes = &mut kernel.routes.iter();
                let to = routes.find(|route| route.destination == net(destination));
                to.map(|route| (route.mtu, route.kind))
            };
            let ifindex = ifindex("br0")?;
            let kind = RouteKind::Gateway {
                gateway: gateway.parse()?,
                ifindex,
            };
            mirror
                .until(|kernel| found(kernel) == Some((mtu, kind)))
                .await?;
        }
        // Replaced by one without, it has none.
        ip("route replace 10.8.1.0/24 via 10.1.0.2")?;
        ip("-6 route replace fd08:1::/64 via fd01::2")?;
        let narrow = |kernel: &Kernel| kernel.routes.iter().filter(|r| r.mtu.is_some()).count();
        mirror.until(|kernel| narrow(kernel) == 2).await?;
        mirror.until_true().await
    });
}

#[test]
fn routes_that_do_more_than_one_next_hop_are_told_apart() {
    in_a_namespace(
        "routes_that_do_more_than_one_next_hop_are_told_apart",
        || async {
            let mut mirror = with_a_bridge().await?;
            for options in [
                "unreachable DST",
                "blackhole DST",
                "prohibit DST",
                "throw DST",
                "DST nexthop via GW2 nexthop via GW3",
                "DST encap mpls 100 via GW2",
            ] {
                for (destination, gateway) in [("10.8.0.0/24", "10.1.0."), ("fd08::/64", "fd01::")]
                {
                    let add = format!("route add {options}").replace("DST", destination);
                    let add = add
                        .replace("GW2", &format!("{gateway}2"))
                        .replace("GW3", &format!("{gateway}3"));
                    let family = if gateway.contains(':') { "-6" } else { "-4" };
                    if let Err(error) = ip(&format!("{family} {add}")) {
                        // Not every kernel is built with MPLS.
                        assert!(add.contains("mpls"), "{error:#}");
                        continue;
                    }
                    let kinds = |kernel: &Kernel| -> Vec<RouteKind> {
                        let routes = kernel.routes.iter();
                        let to = routes.filter(|route| route.destination == net(destination));
                        to.map(|route| route.kind).collect()
                    };
                    mirror
                        .until(|kernel| kinds(kernel) == [RouteKind::Other])
                        .await
                        .with_context(|| add.clone())?;
                    let what = add.split_whitespace().nth(2).unwrap_or_default();
                    let named = if what.contains(['.', ':']) { "" } else { what };
                    ip(&format!("{family} route del {named} {destination}"))?;
                    mirror.until(|kernel| kinds(kernel).is_empty()).await?;
                }
            }
            Ok(())
        },
    );
}

#[test]
fn a_replacement_that_was_broken_off_is_found_and_mended() {
    in_a_namespace(
        "a_replacement_that_was_broken_off_is_found_and_mended",
        || async {
            let mut mirror = with_a_bridge().await?;
            let ifindex = ifindex("br0")?;
            for (destination, gateways) in [
                ("10.8.1.0/24", ["10.1.0.2", "10.1.0.3"]),
                ("fd08:1::/64", ["fd01::2", "fd01::3"]),
            ] {
                for (verb, gateway) in ["add", "append"].iter().zip(gateways) {
                    let route = format!("{destination} via {gateway} proto {PROTOCOL}");
                    ip(&format!("route {verb} {route}"))?;
                }
                let destination = net(destination);
                let [old, new] = gateways.map(|gateway| NextHop {
                    gateway: gateway.parse().unwrap(),
                    ifindex,
                });
                let ours = |kernel: &Kernel| -> Vec<RouteKind> {
                    let routes = kernel.routes.iter();
                    let ours = routes.filter(|route| route.destination == destination);
                    let ours = ours.filter(|route| route.protocol == PROTOCOL);
                    ours.map(|route| route.kind).collect()
                };
                let both = [old, new].map(RouteKind::from);
                mirror.until(|kernel| ours(kernel) == both).await?;

                mirror.netlink.delete_route(destination, old).await?;

                mirror.until(|kernel| ours(kernel) == both[1..]).await?;
                mirror.until_true().await?;
            }
            Ok(())
        },
    );
}

#[test]
fn an_interface_s_mtu_for_ipv6_is_seen_and_follows_the_device_s() {
    in_a_namespace(
        "an_interface_s_mtu_for_ipv6_is_seen_and_follows_the_device_s",
        || async {
            ip("link add here type veth peer name there")?;
            ip("link set here up")?;
            let mut mirror = Mirror::new().await?;
            let mtus = |kernel: &Kernel| {
                let here = link(kernel, "here").unwrap();
                (here.mtu, here.mtu_v6)
            };
            assert_eq!(mtus(&mirror.kernel), (1500, Some(1500)));

            set_mtu_v6("here", 1400)?;
            let kernel = mirror.netlink.read_all().await?;
            assert_eq!(mtus(&kernel), (1500, Some(1400)));

            // The device's MTU takes the other along, and the event comes before that.
            for mtu in [9000, 1300, 1500] {
                ip(&format!("link set here mtu {mtu}"))?;
                mirror
                    .until(|kernel| mtus(kernel) == (mtu, Some(mtu)))
                    .await?;
                mirror.until_true().await?;
            }
            // Below IPv6's least there is no IPv6.
            ip("link set here mtu 1000")?;
            mirror.until(|kernel| mtus(kernel) == (1000, None)).await?;
            mirror.until_true().await
        },
    );
}

#[test]
fn an_address_in_doubt_is_not_ours() {
    in_a_namespace("an_address_in_doubt_is_not_ours", || async {
        let node = Elsewhere::new()?;
        ip(&format!(
            "link add eth0 type veth peer name eth0 netns {}",
            node.id()
        ))?;
        node.ip("addr add fd01::7/64 dev eth0 nodad")?;
        node.ip("link set eth0 up")?;
        ip("link set eth0 up")?;
        let mut mirror = Mirror::new().await?;
        let ifindex = ifindex("eth0")?;
        let has = move |kernel: &Kernel, address: &str| {
            let addresses = kernel.addresses.get(&ifindex);
            addresses.is_some_and(|addresses| addresses.contains(&net(address)))
        };
        ip("addr add fd01::7/64 dev eth0")?;
        ip("addr add fd01::8/64 dev eth0")?;
        assert!(!has(&mirror.netlink.read_all().await?, "fd01::8/64"));

        mirror.until(|kernel| has(kernel, "fd01::8/64")).await?;

        // Asked for first, so that it is decided by now.
        let failed = Command::new("ip")
            .args(["-6", "addr", "show", "dev", "eth0", "dadfailed"])
            .output()?;
        let failed = String::from_utf8(failed.stdout)?;
        assert!(failed.contains("fd01::7/64"), "{failed}");
        assert!(!has(&mirror.kernel, "fd01::7/64"));
        mirror.until_true().await
    });
}
