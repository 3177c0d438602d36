//! Who has which turn: A B B A, in an order that chance chooses.

use super::contender::Contender;
use super::trial::Trial;

/// Random numbers that a seed repeats: splitmix64 (Vigna).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Begins with this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// Puts items into a random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            // Of 2^64 numbers the remainders of a few dozen are even enough.
            let other = (self.next() % (last as u64 + 1)) as usize;
            items.swap(last, other);
        }
    }
}

/// One turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// What is run.
    pub trial: Trial,
    /// By whom.
    pub contender: Contender,
}

/// The turns of all rounds. In every second round each trial's contenders take turns in the order that is the
/// reverse of the one before, so that whatever grows or fades meanwhile falls on all alike.
pub fn rounds(
    trials: &[Trial],
    contenders: &[Contender],
    rounds: usize,
    seed: u64,
) -> Vec<Vec<Turn>> {
    let mut random = Random::new(seed);
    let mut orders: Vec<Vec<Contender>> = vec![contenders.to_vec(); trials.len()];
    let mut all = Vec::with_capacity(rounds);
    for round in 0..rounds {
        for order in &mut orders {
            if round % 2 == 0 {
                random.shuffle(order);
            } else {
                order.reverse();
            }
        }
        let mut places: Vec<_> = (0..trials.len()).collect();
        random.shuffle(&mut places);
        let turns = places.into_iter().flat_map(|place| {
            let trial = trials[place];
            let order = orders[place].iter().copied();
            order
                .filter(move |contender| contender.runs(trial))
                .map(move |contender| Turn { trial, contender })
        });
        all.push(turns.collect());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_contender_has_its_turn_in_every_round() {
        let (trials, contenders) = (&Trial::ALL[..], &Contender::ALL[..]);
        for turns in rounds(trials, contenders, 3, 7) {
            for &trial in trials {
                let mut seen: Vec<_> = turns
                    .iter()
                    .filter(|turn| turn.trial == trial)
                    .map(|turn| turn.contender)
                    .collect();
                seen.sort();
                let expected: Vec<_> = contenders
                    .iter()
                    .copied()
                    .filter(|it| it.runs(trial))
                    .collect();
                assert_eq!(seen, expected, "{trial}");
            }
        }
    }

    #[test]
    fn a_trials_order_turns_round_and_then_changes() {
        let trial = Trial::ALL[0];
        let orders: Vec<Vec<_>> = rounds(&[trial], &Contender::ALL, 4, 1)
            .into_iter()
            .map(|turns| turns.into_iter().map(|turn| turn.contender).collect())
            .collect();
        let reversed: Vec<_> = orders[0].iter().rev().copied().collect();
        assert_eq!(orders[1], reversed);
        assert_ne!(orders[2], orders[0]);
        assert_ne!(orders[2], orders[1]);
    }

    #[test]
    fn a_seed_repeats_the_order() {
        let of = |seed| rounds(&Trial::ALL, &Contender::ALL, 2, seed);
        assert_eq!(of(5), of(5));
        assert_ne!(of(5), of(6));
    }
}
