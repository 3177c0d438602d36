//! Medians, their spread, and what may be called a difference.

use anyhow::{Context, Result};
use serde::Serialize;

/// The same figure, taken several times.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Summary {
    /// Half of them are lower.
    pub median: f64,
    /// The lowest.
    pub lowest: f64,
    /// The highest.
    pub highest: f64,
    /// All of them, in the order in which they were taken.
    pub values: Vec<f64>,
}

impl Summary {
    /// # Errors
    /// Where there is none.
    pub fn of(values: Vec<f64>) -> Result<Self> {
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        let lowest = *sorted.first().context("nothing was measured")?;
        let middle = sorted.len() / 2;
        Ok(Self {
            median: if sorted.len() % 2 == 1 {
                sorted[middle]
            } else {
                (sorted[middle - 1] + sorted[middle]) / 2.0
            },
            lowest,
            highest: sorted[sorted.len() - 1],
            values,
        })
    }

    /// `these` by `those`, round by round: what disturbs a whole round falls out.
    pub fn ratio(these: &Self, those: &Self) -> Result<Self> {
        let pairs = these.values.iter().zip(&those.values);
        Self::of(pairs.map(|(this, that)| this / that).collect())
    }

    /// How far the farthest value is from 1.
    pub fn farthest_from_one(&self) -> f64 {
        (self.highest - 1.0).max(1.0 - self.lowest)
    }
}

/// What the ratio of two contenders comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// More than the noise, in the good direction.
    Better,
    /// More than the noise, in the bad direction.
    Worse,
    /// Two like contenders differ as much.
    WithinNoise,
    /// Too few rounds to say anything.
    NotJudged,
}

/// Fewer rounds than these prove nothing.
pub(super) const ENOUGH_ROUNDS: usize = 5;

/// A difference counts only where its median is larger than every difference that two like
/// contenders ever showed.
pub(super) fn judge(ratio: &Summary, noise: &Summary, more_is_better: bool) -> Verdict {
    if ratio.values.len() < ENOUGH_ROUNDS || noise.values.len() < ENOUGH_ROUNDS {
        return Verdict::NotJudged;
    }
    let difference = ratio.median - 1.0;
    if difference.abs() <= noise.farthest_from_one() {
        Verdict::WithinNoise
    } else if (difference > 0.0) == more_is_better {
        Verdict::Better
    } else {
        Verdict::Worse
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(values: &[f64]) -> Summary {
        Summary::of(values.to_vec()).unwrap()
    }

    #[test]
    fn a_median_stands_in_the_middle() {
        let odd = summary(&[3.0, 1.0, 9.0]);
        assert_eq!((odd.lowest, odd.median, odd.highest), (1.0, 3.0, 9.0));
        assert_eq!(summary(&[4.0, 1.0, 2.0, 9.0]).median, 3.0);
        assert!(Summary::of(Vec::new()).is_err());
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let ratio = Summary::ratio(&summary(&[2.0, 8.0]), &summary(&[1.0, 2.0])).unwrap();
        assert_eq!(ratio.values, [2.0, 4.0]);
    }

    #[test]
    fn a_difference_within_the_noise_is_none() {
        let noise = summary(&[0.95, 1.0, 1.0, 1.02, 1.04]);
        let judged = |ratio: f64, more| judge(&summary(&[ratio; 5]), &noise, more);
        assert_eq!(judged(1.04, true), Verdict::WithinNoise);
        assert_eq!(judged(0.96, true), Verdict::WithinNoise);
        assert_eq!(judged(1.2, true), Verdict::Better);
        assert_eq!(judged(0.8, true), Verdict::Worse);
        assert_eq!(judged(0.8, false), Verdict::Better);
    }

    #[test]
    fn a_few_rounds_are_not_judged() {
        let (ratio, noise) = (summary(&[2.0; 4]), summary(&[1.0; 4]));
        assert_eq!(judge(&ratio, &noise, true), Verdict::NotJudged);
    }
}
