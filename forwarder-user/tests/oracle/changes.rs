//! What changes in the middle of a run, between two batches. In both worlds: the next hop, or
//! whether there is one, so that the way out that a confirmed direction has cached is no longer the
//! kernel's; the rules; the uplink's MTU. In one of them: whether there is an agent.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use underpass::datapath::Maps;
use underpass_bench::lab::names;
use underpass_bench::wait_for;
use underpass_common::addr::{Mac, ShowMac};
use underpass_common::route::Route;

use super::cast::{Family, Place, REROUTED, SOMETIMES_BLACKHOLED, UPLINK_MTU, remote};
use super::worlds::Worlds;

/// CI machines are slow and busy.
const DEADLINE: Duration = Duration::from_secs(20);

/// The uplink's smaller MTU.
const NARROW_MTU: u16 = 1400;
/// node3's other MAC.
const OTHER_MAC: Mac = [0x02, 0x4e, 0, 0, 1, 3];

/// How things stand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Changes {
    made: u32,
    /// node3 has its other MAC.
    is_replaced: bool,
    /// One of node3's pods is reached by the router.
    is_rerouted: bool,
    /// The uplink has a smaller MTU.
    is_narrow: bool,
    /// One of the pods may not send to one of node3's.
    is_forbidden: bool,
    /// One of node2's pods is reached by nobody.
    is_blackholed: bool,
    is_marked: bool,
}

impl Changes {
    /// Makes the next change, and waits until the agent has followed.
    ///
    /// # Errors
    /// Where it does not follow.
    pub fn next(&mut self, worlds: &mut Worlds) -> Result<()> {
        let change = self.made % 7;
        self.made += 1;
        let lines = match change {
            0 => self.replace_peer(),
            1 => self.reroute(),
            2 => self.narrow(),
            3 => self.forbid(worlds)?,
            4 => self.blackhole(),
            // What is in the kernel goes on without it.
            5 => return worlds.kill_agent(),
            _ => return worlds.restart_agent(),
        };
        worlds.ip(&lines)?;
        let what = format!("the agent has followed: {lines}");
        wait_for(DEADLINE, &what, || self.check(&worlds.maps))?;
        self.settle(worlds)
    }

    /// The agent writes routes first and the generation afterwards, by which flows see that something
    /// has changed. It does one thing after the other: once it has followed another change, that of a
    /// route that nobody uses, it is through with the first.
    fn settle(&mut self, worlds: &Worlds) -> Result<()> {
        self.is_marked = !self.is_marked;
        let (marker, router) = (marker(), names::outside_address(Family::V4));
        let uplink = names::UPLINK;
        worlds.ip(&match self.is_marked {
            true => format!("route add {marker} via {router} dev {uplink}\n"),
            false => format!("route del {marker}\n"),
        })?;
        wait_for(DEADLINE, "the agent has followed a marker", || {
            let route = way_to(&worlds.maps, marker)?;
            ensure!(route.is_kernels() == self.is_marked, "{route:?}");
            Ok(())
        })
    }

    fn replace_peer(&mut self) -> String {
        self.is_replaced = !self.is_replaced;
        let mac = ShowMac(self.peer_mac());
        let line = |family| {
            let (address, uplink) = (names::node_address(family, 3), names::UPLINK);
            format!("neigh replace {address} lladdr {mac} dev {uplink} nud permanent\n")
        };
        Family::BOTH.map(line).concat()
    }

    fn reroute(&mut self) -> String {
        self.is_rerouted = !self.is_rerouted;
        let line = |family| {
            let (pod, router) = (remote(family, 3, REROUTED), names::outside_address(family));
            let uplink = names::UPLINK;
            match self.is_rerouted {
                true => format!("route add {pod} via {router} dev {uplink}\n"),
                false => format!("route del {pod}\n"),
            }
        };
        Family::BOTH.map(line).concat()
    }

    fn narrow(&mut self) -> String {
        self.is_narrow = !self.is_narrow;
        let mtu = match self.is_narrow {
            true => NARROW_MTU,
            false => UPLINK_MTU,
        };
        format!("link set {} mtu {mtu}\n", names::UPLINK)
    }

    fn blackhole(&mut self) -> String {
        self.is_blackholed = !self.is_blackholed;
        let action = match self.is_blackholed {
            true => "add",
            false => "del",
        };
        let line = |family| {
            let pod = remote(family, 2, SOMETIMES_BLACKHOLED);
            format!("route {action} blackhole {pod}\n")
        };
        Family::BOTH.map(line).concat()
    }

    /// A rule is no line for both families: `ip` has to be told which.
    fn forbid(&mut self, worlds: &Worlds) -> Result<String> {
        self.is_forbidden = !self.is_forbidden;
        let action = match self.is_forbidden {
            true => "add",
            false => "del",
        };
        for (family, flag) in [(Family::V4, "-4"), (Family::V6, "-6")] {
            let (from, to) = (Place::Pod2.address(family), remote(family, 3, 11));
            let rule = format!("rule {action} from {from} to {to} blackhole");
            let words: Vec<_> = ["ip", flag].into_iter().chain(rule.split(' ')).collect();
            worlds.run(&words)?;
        }
        Ok(String::new())
    }

    fn peer_mac(&self) -> Mac {
        match self.is_replaced {
            true => OTHER_MAC,
            false => names::node_mac(3),
        }
    }

    fn check(&self, maps: &Maps) -> Result<()> {
        for family in Family::BOTH {
            let usual = way_to(maps, remote(family, 3, 11))?;
            ensure!(usual.peer_mac == self.peer_mac(), "{usual:?}");
            let rerouted = way_to(maps, remote(family, 3, REROUTED))?;
            ensure!(rerouted.is_kernels() == self.is_rerouted, "{rerouted:?}");
            let lost = way_to(maps, remote(family, 2, SOMETIMES_BLACKHOLED))?;
            ensure!(lost.is_kernels() == self.is_blackholed, "{lost:?}");
        }
        Ok(())
    }
}

/// A pod that nobody sends to.
fn marker() -> IpAddr {
    remote(Family::V4, 3, 250)
}

/// What the trie says.
fn way_to(maps: &Maps, address: IpAddr) -> Result<Route> {
    let routes = maps.routes()?;
    let containing = routes
        .iter()
        .filter(|(prefix, _)| prefix.contains(&address));
    let longest = containing.max_by_key(|(prefix, _)| prefix.prefix_len());
    longest
        .map(|(_, route)| *route)
        .with_context(|| format!("no route to {address}"))
}
