//! All that was measured, as `report.json` holds it, and what follows from it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::contender::Contender;
use super::figure::Figure;
use super::trial::Trial;
use crate::measure::statistics::{Estimate, Verdict, judge_estimates};

/// The version of `report.json`'s form; raised when a field changes its meaning or goes.
pub const FORM: u32 = 1;

/// A whole run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Results {
    /// [`FORM`].
    pub form: u32,
    /// Where and how.
    pub setup: Setup,
    /// Each trial of each contender in each round, in the order in which they were run.
    pub samples: Vec<Sample>,
    /// What could not be measured, in words.
    #[serde(default)]
    pub failures: Vec<String>,
    /// Turns that failed at first and were run again, with the reason, in words.
    #[serde(default)]
    pub repeated: Vec<String>,
    /// What the agents took.
    pub agents: Vec<AgentMemory>,
    /// The programs alone.
    pub datapath: Option<Datapath>,
}

/// Where and how it was measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Setup {
    /// When it began, in UTC: `2026-11-26 12:00`.
    pub began: String,
    /// Commit of the sources, with `-dirty` where they differ from it; empty where git is missing.
    pub commit: String,
    /// The machine's processors: model name.
    pub processor: String,
    /// How many CPUs it has.
    pub cpus: usize,
    /// Memory in bytes.
    pub memory: u64,
    /// Kernel release.
    pub kernel: String,
    /// Versions of the tools, by name.
    pub tools: BTreeMap<String, String>,
    /// How busy others kept the machine before it began, in CPUs.
    pub busy_before: f64,
    /// Contenders, in the order of the report.
    pub contenders: Vec<String>,
    /// Trials, in the order of the report.
    pub trials: Vec<String>,
    /// Rounds.
    pub rounds: usize,
    /// Trials that were not run in all of them, and in how many they were.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rounds_of: BTreeMap<String, usize>,
    /// Seconds of each trial.
    pub seconds: u64,
    /// Seed of the order.
    pub seed: u64,
    /// Services of the proxied contenders.
    pub services: u16,
    /// Packets per second of the paced trials.
    pub paced_rate: u32,
    /// CPUs of the sending ends and, on veth, of the nodes' softirq, which runs where the packet was sent.
    pub client_cpu: usize,
    /// CPUs of the receiving ends.
    pub server_cpu: usize,
}

/// One trial of one contender.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// From 1.
    pub round: usize,
    /// Which turn it had in its round, from 1.
    pub turn: usize,
    /// Name of the trial.
    pub trial: String,
    /// Name of the contender.
    pub contender: String,
    /// What came out, in the units that [`Figure`] tells.
    pub figures: BTreeMap<Figure, f64>,
    /// Where latencies were measured: percentile (0 to 100) and microseconds, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub latencies: Vec<(f64, f64)>,
    /// The share of the machine's CPU time that others took meanwhile, whom the hypervisor gave it to: 0 to 1.
    #[serde(default)]
    pub stolen: f64,
}

/// An agent's memory after all trials.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AgentMemory {
    /// Name of the contender.
    pub contender: String,
    /// Resident bytes, of the largest of its agents.
    pub resident: u64,
    /// The most that were ever resident, likewise.
    pub peak: u64,
}

/// The BPF programs alone, by `BPF_PROG_TEST_RUN`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Datapath {
    /// How many different flows take turns.
    pub flows: usize,
    /// The programs' sizes.
    pub programs: Vec<ProgramSize>,
    /// What they take.
    pub costs: Vec<Cost>,
}

/// A program's size.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProgramSize {
    /// Name of the program.
    pub program: String,
    /// Instructions, before the JIT.
    pub instructions: u32,
    /// Bytes of machine code after the JIT.
    pub machine_code: u32,
    /// Instructions that the verifier walked through; 0: this kernel does not tell.
    pub verified: u32,
}

/// What a program takes for a packet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cost {
    /// Name of the program, and of the packets' case: `from_pod`, `confirmed`.
    pub program: String,
    /// The packets: `fast`, `miss`, ...
    pub case: String,
    /// Entries of the trie.
    pub routes: usize,
    /// Nanoseconds a packet, an empty program's subtracted; one value a round.
    pub nanoseconds: Vec<f64>,
}

/// One contender by another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// Median of the rounds' ratios, and its interval.
    pub estimate: Estimate,
    /// What may be said of it.
    pub verdict: Verdict,
}

impl Results {
    /// Values of a figure, one a round.
    pub fn values(&self, trial: Trial, contender: Contender, figure: Figure) -> Vec<f64> {
        let by_round = self.by_round(trial, contender, figure);
        by_round.into_values().collect()
    }

    /// Median of a figure, and its interval; `None` where it was not measured.
    pub fn estimate(&self, trial: Trial, contender: Contender, figure: Figure) -> Option<Estimate> {
        Estimate::of(&self.values(trial, contender, figure))
    }

    /// `these` by `those`, round by round, judged by the noise. `None` where one of them was not measured.
    pub fn ratio(
        &self,
        trial: Trial,
        figure: Figure,
        these: Contender,
        those: Contender,
    ) -> Option<Ratio> {
        let estimate = self.paired(trial, figure, these, those)?;
        let verdict = match self.noise(trial, figure) {
            Some(noise) if !is_too_noisy(noise) => {
                judge_estimates(estimate, noise, figure.more_is_better())
            }
            _ => Verdict::NotJudged,
        };
        Some(Ratio { estimate, verdict })
    }

    /// The ratio of the two like contenders. Where they did not take part in this trial, the noise of the trial like
    /// it, to the peer, is taken; none for packets in transit, which have wires of their own.
    pub fn noise(&self, trial: Trial, figure: Figure) -> Option<Estimate> {
        let twins = |trial| self.paired(trial, figure, Contender::RoutesTwin, Contender::Routes);
        let like_it = Trial {
            target: super::trial::Target::Peer,
            ..trial
        };
        let is_lent = trial.target != super::trial::Target::Transit;
        twins(trial).or_else(|| is_lent.then(|| twins(like_it)).flatten())
    }

    /// Whether two like contenders differ so much here that no difference between others can be told from noise.
    pub fn is_too_noisy(&self, trial: Trial, figure: Figure) -> bool {
        self.noise(trial, figure).is_some_and(is_too_noisy)
    }

    /// Trials that took place.
    pub fn trials(&self) -> Vec<Trial> {
        let was_run = |trial: &Trial| self.setup.trials.contains(&trial.name());
        Trial::ALL.into_iter().filter(was_run).collect()
    }

    /// Contenders that took part.
    pub fn contenders(&self) -> Vec<Contender> {
        let took_part = |it: &Contender| self.setup.contenders.iter().any(|name| name == it.name());
        Contender::ALL.into_iter().filter(took_part).collect()
    }

    fn paired(
        &self,
        trial: Trial,
        figure: Figure,
        these: Contender,
        those: Contender,
    ) -> Option<Estimate> {
        let these = self.by_round(trial, these, figure);
        let those = self.by_round(trial, those, figure);
        // A round that one of them lacks has no ratio, and must not shift the rounds after it.
        let ratios = these
            .iter()
            .filter_map(|(round, value)| Some(value / those.get(round)?));
        Estimate::of(&ratios.collect::<Vec<_>>())
    }

    fn by_round(&self, trial: Trial, contender: Contender, figure: Figure) -> BTreeMap<usize, f64> {
        let name = trial.name();
        self.samples
            .iter()
            .filter(|it| it.trial == name && it.contender == contender.name())
            .filter_map(|it| Some((it.round, *it.figures.get(&figure)?)))
            .collect()
    }
}

/// The widest interval of the noise, to either side of its median, as a share of it.
const WIDEST_NOISE: f64 = 0.15;

/// The furthest that the whole interval of the noise may lie from 1: more is no chance, but something that
/// favours one of two like contenders.
const FURTHEST_NOISE: f64 = 0.05;

/// Whether `noise`, the ratio of two like contenders, is too wide or too far off 1 to judge others by.
fn is_too_noisy(noise: Estimate) -> bool {
    let [low, high] = noise.interval;
    // Which of the two likes is called the first is chance.
    let is_off = low > 1.0 + FURTHEST_NOISE || high < 1.0 / (1.0 + FURTHEST_NOISE);
    noise.spread() > WIDEST_NOISE || is_off
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::report::testing;
    use crate::compare::trial::{Target, Traffic};

    const STREAM: Trial = Trial {
        traffic: Traffic::Streams(1),
        target: Target::Peer,
        offload: true,
    };

    fn estimate(low: f64, median: f64, high: f64) -> Estimate {
        Estimate {
            median,
            interval: [low, high],
            rounds: 7,
        }
    }

    #[test]
    fn noise_is_too_much_where_it_is_wide_or_lies_off() {
        assert!(!is_too_noisy(estimate(0.90, 1.0, 1.10)));
        assert!(!is_too_noisy(estimate(1.04, 1.06, 1.08)));
        assert!(!is_too_noisy(estimate(0.93, 0.94, 0.955)));
        assert!(is_too_noisy(estimate(0.99, 1.0, 1.16)));
        assert!(is_too_noisy(estimate(0.84, 1.0, 1.01)));
        assert!(is_too_noisy(estimate(1.06, 1.07, 1.08)));
        assert!(is_too_noisy(estimate(0.92, 0.93, 0.95)));
    }

    #[test]
    fn nothing_is_judged_by_too_much_noise() {
        let judged = |results: &Results| {
            let (these, those) = (Contender::Underpass, Contender::RoutesProxied);
            let ratio = results.ratio(STREAM, Figure::Throughput, these, those);
            ratio.unwrap().verdict
        };
        let mut results = testing::results();
        assert_eq!(judged(&results), Verdict::Better);
        assert!(!results.is_too_noisy(STREAM, Figure::Throughput));
        testing::make_noisy(&mut results, STREAM);
        assert!(results.is_too_noisy(STREAM, Figure::Throughput));
        assert_eq!(judged(&results), Verdict::NotJudged);
    }

    #[test]
    fn a_missing_round_shifts_no_other() {
        let mut results = testing::results();
        results.samples.retain(|it| {
            (it.round, it.contender.as_str(), it.trial.as_str()) != (2, "underpass", "tcp-stream")
        });
        for sample in &mut results.samples {
            // Rounds that differ much, and a ratio that is the same in each.
            let factor = match sample.contender.as_str() {
                "underpass" => 1.5,
                _ => 1.0,
            };
            let value = factor * (sample.round * sample.round) as f64;
            sample.figures.insert(Figure::Throughput, value);
        }
        let (these, those) = (Contender::Underpass, Contender::Routes);
        let ratio = results.ratio(STREAM, Figure::Throughput, these, those);
        let estimate = ratio.unwrap().estimate;
        assert_eq!((estimate.interval, estimate.rounds), ([1.5; 2], 6));
    }
}
