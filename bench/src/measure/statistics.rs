//! Medians, their spread, and what may be called a difference.

use anyhow::{Context, Result};
use serde::Serialize;

use crate::random::Random;

/// The same figure, taken several times.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    /// Half of them are lower.
    pub median: f64,
    /// The spread: a quarter of them are lower than the first of these, a quarter higher than the
    /// second. A single disturbance doesn't move it, as it would move the extremes.
    pub middle_half: [f64; 2],
    /// All of them, in the order in which they were taken.
    pub values: Vec<f64>,
}

impl Summary {
    /// # Errors
    /// Where there is none.
    pub fn of(values: Vec<f64>) -> Result<Self> {
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |part| quantile(&sorted, part).context("nothing was measured");
        Ok(Self {
            median: at(0.5)?,
            middle_half: [at(0.25)?, at(0.75)?],
            values,
        })
    }

    /// `these` by `those`, round by round: what disturbs a whole round falls out.
    pub fn ratio(these: &Self, those: &Self) -> Result<Self> {
        let pairs = these.values.iter().zip(&those.values);
        Self::of(pairs.map(|(this, that)| this / that).collect())
    }
}

/// The value that this part of all is lower than; between two of them, in proportion.
fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    let position = part * sorted.len().checked_sub(1)? as f64;
    let below = sorted.get(position.floor() as usize)?;
    let above = sorted.get(position.ceil() as usize)?;
    Some(below + (above - below) * position.fract())
}

/// What the ratio of two contenders comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// More than the noise, in the good direction.
    Better,
    /// More than the noise, in the bad direction.
    Worse,
    /// Two like contenders differ as much.
    WithinNoise,
    /// Too few rounds, or too much noise, to say anything.
    NotJudged,
}

/// Fewer rounds than these prove nothing.
pub(crate) const ENOUGH_ROUNDS: usize = 5;

/// A difference counts only where its middle half doesn't touch the middle half of `noise`, which is
/// the ratio of two like contenders.
pub(crate) fn judge(ratio: &Summary, noise: &Summary, more_is_better: bool) -> Verdict {
    if ratio.values.len().min(noise.values.len()) < ENOUGH_ROUNDS {
        return Verdict::NotJudged;
    }
    let more = ratio.middle_half[0] > noise.middle_half[1].max(1.0);
    let less = ratio.middle_half[1] < noise.middle_half[0].min(1.0);
    match (more, less) {
        (false, false) => Verdict::WithinNoise,
        (more, _) if more == more_is_better => Verdict::Better,
        _ => Verdict::Worse,
    }
}

/// A median, and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Median.
    pub median: f64,
    /// Its interval, 95 %: by bootstrap (percentiles of the medians of resampled rounds), and nowhere narrower than the
    /// exact one. Of few rounds the bootstrap leaves out the extremes too readily: of seven it covers 87 %.
    pub interval: [f64; 2],
    /// How many rounds it is made of.
    pub rounds: usize,
}

/// How often rounds are resampled.
const RESAMPLES: usize = 2000;
/// Any would do; another one moves the intervals a little.
const RESAMPLING_SEED: u64 = 0xbb72_8d28_3026_a108;

impl Estimate {
    /// Of values, one a round; `None` where there is none, or one is no number. The same values always give the
    /// same interval.
    pub fn of(values: &[f64]) -> Option<Self> {
        if values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        let mut random = Random::new(RESAMPLING_SEED);
        let mut draw = || values[random.below(values.len())];
        let median = median(values.to_vec())?;
        let mut medians = Vec::with_capacity(RESAMPLES);
        for _ in 0..RESAMPLES {
            medians.extend(self::median(values.iter().map(|_| draw()).collect()));
        }
        medians.sort_by(f64::total_cmp);
        let [low, high] = exact_interval(values)?;
        Some(Self {
            median,
            interval: [
                quantile(&medians, 0.025)?.min(low),
                quantile(&medians, 0.975)?.max(high),
            ],
            rounds: values.len(),
        })
    }

    /// The wider side of the interval, as a share of the median.
    pub fn spread(&self) -> f64 {
        let [low, high] = self.interval;
        (high - self.median).max(self.median - low) / self.median.abs()
    }
}

/// The narrowest pair of values, equally far from both ends, that holds the median of what they were drawn from with a
/// probability of 95 % at least: how many of them are lower is binomially distributed. Of fewer than six values not
/// even the extremes hold it so surely.
fn exact_interval(values: &[f64]) -> Option<[f64; 2]> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (mut left_out, mut probability, mut tail) = (0, 0.5_f64.powf(sorted.len() as f64), 0.0);
    loop {
        tail += probability;
        if tail > 0.025 {
            break;
        }
        left_out += 1;
        probability *= (sorted.len() - left_out + 1) as f64 / left_out as f64;
    }
    // `tail` is of `left_out` values or fewer: one of those stays in.
    let outermost = left_out.saturating_sub(1);
    let last = sorted.len().checked_sub(1)?;
    Some([*sorted.get(outermost)?, *sorted.get(last - outermost)?])
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    quantile(&values, 0.5)
}

/// A difference that is no difference to anybody, however sure: a sender that keeps its rate loses a packet or none.
const NOTHING: f64 = 0.005;

/// A difference counts only where the ratio's interval lies outside the interval of `noise`, the ratio of two
/// like contenders, outside of what the noise would be the other way round, and further from 1 than [`NOTHING`].
pub fn judge_estimates(ratio: Estimate, noise: Estimate, more_is_better: bool) -> Verdict {
    if ratio.rounds.min(noise.rounds) < ENOUGH_ROUNDS {
        return Verdict::NotJudged;
    }
    // Which of the two likes is called the first is chance.
    let [low, high] = noise.interval;
    let (low, high) = (
        low.min(1.0 / high).min(1.0 - NOTHING),
        high.max(1.0 / low).max(1.0 + NOTHING),
    );
    let (more, less) = (ratio.interval[0] > high, ratio.interval[1] < low);
    match (more, less) {
        (false, false) => Verdict::WithinNoise,
        (more, _) if more == more_is_better => Verdict::Better,
        _ => Verdict::Worse,
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
        let odd = summary(&[3.0, 1.0, 9.0, 2.0, 5.0]);
        assert_eq!((odd.median, odd.middle_half), (3.0, [2.0, 5.0]));
        assert_eq!(summary(&[4.0, 1.0, 2.0, 9.0]).median, 3.0);
        let one = summary(&[7.0]);
        assert_eq!((one.median, one.middle_half), (7.0, [7.0, 7.0]));
        assert!(Summary::of(Vec::new()).is_err());
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let ratio = Summary::ratio(&summary(&[2.0, 8.0]), &summary(&[1.0, 2.0])).unwrap();
        assert_eq!(ratio.values, [2.0, 4.0]);
    }

    #[test]
    fn a_difference_within_the_noise_is_none() {
        let noise = summary(&[0.5, 0.97, 1.0, 1.03, 1.5]);
        let judged = |values: [f64; 5], more| judge(&summary(&values), &noise, more);
        assert_eq!(judged([1.03; 5], true), Verdict::WithinNoise);
        assert_eq!(judged([0.97; 5], true), Verdict::WithinNoise);
        assert_eq!(judged([1.2; 5], true), Verdict::Better);
        assert_eq!(judged([0.8; 5], true), Verdict::Worse);
        assert_eq!(judged([0.8; 5], false), Verdict::Better);
        assert_eq!(judged([1.2; 5], false), Verdict::Worse);
        let wide = [0.9, 1.0, 1.2, 1.3, 1.4];
        assert_eq!(judged(wide, true), Verdict::WithinNoise);
    }

    #[test]
    fn noise_on_one_side_excuses_no_loss() {
        let noise = summary(&[1.1; 5]);
        assert_eq!(
            judge(&summary(&[1.05; 5]), &noise, true),
            Verdict::WithinNoise
        );
        assert_eq!(judge(&summary(&[0.95; 5]), &noise, true), Verdict::Worse);
    }

    #[test]
    fn a_few_rounds_are_not_judged() {
        let (ratio, noise) = (summary(&[2.0; 4]), summary(&[1.0; 4]));
        assert_eq!(judge(&ratio, &noise, true), Verdict::NotJudged);
    }

    #[test]
    fn an_interval_holds_the_median_and_tells_the_spread() {
        let steady = Estimate::of(&[10.0; 7]).unwrap();
        assert_eq!((steady.median, steady.interval), (10.0, [10.0, 10.0]));
        let wide = Estimate::of(&[8.0, 9.0, 10.0, 11.0, 12.0, 7.0, 13.0]).unwrap();
        assert_eq!((wide.median, wide.interval), (10.0, [7.0, 13.0]));
        assert_eq!(wide.spread(), 0.3);
        assert_eq!(Estimate::of(&[]), None);
        assert_eq!(Estimate::of(&[1.0, f64::NAN]), None);
    }

    /// As in tables of the sign test's interval.
    #[test]
    fn the_exact_interval_leaves_out_what_it_may() {
        let left_out = |rounds: u32| {
            let values: Vec<_> = (0..rounds).map(f64::from).collect();
            let [low, high] = exact_interval(&values).unwrap();
            assert_eq!(low, f64::from(rounds - 1) - high);
            low
        };
        let of_rounds = [1, 5, 6, 8, 9, 11, 12, 20, 40].map(left_out);
        assert_eq!(of_rounds, [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 2.0, 5.0, 13.0]);
    }

    #[test]
    fn a_ratio_is_judged_by_the_noise_both_ways() {
        let estimate = |median, low, high| Estimate {
            median,
            interval: [low, high],
            rounds: 7,
        };
        let noise = estimate(1.02, 0.99, 1.05);
        let judged = |low: f64, high: f64| {
            judge_estimates(estimate(low.midpoint(high), low, high), noise, true)
        };
        assert_eq!(judged(1.04, 1.3), Verdict::WithinNoise);
        assert_eq!(judged(1.06, 1.3), Verdict::Better);
        // 1 / 1.05 is 0.952.
        assert_eq!(judged(0.90, 0.96), Verdict::WithinNoise);
        assert_eq!(judged(0.90, 0.95), Verdict::Worse);
        let sure = estimate(1.0, 1.0, 1.0);
        let by_sure = |low, high| judge_estimates(estimate(low, low, high), sure, true);
        assert_eq!(by_sure(0.996, 0.999), Verdict::WithinNoise);
        assert_eq!(by_sure(0.97, 0.99), Verdict::Worse);
        let few = Estimate {
            rounds: 4,
            ..estimate(2.0, 2.0, 2.0)
        };
        assert_eq!(judge_estimates(few, noise, true), Verdict::NotJudged);
    }
}
