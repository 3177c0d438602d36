//! How long the newest reconciliations took, for who asks the agent itself (`underpass top`).

use std::collections::VecDeque;
use std::time::Duration;

use crate::datapath::only_agent::Told;

/// So many are looked at. One is a matter of a millisecond, and there are some each minute at the least.
const KEPT: usize = 1000;

/// The newest durations.
#[derive(Debug, Default)]
pub(super) struct Paces(VecDeque<Duration>);

impl Paces {
    /// One more, of planning and applying, well or badly.
    pub(super) fn took(&mut self, duration: Duration) {
        self.0.truncate(KEPT - 1);
        self.0.push_front(duration);
    }

    /// What is told of them.
    pub(super) fn told(&self) -> Told {
        let mut sorted = Vec::from(self.0.clone());
        sorted.sort_unstable();
        // The least that 99 of 100 do not exceed.
        let place = (sorted.len() * 99).div_ceil(100);
        let p99 = place.checked_sub(1).and_then(|last| sorted.get(last));
        Told {
            reconciliations: sorted.len() as u64,
            reconciliation_p99_us: p99.map_or(0, |p99| p99.as_micros() as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(durations: impl IntoIterator<Item = u64>) -> (u64, u64) {
        let mut paces = Paces::default();
        for duration in durations {
            paces.took(Duration::from_micros(duration));
        }
        let told = paces.told();
        (told.reconciliations, told.reconciliation_p99_us)
    }

    #[test]
    fn ninety_nine_of_a_hundred_take_no_longer() {
        assert_eq!(told([]), (0, 0));
        assert_eq!(told([7]), (1, 7));
        assert_eq!(told([3, 9, 5]), (3, 9));
        assert_eq!(told(1..=100), (100, 99));
        assert_eq!(told(1..=200), (200, 198));
    }

    #[test]
    fn old_ones_are_forgotten() {
        let (new, old) = ([1; KEPT], [1_000_000]);
        assert_eq!(told(old.into_iter().chain(new)), (1000, 1));
    }
}
