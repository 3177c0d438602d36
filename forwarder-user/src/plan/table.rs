//! The kernel's main table, arranged for lookups.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::world::kernel::{KernelRoute, RouteKind};

/// Routes by destination; those to one destination in the kernel's order of preference.
#[derive(Debug, Default)]
pub(super) struct Table<'a> {
    /// Each with its destination, without the bits that its length leaves open. Sorted: the kernel's table comes
    /// nearly so, and of thousands of routes each is looked up in every plan.
    routes: Vec<(IpNet, &'a KernelRoute)>,
    /// Prefix lengths that occur at all: a table has few of them.
    lengths_v4: BTreeSet<u8>,
    lengths_v6: BTreeSet<u8>,
}

impl<'a> Table<'a> {
    pub(super) fn new(routes: &'a [KernelRoute]) -> Self {
        let mut table = Self {
            routes: routes
                .iter()
                .map(|route| (route.destination.trunc(), route))
                .collect(),
            ..Self::default()
        };
        // Of one metric there are several where some are for certain packets only (a TOS, a
        // source): those go before the one for all.
        table.routes.sort_by_key(|&(destination, route)| {
            let for_all = route.kind != RouteKind::Other;
            (destination, route.priority, for_all)
        });
        for route in routes {
            let lengths = match route.destination {
                IpNet::V4(_) => &mut table.lengths_v4,
                IpNet::V6(_) => &mut table.lengths_v6,
            };
            lengths.insert(route.destination.prefix_len());
        }
        table
    }

    /// The route that the kernel takes to all of `prefix`, but for what [`Table::inside`] lists.
    pub(super) fn covering(&self, prefix: IpNet) -> Option<&'a KernelRoute> {
        let lengths = match prefix {
            IpNet::V4(_) => &self.lengths_v4,
            IpNet::V6(_) => &self.lengths_v6,
        };
        lengths
            .range(..=prefix.prefix_len())
            .rev()
            .filter_map(|&length| IpNet::new(prefix.addr(), length).ok())
            .find_map(|wider| self.exactly(wider.trunc()).next())
    }

    /// All routes to `prefix` itself; the kernel takes the first.
    pub(super) fn exactly(&self, prefix: IpNet) -> impl Iterator<Item = &'a KernelRoute> {
        let from = self.from(prefix).iter();
        from.take_while(move |(destination, _)| *destination == prefix)
            .map(|(_, route)| *route)
    }

    /// The route that the kernel takes to `address`.
    pub(super) fn to(&self, address: IpAddr) -> Option<&'a KernelRoute> {
        self.covering(IpNet::from(address))
    }

    /// The routes to a part of `prefix`, in order: each before those inside itself.
    pub(super) fn inside(&self, prefix: IpNet) -> impl Iterator<Item = (IpNet, &'a KernelRoute)> {
        self.at_or_inside(prefix)
            .filter(move |(destination, _)| *destination != prefix)
    }

    /// The route to exactly `prefix`, and those to a part of it.
    pub(super) fn at_or_inside(
        &self,
        prefix: IpNet,
    ) -> impl Iterator<Item = (IpNet, &'a KernelRoute)> {
        // In a prefix's order everything inside it follows it without a gap.
        self.from(prefix)
            .chunk_by(|(a, _), (b, _)| a == b)
            .filter_map(|routes| routes.first().copied())
            .take_while(move |(destination, _)| prefix.contains(destination))
    }

    /// The routes to `prefix` and to what comes after it in order.
    fn from(&self, prefix: IpNet) -> &[(IpNet, &'a KernelRoute)] {
        let start = self
            .routes
            .partition_point(|(destination, _)| *destination < prefix);
        &self.routes[start..]
    }
}

/// The interface that a route leaves by, where there is one.
pub(super) fn leaves_by(route: &KernelRoute) -> Option<u32> {
    match route.kind {
        RouteKind::Gateway { ifindex, .. } | RouteKind::OnLink { ifindex } => Some(ifindex),
        RouteKind::Other => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(destination: &str, ifindex: u32, priority: u32) -> KernelRoute {
        KernelRoute {
            destination: destination.parse().unwrap(),
            kind: RouteKind::OnLink { ifindex },
            protocol: 2,
            priority,
            mtu: None,
        }
    }

    #[test]
    fn the_longest_prefix_and_then_the_lowest_metric_wins() {
        let routes = [
            route("0.0.0.0/0", 1, 100),
            route("10.0.0.0/8", 2, 0),
            route("10.1.0.0/16", 3, 20),
            route("10.1.0.0/16", 4, 10),
            route("10.1.0.0/16", 5, 30),
            route("fd00::/64", 6, 0),
        ];
        let table = Table::new(&routes);
        let to = |text: &str| table.to(text.parse().unwrap()).and_then(leaves_by);
        assert_eq!(to("10.1.2.3"), Some(4));
        assert_eq!(to("10.2.2.3"), Some(2));
        assert_eq!(to("11.2.2.3"), Some(1));
        assert_eq!(to("fd00::1"), Some(6));
        assert_eq!(to("fd01::1"), None);
        let covering = |text: &str| table.covering(text.parse().unwrap()).and_then(leaves_by);
        assert_eq!(covering("10.1.0.0/16"), Some(4));
        assert_eq!(
            covering("10.0.0.0/15"),
            Some(2),
            "a longer one covers but a part"
        );
        assert_eq!(covering("0.0.0.0/0"), Some(1));
        assert_eq!(covering("::/0"), None);
    }

    #[test]
    fn what_lies_inside_a_prefix_is_listed_outermost_first() {
        let routes = [
            route("10.1.0.0/16", 1, 0),
            route("10.1.2.128/25", 2, 0),
            route("10.1.2.0/24", 3, 0),
            route("10.1.3.0/24", 4, 0),
            route("10.1.2.7/32", 5, 0),
        ];
        let table = Table::new(&routes);
        let inside = |text: &str| -> Vec<u32> {
            let inside = table.inside(text.parse().unwrap());
            inside.filter_map(|(_, route)| leaves_by(route)).collect()
        };
        assert_eq!(inside("10.1.2.0/24"), [5, 2]);
        assert_eq!(inside("10.1.0.0/16"), [3, 5, 2, 4]);
        assert_eq!(inside("10.1.2.7/32"), [0; 0]);
        assert_eq!(inside("10.9.0.0/16"), [0; 0]);
    }
}
