//! What happens to a cluster, and in which order. Pure.

use serde::Serialize;

use crate::random::Random;

/// How many nodes a cluster has.
pub(super) const NODES: usize = 3;
/// The agent of this node is never touched: its memory tells of leaks.
pub(super) const UNTOUCHED: usize = 3;

/// A kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// Nothing has happened yet.
    Nothing,
    /// An agent is told to end (SIGTERM), and started again.
    Restart,
    /// An agent is killed (SIGKILL), and started again.
    Kill,
    /// The agents of two nodes are killed at once, and started again.
    KillTwo,
    /// An agent is killed in the midst of its start, several times.
    KillAtStart,
    /// An agent finds the maps of an older layout.
    Upgrade,
    /// An agent finds the maps of a newer layout.
    Downgrade,
    /// Everything is taken out of a node, and an agent is started again.
    Detach,
    /// A node leaves the nodes file and comes back.
    NodeLeaves,
    /// The nodes file is broken for a while.
    FileBreaks,
    /// A pod comes, talks and goes.
    PodComes,
    /// A node has another MAC, as with another network card, and announces it.
    MacChanges,
}

impl Kind {
    /// All that can be drawn.
    pub(super) const ALL: [Self; 11] = [
        Self::Restart,
        Self::Kill,
        Self::KillTwo,
        Self::KillAtStart,
        Self::Upgrade,
        Self::Downgrade,
        Self::Detach,
        Self::NodeLeaves,
        Self::FileBreaks,
        Self::PodComes,
        Self::MacChanges,
    ];

    /// For people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "before the first event",
            Self::Restart => "agent restarted",
            Self::Kill => "agent killed",
            Self::KillTwo => "two agents killed at once",
            Self::KillAtStart => "agent killed as it starts",
            Self::Upgrade => "agent upgraded",
            Self::Downgrade => "agent downgraded",
            Self::Detach => "detached, started again",
            Self::NodeLeaves => "node leaves, comes back",
            Self::FileBreaks => "nodes file broken, mended",
            Self::PodComes => "pod comes, goes",
            Self::MacChanges => "node's MAC changes",
        }
    }

    /// Whether the kernel alone loses nothing by it, so that nobody may.
    pub(super) fn is_harmless(self) -> bool {
        // Until the announcement has come everybody sends to a MAC that is no longer there.
        self != Self::MacChanges
    }

    /// Whether it happens to a cluster without agents, too.
    pub(super) fn is_of_the_world(self) -> bool {
        matches!(self, Self::PodComes | Self::MacChanges)
    }

    fn is_of_an_agent(self) -> bool {
        !self.is_of_the_world() && !matches!(self, Self::NodeLeaves | Self::FileBreaks)
    }
}

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub kind: Kind,
    /// To this node, from 1; to which agents an event of two agents happens does not depend on it.
    pub node: usize,
    /// Anything, for what else is left to chance.
    pub lot: u64,
}

/// An event that has happened.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Happened {
    /// Seconds after the beginning.
    pub at_s: f64,
    pub kind: Kind,
    /// From 1; 0 where nothing has happened yet.
    pub node: usize,
}

/// Draws events: each kind once, in any order, and then anew.
pub(super) struct Events {
    random: Random,
    left: Vec<Kind>,
}

impl Events {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            left: Vec::new(),
        }
    }

    pub(super) fn draw(&mut self) -> Event {
        let kind = self.left.pop().unwrap_or_else(|| {
            let mut kinds = Kind::ALL;
            self.random.shuffle(&mut kinds);
            self.left = kinds[1..].to_vec();
            kinds[0]
        });
        let among = if kind.is_of_an_agent() {
            UNTOUCHED - 1
        } else {
            NODES
        };
        Event {
            kind,
            node: 1 + self.random.below(among),
            lot: self.random.below(1 << 30) as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(seed: u64, count: usize) -> Vec<Event> {
        let mut events = Events::new(seed);
        (0..count).map(|_| events.draw()).collect()
    }

    #[test]
    fn the_same_seed_tells_the_same_story() {
        assert_eq!(drawn(7, 50), drawn(7, 50));
        assert_ne!(drawn(7, 50), drawn(8, 50));
    }

    #[test]
    fn each_kind_comes_once_before_one_comes_again() {
        for round in drawn(3, 10 * Kind::ALL.len()).chunks(Kind::ALL.len()) {
            let mut kinds: Vec<_> = round.iter().map(|event| event.kind).collect();
            kinds.sort_unstable();
            assert_eq!(kinds, Kind::ALL);
        }
    }

    #[test]
    fn one_agent_is_left_in_peace() {
        for event in drawn(5, 500) {
            assert!((1..=NODES).contains(&event.node));
            assert!(
                !event.kind.is_of_an_agent() || event.node != UNTOUCHED,
                "{event:?}"
            );
        }
    }
}
