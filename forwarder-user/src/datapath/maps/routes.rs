//! The tries, both as one.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Error, Result};
use aya::maps::MapError;
use aya::maps::lpm_trie::Key;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use underpass_common::route::Route;

use super::Maps;
use super::tables::names;

impl Maps {
    /// The tries.
    ///
    /// # Errors
    /// Where the kernel does not answer.
    pub fn routes(&self) -> Result<BTreeMap<IpNet, Route>> {
        let mut routes = BTreeMap::new();
        // A prefix length past the address's cannot be stored: the kernel checks it.
        self.v4.each_route(|network, length, route| {
            if let Ok(prefix) = Ipv4Net::new(network.into(), length) {
                routes.insert(prefix.into(), route);
            }
        })?;
        self.v6.each_route(|network, length, route| {
            if let Ok(prefix) = Ipv6Net::new(network.into(), length) {
                routes.insert(prefix.into(), route);
            }
        })?;
        Ok(routes)
    }

    /// Adds or replaces entries of the tries; those of one family in their order. Which could not be
    /// written, and why.
    pub fn set_routes(&mut self, routes: &[(IpNet, Route)]) -> Vec<(IpNet, Error)> {
        let of = ByFamily::new(routes.iter().map(|(prefix, _)| *prefix));
        let chosen = |places: &[usize]| -> Vec<Route> {
            places.iter().map(|&place| routes[place].1).collect()
        };
        let v4 = self.v4.set_routes(&of.v4.keys, &chosen(&of.v4.places));
        let v6 = self.v6.set_routes(&of.v6.keys, &chosen(&of.v6.places));
        let prefix = |place: usize| routes[place].0;
        told(of.v4.places, v4, prefix, "write")
            .chain(told(of.v6.places, v6, prefix, "write"))
            .collect()
    }

    /// Removes entries of the tries; those of one family in their order, and none there is as good.
    /// Which could not be removed, and why.
    pub fn remove_routes(&mut self, prefixes: &[IpNet]) -> Vec<(IpNet, Error)> {
        let of = ByFamily::new(prefixes.iter().copied());
        let v4 = self.v4.remove_routes(&of.v4.keys);
        let v6 = self.v6.remove_routes(&of.v6.keys);
        let prefix = |place: usize| prefixes[place];
        told(of.v4.places, v4, prefix, "remove")
            .chain(told(of.v6.places, v6, prefix, "remove"))
            .collect()
    }
}

/// Keys of one family's trie, and the place in the whole that each comes from.
struct Keys<A> {
    keys: Vec<Key<A>>,
    places: Vec<usize>,
}

struct ByFamily {
    v4: Keys<[u8; 4]>,
    v6: Keys<[u8; 16]>,
}

impl ByFamily {
    fn new(prefixes: impl Iterator<Item = IpNet>) -> Self {
        let (mut v4, mut v6) = (Keys::default(), Keys::default());
        for (place, prefix) in prefixes.enumerate() {
            let length = prefix.prefix_len().into();
            match prefix.network() {
                IpAddr::V4(network) => v4.push(Key::new(length, network.octets()), place),
                IpAddr::V6(network) => v6.push(Key::new(length, network.octets()), place),
            }
        }
        Self { v4, v6 }
    }
}

impl<A> Default for Keys<A> {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            places: Vec::new(),
        }
    }
}

impl<A> Keys<A> {
    fn push(&mut self, key: Key<A>, place: usize) {
        self.keys.push(key);
        self.places.push(place);
    }
}

/// What a family refused, by prefix; `what`: the verb.
fn told<'a>(
    places: Vec<usize>,
    refused: Vec<(usize, MapError)>,
    prefix: impl Fn(usize) -> IpNet + 'a,
    what: &'a str,
) -> impl Iterator<Item = (IpNet, Error)> + 'a {
    refused.into_iter().map(move |(place, error)| {
        let prefix = prefix(places[place]);
        let map = names(&prefix).routes;
        let text = format!("cannot {what} {prefix}: map {map}");
        (prefix, Error::new(error).context(text))
    })
}
