//! Which peers have a MAC on the segment: the kernel is asked to find out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::facts::Standing;
use crate::world::netlink::{Netlink, Resolution, Resolved};

/// The kernel gives a neighbour up after three questions, a second apart
/// (`net.ipv4.neigh.default.mcast_solicit`, `retrans_time_ms`).
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the kernel's table is read meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// No more are asked than a neighbour table has room for, whatever its limits are: asking would push others
/// out of it.
const MOST: usize = 256;

/// What the kernel knows, or finds out, of these neighbours at an interface.
pub async fn reach(
    netlink: &Netlink,
    ifindex: u32,
    addresses: &[IpAddr],
) -> BTreeMap<IpAddr, Standing> {
    let mut standings = BTreeMap::new();
    let mut open: Vec<IpAddr> = addresses.to_vec();
    if let Err(error) = ask_all(netlink, ifindex, &mut open, &mut standings).await {
        let why = Standing::NotAsked(format!("{error:#}"));
        standings.extend(open.into_iter().map(|address| (address, why.clone())));
        return standings;
    }
    let deadline = Instant::now() + PATIENCE;
    while !open.is_empty() {
        let late = Instant::now() >= deadline;
        let now = netlink.resolutions().await.unwrap_or_default();
        open.retain(|&address| match judge(now.get(&(ifindex, address)), late) {
            Some(standing) => {
                standings.insert(address, standing);
                false
            }
            None => true,
        });
        if !open.is_empty() {
            sleep(LOOK_AGAIN).await;
        }
    }
    standings
}

/// Has the kernel ask for those that it does not look after anyway. `open` keeps those that an answer is
/// to be waited for.
async fn ask_all(
    netlink: &Netlink,
    ifindex: u32,
    open: &mut Vec<IpAddr>,
    standings: &mut BTreeMap<IpAddr, Standing>,
) -> anyhow::Result<()> {
    let known = netlink.resolutions().await?;
    let mut asked = 0;
    for address in std::mem::take(open) {
        let entry = known.get(&(ifindex, address));
        if let Some(standing) = settled(entry) {
            standings.insert(address, standing);
            continue;
        }
        if entry.is_some_and(|entry| entry.managed) {
            open.push(address);
            continue;
        }
        if asked == MOST {
            let why =
                format!("no more than {MOST} are asked, so that the neighbour table keeps room");
            standings.insert(address, Standing::NotAsked(why));
            continue;
        }
        let has_mac = entry.is_some_and(|entry| entry.resolution == Resolution::Doubtful);
        match netlink.ask_for_neighbour(ifindex, address, has_mac).await {
            Ok(()) => open.push(address),
            Err(error) => {
                standings.insert(address, Standing::NotAsked(format!("{error:#}")));
            }
        }
        asked += 1;
    }
    Ok(())
}

/// What needs no question: confirmed lately, or looked after by the kernel every five seconds.
fn settled(entry: Option<&Resolved>) -> Option<Standing> {
    let entry = entry?;
    match entry.resolution {
        Resolution::Reachable => Some(Standing::Answers),
        Resolution::Doubtful if entry.managed => Some(Standing::Answers),
        _ => None,
    }
}

/// What came of a question; `None`: nothing yet. `late`: no more is waited for.
fn judge(entry: Option<&Resolved>, late: bool) -> Option<Standing> {
    let resolution = entry.map(|entry| entry.resolution);
    match resolution {
        Some(Resolution::Reachable) => Some(Standing::Answers),
        Some(Resolution::Failed) => Some(Standing::Silent),
        _ if !late => None,
        // It has a MAC, and the kernel has not given it up.
        Some(Resolution::Doubtful) => Some(Standing::Answers),
        _ => Some(Standing::Silent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(resolution: Resolution, managed: bool) -> Option<Resolved> {
        Some(Resolved {
            resolution,
            managed,
        })
    }

    #[test]
    fn only_what_the_kernel_is_sure_of_is_not_asked() {
        let is_settled =
            |resolution, managed| settled(entry(resolution, managed).as_ref()).is_some();
        assert!(is_settled(Resolution::Reachable, false));
        assert!(is_settled(Resolution::Doubtful, true));
        assert!(!is_settled(Resolution::Doubtful, false));
        assert!(!is_settled(Resolution::Failed, true));
        assert!(settled(None).is_none());
    }

    #[test]
    fn an_answer_is_waited_for_until_it_is_late() {
        let answers = Some(Standing::Answers);
        let silent = Some(Standing::Silent);
        for (resolution, early, late) in [
            (Some(Resolution::Reachable), &answers, &answers),
            (Some(Resolution::Failed), &silent, &silent),
            (Some(Resolution::Doubtful), &None, &answers),
            (Some(Resolution::UnderWay), &None, &silent),
            (None, &None, &silent),
        ] {
            let entry = resolution.and_then(|resolution| entry(resolution, false));
            assert_eq!(judge(entry.as_ref(), false), *early, "{resolution:?}");
            assert_eq!(judge(entry.as_ref(), true), *late, "{resolution:?}");
        }
    }
}
