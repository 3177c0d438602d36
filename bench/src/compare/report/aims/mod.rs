//! What Underpass is to reach, and whether it did.

mod list;

use std::fmt;

use self::list::{AIMS, Aim};
use crate::compare::results::Results;
use crate::measure::statistics::{ENOUGH_ROUNDS, Estimate};

pub(super) use self::list::Limit;

/// What became of an aim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// The median meets it.
    Met,
    /// The median doesn't.
    Missed,
    /// Two like contenders differ too much to say.
    Noise,
    /// Whether they do is not known.
    NoiseUnknown,
    /// Too few rounds to say.
    FewRounds,
    /// One of the two did not take part, or the trial was not run.
    NotMeasured,
}

/// An aim and what was measured.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outcome {
    /// What was measured: `UDP 64 B`.
    pub what: &'static str,
    /// Of whom: `underpass / routes`.
    pub pair: String,
    pub limit: Limit,
    /// The ratio, where it was measured.
    pub ratio: Option<Estimate>,
    /// The ratio of two like contenders; none where the aim is not of contenders.
    pub noise: Option<Estimate>,
    pub judgement: Judgement,
}

/// What became of all aims.
pub(super) fn outcomes(results: &Results) -> Vec<Outcome> {
    AIMS.iter().map(|aim| aim.outcome(results)).collect()
}

impl Aim {
    fn outcome(&self, results: &Results) -> Outcome {
        let ratio = self.measure.ratio(results);
        let noise = self.measure.noise(results);
        Outcome {
            what: self.what,
            pair: self.measure.pair(),
            limit: self.limit,
            ratio,
            noise,
            judgement: match ratio {
                None => Judgement::NotMeasured,
                Some(ratio) if ratio.rounds < ENOUGH_ROUNDS => Judgement::FewRounds,
                Some(ratio) => match self.measure.doubt(results) {
                    Some(doubt) => doubt,
                    None if self.limit.allows(ratio.median) => Judgement::Met,
                    None => Judgement::Missed,
                },
            },
        }
    }
}

impl Outcome {
    /// Whether the whole interval meets the aim; nothing where it is not judged.
    pub fn whole_interval(&self) -> Option<bool> {
        let judged = matches!(self.judgement, Judgement::Met | Judgement::Missed);
        let [low, high] = self.ratio.filter(|_| judged)?.interval;
        Some(self.limit.allows(low) && self.limit.allows(high))
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Met => "met",
            Self::Missed => "missed",
            Self::Noise => "not told (noise)",
            Self::NoiseUnknown => "noise unknown",
            Self::FewRounds => "too few rounds",
            Self::NotMeasured => "not measured",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::contender::Contender;
    use crate::compare::report::{testing, trial};
    use crate::compare::trial::{Target, Traffic};

    fn judged(results: &Results, what: &str, pair: &str) -> Outcome {
        let mut outcomes = outcomes(results).into_iter();
        let found = outcomes.find(|it| (it.what, it.pair.as_str()) == (what, pair));
        found.unwrap_or_else(|| panic!("no aim {what}, {pair}"))
    }

    #[test]
    fn the_median_decides_and_the_interval_is_told() {
        let results = testing::results();
        let stream = judged(&results, "TCP stream", "underpass / node");
        assert_eq!(stream.judgement, Judgement::Met);
        assert!((stream.ratio.unwrap().median - 0.976).abs() < 0.01);
        assert!(stream.noise.is_some());
        let packets = judged(&results, "UDP 64 B", "underpass / routes");
        assert_eq!(packets.judgement, Judgement::Missed);
        assert_eq!(packets.whole_interval(), Some(false));
        let missed = outcomes(&results).into_iter();
        let missed = missed.filter(|it| it.judgement == Judgement::Missed);
        assert_eq!(missed.count(), 3);
    }

    #[test]
    fn of_some_less_is_better() {
        let results = testing::results();
        for (what, pair) in [
            ("request p50", "underpass / node"),
            ("CPU per gigabit", "underpass / routes-proxied"),
            ("from_pod, fast packet", "5000 routes / 10 routes"),
        ] {
            let outcome = judged(&results, what, pair);
            assert_eq!(outcome.judgement, Judgement::Met, "{what}");
            assert_eq!(outcome.whole_interval(), Some(true), "{what}");
        }
        let inverse = judged(
            &results,
            "Service, request p50",
            "routes-proxied / underpass",
        );
        assert!(inverse.ratio.unwrap().median > 1.4);
    }

    #[test]
    fn an_interval_may_reach_over_the_limit() {
        let estimate = |low, median, high| Outcome {
            ratio: Some(Estimate {
                median,
                interval: [low, high],
                rounds: 7,
            }),
            judgement: Judgement::Met,
            ..judged(&testing::results(), "UDP 64 B", "underpass / routes")
        };
        assert_eq!(estimate(1.29, 1.31, 1.4).whole_interval(), Some(false));
        assert_eq!(estimate(1.30, 1.31, 1.4).whole_interval(), Some(true));
    }

    #[test]
    fn what_cannot_be_told_is_not() {
        let told = |results: &Results| judged(results, "TCP stream", "underpass / node").judgement;
        let mut noisy = testing::results();
        testing::make_noisy(&mut noisy, trial(Traffic::Streams(1), Target::Peer));
        assert_eq!(told(&noisy), Judgement::Noise);
        let mut few = testing::results();
        few.samples.retain(|it| it.round < ENOUGH_ROUNDS);
        assert_eq!(told(&few), Judgement::FewRounds);
        let mut alone = testing::results();
        testing::remove(&mut alone, Contender::RoutesTwin);
        assert_eq!(told(&alone), Judgement::NoiseUnknown);
        let mut missing = testing::results();
        testing::remove(&mut missing, Contender::Node);
        missing.datapath = None;
        assert_eq!(told(&missing), Judgement::NotMeasured);
        let growth = judged(&missing, "from_pod, fast packet", "5000 routes / 10 routes");
        assert_eq!(growth.judgement, Judgement::NotMeasured);
    }
}
