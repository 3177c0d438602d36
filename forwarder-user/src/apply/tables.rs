//! Writing the tries, the endpoints and the peers.

use std::collections::BTreeSet;

use ipnet::IpNet;
use tracing::debug;
use underpass_common::route::Route;

use super::failures::Failures;
use super::tell::tell;
use super::{Applier, plan};
use crate::diff::{Changes, RouteChange};

/// Their keys are long: all of thousands at a time would be megabytes.
const PEERS_AT_ONCE: usize = 512;

/// Changes of the tries that follow each other and are of one kind.
enum Run {
    Set(Vec<(IpNet, Route)>),
    Remove(Vec<IpNet>),
}

impl Applier {
    /// Writes the tries in the order of the changes, as many as can be in one go.
    pub(super) fn write_trie(&mut self, changes: &Changes, failures: &mut Failures) {
        for run in runs(&changes.routes) {
            match run {
                Run::Set(routes) => self.set_routes(&routes, failures),
                Run::Remove(prefixes) => self.remove_routes(&prefixes, failures),
            }
        }
        let mut forgotten = Vec::new();
        for address in &changes.endpoints_removed {
            if failures.note(self.maps.remove_endpoint(address)) {
                forgotten.push(address);
            }
        }
        tell("pod forgotten", &forgotten);
        if changes.needs_new_generation() {
            self.bump_generation();
        }
    }

    fn set_routes(&mut self, routes: &[(IpNet, Route)], failures: &mut Failures) {
        let failed = failures.note_all(self.maps.set_routes(routes));
        let done = routes.iter().filter(|(prefix, _)| !failed.contains(prefix));
        let (exceptions, ways): (Vec<_>, Vec<_>) = done.partition(|(_, route)| route.is_kernels());
        let prefixes = |routes: Vec<&(IpNet, Route)>| -> Vec<IpNet> {
            routes.into_iter().map(|(prefix, _)| *prefix).collect()
        };
        let elsewhere = "left to the kernel, which routes it elsewhere";
        tell(elsewhere, &prefixes(exceptions));
        // The agent tells which node has come, by name.
        for prefix in prefixes(ways) {
            debug!("route written: {prefix}");
        }
    }

    fn remove_routes(&mut self, prefixes: &[IpNet], failures: &mut Failures) {
        let failed = failures.note_all(self.maps.remove_routes(prefixes));
        for prefix in prefixes.iter().filter(|prefix| !failed.contains(prefix)) {
            debug!("route removed: {prefix}");
        }
    }

    /// Writes what people see of the other nodes.
    pub(super) fn write_peers(&mut self, changes: &Changes, failures: &mut Failures) {
        let peers: Vec<_> = changes.peers_set.iter().collect();
        for some in peers.chunks(PEERS_AT_ONCE) {
            let known = some.iter();
            let some: Vec<_> = known
                .filter_map(|(name, peer)| Some((plan::peer_key(name)?, **peer)))
                .collect();
            for error in self.maps.set_peers(&some) {
                failures.note(Err(error));
            }
        }
        for name in &changes.peers_removed {
            if let Some(key) = plan::peer_key(name) {
                failures.note(self.maps.remove_peer(&key));
            }
        }
    }
}

impl Failures {
    /// Notes prefixes that failed; which.
    fn note_all(&mut self, failed: Vec<(IpNet, anyhow::Error)>) -> BTreeSet<IpNet> {
        let note = |(prefix, error)| {
            self.note(Err(error));
            prefix
        };
        failed.into_iter().map(note).collect()
    }
}

fn runs(changes: &[RouteChange]) -> Vec<Run> {
    let mut runs = Vec::new();
    for change in changes {
        match (*change, runs.last_mut()) {
            (RouteChange::Set(prefix, route), Some(Run::Set(run))) => run.push((prefix, route)),
            (RouteChange::Remove(prefix), Some(Run::Remove(run))) => run.push(prefix),
            (RouteChange::Set(prefix, route), _) => runs.push(Run::Set(vec![(prefix, route)])),
            (RouteChange::Remove(prefix), _) => runs.push(Run::Remove(vec![prefix])),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_each_other_is_one_run_and_the_order_stays() {
        let net = |n: u8| -> IpNet { format!("10.{n}.0.0/16").parse().unwrap() };
        let set = |n| RouteChange::Set(net(n), Route::KERNEL);
        let remove = |n| RouteChange::Remove(net(n));
        let shown: Vec<String> = runs(&[set(1), set(2), remove(3), remove(4), set(5)])
            .iter()
            .map(|run| match run {
                Run::Set(routes) => {
                    format!("set {:?}", routes.iter().map(|r| r.0).collect::<Vec<_>>())
                }
                Run::Remove(prefixes) => format!("remove {prefixes:?}"),
            })
            .collect();
        let expected = [
            "set [10.1.0.0/16, 10.2.0.0/16]",
            "remove [10.3.0.0/16, 10.4.0.0/16]",
            "set [10.5.0.0/16]",
        ];
        assert_eq!(shown, expected);
        assert!(runs(&[]).is_empty());
    }
}
