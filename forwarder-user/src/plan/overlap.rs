//! Which of many prefixes overlap, and which hold one of many addresses, without comparing each
//! with each.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

/// True where two prefixes have addresses in common: where they are alike in the bits of the shorter one. Thousands
/// of prefixes are judged in every plan, and this is quicker than comparing first and last addresses.
pub(super) fn overlap(a: IpNet, b: IpNet) -> bool {
    let length = u32::from(a.prefix_len().min(b.prefix_len()));
    match (a, b) {
        (IpNet::V4(a), IpNet::V4(b)) => {
            let differ = a.addr().to_bits() ^ b.addr().to_bits();
            differ.leading_zeros() >= length
        }
        (IpNet::V6(a), IpNet::V6(b)) => {
            let differ = a.addr().to_bits() ^ b.addr().to_bits();
            differ.leading_zeros() >= length
        }
        _ => false,
    }
}

/// That an owner's prefix overlaps somebody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clash {
    pub own: IpNet,
    pub others: IpNet,
    pub other: usize,
}

/// Finds, for every owner one of whose prefixes overlaps a prefix of another owner, one such pair.
/// Overlaps of an owner with itself are none of ours.
pub(super) fn clashes(prefixes: impl Iterator<Item = (IpNet, usize)>) -> BTreeMap<usize, Clash> {
    let mut owners_of: BTreeMap<IpNet, Vec<usize>> = BTreeMap::new();
    for (prefix, owner) in prefixes {
        let owners = owners_of.entry(prefix).or_default();
        if owners.last() != Some(&owner) {
            owners.push(owner);
        }
    }
    let mut found = BTreeMap::new();
    // In the map's order a prefix stands before everything inside it, and two prefixes are either
    // nested or disjoint: what encloses the current one is a stack.
    let mut enclosing: Vec<(IpNet, &[usize])> = Vec::new();
    for (&prefix, owners) in &owners_of {
        while enclosing
            .pop_if(|(outer, _)| !outer.contains(&prefix))
            .is_some()
        {}
        enclosing.push((prefix, owners));
        for &(outer, outer_owners) in &enclosing {
            for &owner in owners {
                note(&mut found, (prefix, owner), (outer, outer_owners));
            }
            // Where a prefix has several owners, all of them are noted already.
            if let &[owner] = outer_owners {
                note(&mut found, (outer, owner), (prefix, owners));
            }
        }
    }
    found
}

fn note(
    found: &mut BTreeMap<usize, Clash>,
    (own, owner): (IpNet, usize),
    (others, other_owners): (IpNet, &[usize]),
) {
    if let Some(&other) = other_owners.iter().find(|&&other| other != owner) {
        found.entry(owner).or_insert(Clash { own, others, other });
    }
}

/// Addresses, each with whom it belongs to, to be asked for those inside a prefix.
#[derive(Debug)]
pub(super) struct Addresses<T> {
    sorted: Vec<(IpAddr, T)>,
}

impl<T: Copy + Ord> Addresses<T> {
    pub(super) fn new(addresses: impl Iterator<Item = (IpAddr, T)>) -> Self {
        let mut sorted: Vec<_> = addresses.collect();
        sorted.sort_unstable();
        sorted.dedup();
        Self { sorted }
    }

    /// The lowest address inside `prefix`.
    pub(super) fn first_in(&self, prefix: IpNet) -> Option<(IpAddr, T)> {
        self.from(prefix.network())
            .next()
            .filter(|(address, _)| prefix.contains(address))
    }

    /// Whom `address` belongs to, in order.
    pub(super) fn owners(&self, address: IpAddr) -> impl Iterator<Item = T> {
        self.from(address)
            .take_while(move |(found, _)| *found == address)
            .map(|(_, owner)| owner)
    }

    fn from(&self, least: IpAddr) -> impl Iterator<Item = (IpAddr, T)> {
        let start = self.sorted.partition_point(|(address, _)| *address < least);
        self.sorted[start..].iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn owners_that_clash(prefixes: &[(&str, usize)]) -> Vec<usize> {
        let prefixes = prefixes.iter().map(|&(text, owner)| (net(text), owner));
        clashes(prefixes).into_keys().collect()
    }

    #[test]
    fn who_clashes_with_whom() {
        let none: [usize; 0] = [];
        assert_eq!(
            owners_that_clash(&[("10.1.0.0/24", 1), ("10.1.1.0/24", 2), ("fd00::/64", 3)]),
            none
        );
        assert_eq!(
            owners_that_clash(&[("10.1.0.0/24", 1), ("10.1.0.0/24", 2), ("10.1.1.0/24", 3)]),
            [1, 2]
        );
        assert_eq!(
            owners_that_clash(&[("10.0.0.0/8", 9), ("10.1.0.0/24", 1), ("11.1.1.0/24", 3)]),
            [1, 9]
        );
        // Two levels up, an owner's own prefix between.
        assert_eq!(
            owners_that_clash(&[("10.0.0.0/8", 9), ("10.1.0.0/16", 1), ("10.1.1.0/24", 1)]),
            [1, 9]
        );
        // An owner's own overlaps do not count.
        assert_eq!(
            owners_that_clash(&[("10.0.0.0/8", 1), ("10.1.0.0/16", 1), ("10.1.0.0/16", 1)]),
            none
        );
    }

    #[test]
    fn a_clash_names_both_prefixes_and_the_other_owner() {
        let found = clashes([(net("10.0.0.0/8"), 7), (net("10.1.0.0/24"), 8)].into_iter());
        let (wide, narrow) = (net("10.0.0.0/8"), net("10.1.0.0/24"));
        let clash = |own, others, other| Clash { own, others, other };
        assert_eq!(found[&7], clash(wide, narrow, 8));
        assert_eq!(found[&8], clash(narrow, wide, 7));
    }

    #[test]
    fn addresses_are_found_by_prefix_and_by_owner() {
        let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
        let addresses = Addresses::new(
            [
                (ip("10.0.0.9"), 1),
                (ip("10.0.0.1"), 2),
                (ip("10.0.0.9"), 3),
                (ip("fd00::1"), 4),
            ]
            .into_iter(),
        );
        let first = |text| addresses.first_in(net(text));
        assert_eq!(first("10.0.0.0/24"), Some((ip("10.0.0.1"), 2)));
        assert_eq!(first("10.0.0.8/29"), Some((ip("10.0.0.9"), 1)));
        assert_eq!(first("10.0.1.0/24"), None);
        assert_eq!(
            first("255.0.0.0/8"),
            None,
            "the next address is an IPv6 one"
        );
        assert_eq!(first("fd00::/64"), Some((ip("fd00::1"), 4)));
        assert_eq!(first("fd01::/64"), None);
        let owners = |text| addresses.owners(ip(text)).collect::<Vec<_>>();
        assert_eq!(owners("10.0.0.9"), [1, 3]);
        assert_eq!(owners("10.0.0.2"), [0; 0]);
    }

    fn prefix() -> impl Strategy<Value = IpNet> {
        let v4 = (0u32..64, 8u8..=32).prop_map(|(bits, length)| {
            let address = std::net::Ipv4Addr::from(0x0a00_0000 | bits << 18);
            IpNet::new(address.into(), length).unwrap().trunc()
        });
        let v6 = (0u128..16, 32u8..=128).prop_map(|(bits, length)| {
            let address = std::net::Ipv6Addr::from(0xfd << 120 | bits << 60);
            IpNet::new(address.into(), length).unwrap().trunc()
        });
        prop_oneof![3 => v4, 1 => v6]
    }

    proptest! {
        #[test]
        fn prefixes_overlap_where_one_contains_the_other(a in prefix(), b in prefix()) {
            prop_assert_eq!(overlap(a, b), a.contains(&b) || b.contains(&a));
        }

        #[test]
        fn the_same_is_found_as_by_comparing_each_with_each(
            prefixes in proptest::collection::vec((prefix(), 0usize..8), 0..24)
        ) {
            let found = clashes(prefixes.iter().copied());
            for owner in 0..8 {
                let clash = prefixes.iter().any(|&(own, a)| {
                    a == owner && prefixes.iter().any(|&(others, b)| {
                        b != owner && overlap(own, others)
                    })
                });
                prop_assert_eq!(found.contains_key(&owner), clash);
            }
            for (owner, clash) in found {
                prop_assert!(prefixes.contains(&(clash.own, owner)));
                prop_assert!(prefixes.contains(&(clash.others, clash.other)));
                prop_assert_ne!(clash.other, owner);
            }
        }
    }
}
