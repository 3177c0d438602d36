//! How long it takes from one Node's change to its map entries.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ipnet::IpNet;
use serde::Serialize;

use super::cluster::Peer;
use super::maps::Tries;
use super::node::node;
use crate::api_server::ApiServer;
use crate::interrupt;

/// How long a change may take before it counts as lost.
const LOST: Duration = Duration::from_secs(30);
/// Between two looks at the map.
const LOOK: Duration = Duration::from_micros(200);

/// What can become of a Node, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Change {
    /// It has other podCIDRs than before.
    Other,
    /// It has its first ones again.
    Back,
    Deleted,
    Created,
}

const STORY: [Change; 4] = [
    Change::Other,
    Change::Back,
    Change::Deleted,
    Change::Created,
];

/// How many peers take part in so many changes.
pub(super) fn actors(changes: usize) -> usize {
    changes.div_ceil(STORY.len())
}

/// Makes changes to the peers from 0 on, one at a time, and takes the time of each.
pub(super) fn measure(
    server: &ApiServer,
    tries: &Tries,
    changes: usize,
) -> Result<Vec<(Change, Duration)>> {
    let story = (0..actors(changes)).flat_map(|peer| STORY.map(|change| (Peer(peer), change)));
    let times = story
        .take(changes)
        .map(|(peer, change)| Ok((change, time(server, tries, peer, change)?)));
    times.collect()
}

fn time(server: &ApiServer, tries: &Tries, peer: Peer, change: Change) -> Result<Duration> {
    let (first, other) = (peer.pod_cidrs(), peer.other_pod_cidrs());
    let (cidrs, present, absent): (_, &[IpNet], &[IpNet]) = match change {
        Change::Other => (other, &other, &first),
        Change::Back => (first, &first, &other),
        Change::Deleted => (first, &[], &first),
        Change::Created => (first, &first, &[]),
    };
    let name = peer.name();
    let written = node(&name, &peer.addresses(), &cidrs, 0);
    let began = Instant::now();
    match change {
        Change::Deleted => server.delete(&name),
        _ => server.set(written),
    }
    loop {
        let all = |cidrs: &[IpNet], wanted: bool| -> Result<bool> {
            for cidr in cidrs {
                if tries.has(cidr)? != wanted {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        if all(present, true)? && all(absent, false)? {
            return Ok(began.elapsed());
        }
        interrupt::check()?;
        let took = began.elapsed();
        ensure!(
            took < LOST,
            "{name}: {change:?} is not in the maps after {took:?}"
        );
        thread::sleep(LOOK);
    }
}

/// The time that this part of all is not above.
pub(super) fn percentile(times: &[Duration], part: f64) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let place = (part * sorted.len() as f64).ceil() as usize;
    sorted
        .get(place.saturating_sub(1))
        .copied()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_times() {
        let times: Vec<_> = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 0.5), Duration::from_millis(100));
        assert_eq!(percentile(&times, 0.99), Duration::from_millis(198));
        assert_eq!(percentile(&times, 1.0), Duration::from_millis(200));
        assert_eq!(percentile(&[], 0.5), Duration::ZERO);
    }

    #[test]
    fn each_actor_plays_the_whole_story() {
        assert_eq!(actors(500), 125);
        assert_eq!(actors(501), 126);
    }
}
