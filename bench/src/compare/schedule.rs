//! Who has which turn: A B B A, in an order that chance chooses.

use super::contender::Contender;
use super::trial::Trial;
use crate::random::Random;

/// One turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// What is run.
    pub trial: Trial,
    /// By whom.
    pub contender: Contender,
}

/// The turns of all rounds. Each trial has so many of them, evenly spread over the whole. In every second of its rounds
/// a trial's contenders take turns in the order that is the reverse of the one before, so that whatever grows or fades
/// meanwhile falls on all alike.
pub fn rounds(trials: &[(Trial, usize)], contenders: &[Contender], seed: u64) -> Vec<Vec<Turn>> {
    let mut random = Random::new(seed);
    let mut orders: Vec<Vec<Contender>> = vec![contenders.to_vec(); trials.len()];
    let rounds = trials.iter().map(|(_, rounds)| *rounds).max();
    let rounds = rounds.unwrap_or_default();
    let mut all = Vec::with_capacity(rounds);
    for round in 0..rounds {
        // How many of its rounds a trial has had before this one, and has with it.
        let had = |of: usize, round: usize| round * of / rounds;
        let mut places: Vec<_> = (0..trials.len())
            .filter(|&place| had(trials[place].1, round) < had(trials[place].1, round + 1))
            .collect();
        for &place in &places {
            if had(trials[place].1, round) % 2 == 0 {
                random.shuffle(&mut orders[place]);
            } else {
                orders[place].reverse();
            }
        }
        random.shuffle(&mut places);
        let turns = places.into_iter().flat_map(|place| {
            let (trial, _) = trials[place];
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
        let contenders = &Contender::ALL[..];
        for turns in rounds(&Trial::ALL.map(|it| (it, 3)), contenders, 7) {
            for trial in Trial::ALL {
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
        let orders: Vec<Vec<_>> = rounds(&[(trial, 4)], &Contender::ALL, 1)
            .into_iter()
            .map(|turns| turns.into_iter().map(|turn| turn.contender).collect())
            .collect();
        let reversed: Vec<_> = orders[0].iter().rev().copied().collect();
        assert_eq!(orders[1], reversed);
        assert_ne!(orders[2], orders[0]);
        assert_ne!(orders[2], orders[1]);
    }

    #[test]
    fn a_trial_with_fewer_rounds_has_them_all_over_the_run() {
        let (rare, often) = (Trial::ALL[0], Trial::ALL[3]);
        let contenders = [Contender::Routes, Contender::Underpass];
        let all = rounds(&[(rare, 4), (often, 12)], &contenders, 1);
        let turns = |trial| -> Vec<usize> {
            let of = |turns: &Vec<Turn>| turns.iter().filter(|it| it.trial == trial).count();
            all.iter().map(of).collect()
        };
        assert_eq!(turns(often), [2; 12]);
        assert_eq!(turns(rare), [0, 0, 2, 0, 0, 2, 0, 0, 2, 0, 0, 2]);
        let order = |round: usize| {
            let of_it = all[round].iter().filter(|it| it.trial == rare);
            of_it.map(|it| it.contender).collect::<Vec<_>>()
        };
        let mut reversed = order(2);
        reversed.reverse();
        assert_eq!(order(5), reversed);
    }

    #[test]
    fn a_seed_repeats_the_order() {
        let of = |seed| rounds(&Trial::ALL.map(|it| (it, 2)), &Contender::ALL, seed);
        assert_eq!(of(5), of(5));
        assert_ne!(of(5), of(6));
    }
}
