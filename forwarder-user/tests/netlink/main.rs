//! The mirror of the kernel's network state, and our changes to it, against a real kernel.
//!
//! Every test has a network namespace of its own; all need root.

mod changes;
mod ipv6;
mod namespace;
mod shaping;

use std::time::Duration;

use namespace::{Elsewhere, Mirror, ifindex, in_a_namespace, ip};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::time::Instant;
use underpass::world::kernel::{Kernel, KernelRoute, Link, LinkKind, PolicyRule, VethPeer};
use underpass::world::netlink::Event;

fn link<'a>(kernel: &'a Kernel, name: &str) -> Option<&'a Link> {
    kernel.links.values().find(|link| link.name == name)
}

fn peer(kernel: &Kernel, name: &str) -> Option<VethPeer> {
    match link(kernel, name)?.kind {
        LinkKind::Veth(peer) => Some(peer),
        _ => None,
    }
}

#[test]
fn the_mirror_follows_every_kind_of_change() {
    in_a_namespace("the_mirror_follows_every_kind_of_change", || async {
        let pod = Elsewhere::new()?;
        let mut mirror = Mirror::new().await?;
        for step in [
            "link add br0 type bridge",
            "link add here type veth peer name there",
            "link set here mtu 1400",
            "link set here up",
            "link set there up",
            "link set here master br0",
            "link set br0 up",
            "addr add 10.1.0.1/24 dev br0",
            "addr add 10.1.0.2/24 dev br0",
            "addr add fd01::1/64 dev br0 nodad",
            "addr add 10.2.0.1 peer 10.2.0.9/24 dev br0",
            "neigh add 10.1.0.7 lladdr 02:00:00:00:00:07 dev br0",
            "neigh add 10.1.0.8 lladdr 02:00:00:00:00:08 nud stale dev br0",
            "neigh add fd01::8 lladdr 02:00:00:00:00:08 nud reachable dev br0",
            "neigh replace 10.1.0.8 lladdr 02:00:00:00:00:18 dev br0",
            "neigh del 10.1.0.7 dev br0",
            "route add 10.8.0.0/16 via 10.1.0.9",
            "route add 10.8.0.0/16 via 10.1.0.8 metric 7",
            "route add blackhole 10.9.0.0/24",
            "route add 10.7.0.0/24 nexthop via 10.1.0.8 nexthop via 10.1.0.9",
            "route add 10.6.0.0/24 via 10.1.0.8 table 100",
            "route add fd08::/64 via fd01::8",
            "-6 route append fd08::/64 via fd01::9",
            "-6 route append fd08::/64 via fd01::7 proto 85",
            "-6 route del fd08::/64 via fd01::8",
            "-6 route add fd07::/64 proto 85 nexthop via fd01::8 nexthop via fd01::9",
            "-6 route replace fd07::/64 via fd01::8",
            "-6 route add fd07::/64 via fd01::8 metric 7 expires 1000",
            "-6 route add unreachable fd09::/64",
            "-6 route add default via fd01::9 mtu 1400",
            "route add default via 10.1.0.9 mtu lock 1400",
            "-6 route add fd06::/64 via fd01::8 table 100",
            "-6 route del fd07::/64 via fd01::8",
            "link set br0 mtu 1400",
            "link set br0 mtu 1500",
            "route add 10.5.0.0/24 via inet6 fd01::8 dev br0",
            "route del 10.8.0.0/16 via 10.1.0.8 metric 7",
            "rule add from 10.3.0.0/16 fwmark 1 lookup 100",
            "-6 rule add from fd03::/64 lookup 100",
            "rule del from 10.3.0.0/16 fwmark 1 lookup 100",
            "addr del 10.1.0.1/24 dev br0",
            "link set here nomaster",
            // Before 6.2 only a link that is down takes another name.
            "link set here down",
            "link set here name else",
            "link set else address 02:00:00:00:00:99",
            "link set there down",
            "link set br0 down",
            "link set br0 up",
            "addr flush dev br0",
            "link del else",
            "link del br0",
        ] {
            ip(step)?;
            let known = mirror.until_true().await;
            known.map_err(|error| error.context(format!("after: ip {step}")))?;
        }
        ip(&format!(
            "link add pod0 type veth peer name eth0 netns {}",
            pod.id()
        ))?;
        pod.ip("link set eth0 up")?;
        ip("link set pod0 up")?;
        mirror.until_true().await?;
        pod.ip("link del eth0")?;
        mirror.until_true().await
    });
}

#[test]
fn a_veth_shows_the_mac_of_its_peer_in_another_namespace() {
    in_a_namespace(
        "a_veth_shows_the_mac_of_its_peer_in_another_namespace",
        || async {
            let pod = Elsewhere::new()?;
            let mut mirror = Mirror::new().await?;
            let add = "link add pod0 type veth peer name eth0 address 02:00:00:00:00:05";
            ip(&format!("{add} netns {}", pod.id()))?;

            mirror
                .until(|kernel| link(kernel, "pod0").is_some())
                .await?;

            let peer = peer(&mirror.kernel, "pod0").unwrap();
            assert!(peer.netns_id.is_some());
            assert_eq!(peer.mac, Some([2, 0, 0, 0, 0, 5]));
            Ok(())
        },
    );
}

#[test]
fn a_peer_that_moves_to_another_namespace_is_followed() {
    in_a_namespace(
        "a_peer_that_moves_to_another_namespace_is_followed",
        || async {
            let pod = Elsewhere::new()?;
            ip("link add pod0 type veth peer name eth0")?;
            let mut mirror = Mirror::new().await?;
            let before = peer(&mirror.kernel, "pod0").unwrap();
            assert_eq!(before.netns_id, None);
            assert_eq!(before.mac, Some(link(&mirror.kernel, "eth0").unwrap().mac));

            ip(&format!("link set eth0 netns {}", pod.id()))?;

            let moved =
                |kernel: &Kernel| peer(kernel, "pod0").is_some_and(|peer| peer.netns_id.is_some());
            mirror.until(moved).await?;
            assert_eq!(peer(&mirror.kernel, "pod0").unwrap().mac, before.mac);
            mirror.until_true().await
        },
    );
}

#[test]
fn a_vanished_veth_leaves_the_mirror() {
    in_a_namespace("a_vanished_veth_leaves_the_mirror", || async {
        let pod = Elsewhere::new()?;
        let add = "link add pod0 type veth peer name eth0 netns";
        ip(&format!("{add} {}", pod.id()))?;
        ip("link set pod0 up")?;
        pod.ip("link set eth0 up")?;
        ip("addr add 10.1.0.1/24 dev pod0")?;
        ip("neigh add 10.1.0.7 lladdr 02:00:00:00:00:07 dev pod0")?;
        ip("route add 10.8.0.0/16 via 10.1.0.7")?;
        let mut mirror = Mirror::new().await?;
        let ifindex = ifindex("pod0")?;
        assert!(mirror.kernel.addresses.contains_key(&ifindex));

        drop(pod);

        let gone = move |kernel: &Kernel| !kernel.links.contains_key(&ifindex);
        mirror.until(gone).await?;
        assert!(!mirror.kernel.addresses.contains_key(&ifindex));
        assert!(mirror.kernel.neighbours.keys().all(|key| key.0 != ifindex));
        assert_eq!(mirror.kernel.routes, []);
        Ok(())
    });
}

#[test]
fn routes_of_a_link_that_goes_down_leave_the_mirror() {
    in_a_namespace(
        "routes_of_a_link_that_goes_down_leave_the_mirror",
        || async {
            ip("link add br0 type bridge")?;
            ip("addr add 10.1.0.1/24 dev br0")?;
            ip("link set br0 up")?;
            ip("route add 10.8.0.0/16 via 10.1.0.7")?;
            let mut mirror = Mirror::new().await?;
            let shown = |kernel: &Kernel| {
                let wanted = |route: &&KernelRoute| route.destination.addr().is_ipv4();
                kernel.routes.iter().filter(wanted).count()
            };
            assert_eq!(shown(&mirror.kernel), 2, "{:?}", mirror.kernel.routes);

            ip("link set br0 down")?;

            mirror.until(|kernel| shown(kernel) == 0).await
        },
    );
}

#[test]
fn an_overrun_leads_to_a_full_read() {
    in_a_namespace("an_overrun_leads_to_a_full_read", || async {
        let mut mirror = Mirror::new().await?;
        // The least the kernel allows: room for one event or two.
        setsockopt(&mirror.events, sockopt::RcvBuf, &1)?;
        ip("link add br0 type bridge")?;
        ip("link set br0 up")?;
        for host in 1..20 {
            ip(&format!("addr add 10.1.0.{host}/24 dev br0"))?;
        }
        ip("rule add from 10.3.0.0/16 lookup 100")?;

        let deadline = Instant::now() + Duration::from_secs(10);
        let (events, absorbed) = mirror.absorb(deadline).await?.unwrap();

        assert_eq!(events, [Event::Overrun]);
        assert!(absorbed.changed);
        let line = "IPv4 32765: from 10.3.0.0/16 lookup 100";
        assert_eq!(texts(&mirror.kernel.rules), [line]);
        assert_eq!(mirror.kernel, mirror.netlink.read_all().await?);
        // And it goes on hearing.
        ip("link set br0 mtu 1300")?;
        mirror
            .until(|kernel| link(kernel, "br0").is_some_and(|link| link.mtu == 1300))
            .await
    });
}

#[test]
fn only_a_change_of_rules_changes_the_mirrors_rules() {
    in_a_namespace(
        "only_a_change_of_rules_changes_the_mirrors_rules",
        || async {
            let mut mirror = Mirror::new().await?;
            assert!(mirror.kernel.rules.is_empty());
            let deadline = Instant::now() + Duration::from_secs(10);

            ip("rule add from 10.3.0.0/16 fwmark 1 lookup 100 pref 50")?;
            let (_, absorbed) = mirror.absorb(deadline).await?.unwrap();
            assert!(absorbed.changed);
            let line = "IPv4 50: from 10.3.0.0/16 fwmark 0x1 lookup 100";
            assert_eq!(texts(&mirror.kernel.rules), [line]);

            ip("-6 rule add from fd03::/64 lookup 100 pref 60")?;
            let (_, absorbed) = mirror.absorb(deadline).await?.unwrap();
            assert!(absorbed.changed);
            let line_v6 = "IPv6 60: from fd03::/64 lookup 100";
            assert_eq!(texts(&mirror.kernel.rules), [line, line_v6]);

            ip("link add br0 type bridge")?;
            let (_, absorbed) = mirror.absorb(deadline).await?.unwrap();
            assert!(absorbed.changed);
            assert_eq!(texts(&mirror.kernel.rules), [line, line_v6]);
            Ok(())
        },
    );
}

/// Whatever attribute the running kernel has for it.
#[test]
fn a_rule_by_tos_splits_flows() {
    in_a_namespace("a_rule_by_tos_splits_flows", || async {
        ip("rule add tos 0x10 lookup 100 pref 50")?;
        ip("rule add ipproto udp lookup 100 pref 60")?;
        let mirror = Mirror::new().await?;
        let splits = mirror.kernel.rules.iter().map(|rule| rule.splits_flows);
        assert_eq!(splits.collect::<Vec<_>>(), [true, false]);
        Ok(())
    });
}

fn texts(rules: &[PolicyRule]) -> Vec<&str> {
    rules.iter().map(|rule| rule.text.as_str()).collect()
}
