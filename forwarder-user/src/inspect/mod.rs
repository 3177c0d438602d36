//! What the maps hold, for people and for programs.
//!
//! Everything here reads the pinned maps and works without an agent. The JSON forms are stable:
//! fields are added, never renamed or taken away.

pub mod check;
pub mod flows;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub mod paint;
pub mod peers;
pub mod pods;
pub mod print;
mod room;
pub mod status;
pub mod top;
pub mod trace;

use anyhow::{Result, bail};
use underpass_common::agent::Agent;
use underpass_common::settings::LAYOUT_VERSION;
use underpass_common::verdict::Hook;

use crate::datapath::attach::Mechanism;
use crate::datapath::{Attachments, Maps, Pins};

/// Opens the maps to read them.
///
/// # Errors
/// Where no agent has run, or one whose layout this version would misread.
pub fn open(pins: &Pins) -> Result<Maps> {
    if !pins.exist() {
        bail!(
            "no agent has run here: there is nothing under {} (another directory: --bpffs)",
            pins.root().display()
        );
    }
    let maps = Maps::open(pins)?;
    let found = maps.settings()?.layout_version;
    // 0: an agent has just begun, and has not written its settings yet.
    if found != LAYOUT_VERSION && found != 0 {
        bail!(
            "the maps under {} have layout {found}, this underpass reads {LAYOUT_VERSION}: use the one that the agent runs",
            pins.root().display()
        );
    }
    Ok(maps)
}

/// The uplinks, by interface index: the main one, as the agent said, and then those besides it where programs are
/// attached.
///
/// # Errors
/// Where the pins cannot be read.
pub(crate) fn uplinks(pins: &Pins, agent: &Agent) -> Result<Vec<u32>> {
    let attachments = Attachments::new(pins.clone(), Mechanism::of_this_kernel());
    let attached = attachments.alive()?;
    Ok(uplinks_of(agent.uplink_ifindex, attached.iter().copied()))
}

/// As [`uplinks`], with the main one's index (0: none) and what is attached at hand.
fn uplinks_of(main: u32, attached: impl Iterator<Item = (Hook, u32)>) -> Vec<u32> {
    let extra = attached
        .filter(|(hook, ifindex)| *hook == Hook::ToWire && *ifindex != main)
        .map(|(_, ifindex)| ifindex);
    Some(main)
        .filter(|main| *main != 0)
        .into_iter()
        .chain(extra)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uplinks_are_where_packets_leave_and_the_main_one_comes_first() {
        let attached = [
            (Hook::FromPod, 9),
            (Hook::FromWire, 2),
            (Hook::FromWire, 5),
            (Hook::ToPod, 9),
            (Hook::ToWire, 2),
            (Hook::ToWire, 5),
        ];
        let of = |main| uplinks_of(main, attached.into_iter());
        assert_eq!(of(5), [5, 2]);
        assert_eq!(of(7), [7, 2, 5], "it is about to be attached");
        assert_eq!(of(0), [2, 5]);
    }
}
