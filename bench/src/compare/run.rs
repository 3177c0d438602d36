//! A whole comparison, from raising the clusters to the results.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Error, Result, bail, ensure};

use super::contender::Contender;
use super::course::{Outcome, Pace};
use super::datapath::{self, DatapathOptions};
use super::machine::{self, MOST_BUSY};
use super::results::{FORM, Results, Sample, Setup};
use super::schedule::{self, Turn};
use super::stage::Stage;
use super::trial::Trial;
use crate::interrupt;
use crate::measure::{cpu, kernel_release};

/// What a turn takes beyond its trial's seconds: starting the tools, and ending them.
const AROUND: Duration = Duration::from_millis(350);

/// What to compare, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program `underpass`.
    pub underpass: PathBuf,
    /// Who takes part.
    pub contenders: Vec<Contender>,
    /// What is run.
    pub trials: Vec<Trial>,
    /// How often.
    pub rounds: usize,
    /// How often these are run instead.
    pub rounds_of: BTreeMap<Trial, usize>,
    /// Seconds of each trial.
    pub seconds: u64,
    /// Services of the proxied contenders, besides the one that is used.
    pub services: u16,
    /// Packets per second of the paced trials.
    pub paced_rate: u32,
    /// The sending ends' CPU; the first where none is said.
    pub client_cpu: Option<usize>,
    /// The receiving ends' CPU; the second, where there is one.
    pub server_cpu: Option<usize>,
    /// Seed of the order.
    pub seed: u64,
    /// Measure the programs alone, too.
    pub datapath: bool,
    /// Fewer routes there.
    pub quick: bool,
    /// Go on though others keep the machine busy.
    pub despite_noise: bool,
}

impl Options {
    /// Each trial, and how often it is run.
    fn each_with_rounds(&self) -> Vec<(Trial, usize)> {
        let rounds = |trial| self.rounds_of.get(trial).copied().unwrap_or(self.rounds);
        let trials = self.trials.iter();
        trials.map(|trial| (*trial, rounds(trial))).collect()
    }
}

/// From now on Ctrl-C and SIGTERM stop a run at its next turn, and everything is taken down.
///
/// # Errors
/// When signals cannot be caught.
pub fn catch_interrupts() -> Result<()> {
    interrupt::catch()
}

/// Runs it all. Interrupted after a whole round it ends with what it has.
///
/// # Errors
/// Where this is not root, the machine lacks something or is not quiet, a contender is not what its name says, or
/// nothing could be measured.
pub fn run(options: &Options) -> Result<Results> {
    let busy_before = machine::busy()?;
    ensure!(
        busy_before <= MOST_BUSY || options.despite_noise,
        "others keep {busy_before:.2} CPUs busy, and more than {MOST_BUSY} would show in every figure: end them, or \
         add --despite-noise to see figures all the same"
    );
    let setup = setup(options, busy_before)?;
    let mut progress = Progress::new();
    let mut results = Results {
        form: FORM,
        setup,
        samples: Vec::new(),
        failures: Vec::new(),
        repeated: Vec::new(),
        agents: Vec::new(),
        datapath: None,
    };
    if options.datapath {
        let alone = DatapathOptions {
            quick: options.quick,
            seed: options.seed,
            ..DatapathOptions::default()
        };
        let measured = datapath::measure(&options.underpass, &alone, &mut |what| {
            progress.tell(&format!("programs alone: {what}"));
        })?;
        results.datapath = Some(measured);
    }
    if !options.trials.is_empty() {
        race(options, &mut results, &mut progress)?;
    }
    progress.clear();
    Ok(results)
}

fn setup(options: &Options, busy_before: f64) -> Result<Setup> {
    let cpus = cpu::ours()?;
    let first = *cpus.first().context("no CPU is ours")?;
    let client_cpu = options.client_cpu.unwrap_or(first);
    let another = || cpus.iter().copied().find(|cpu| *cpu != client_cpu);
    let server_cpu = options.server_cpu.or_else(another).unwrap_or(first);
    for cpu in [client_cpu, server_cpu] {
        ensure!(
            cpus.contains(&cpu),
            "CPU {cpu} is none of this process's: it has {cpus:?}"
        );
    }
    let trials = options.each_with_rounds();
    let most_rounds = trials.iter().map(|(_, rounds)| *rounds).max();
    let most_rounds = most_rounds.unwrap_or(options.rounds);
    Ok(Setup {
        began: machine::now(),
        commit: machine::commit(),
        processor: machine::processor(),
        cpus: cpus.len(),
        memory: machine::memory(),
        kernel: kernel_release()?,
        tools: machine::tools(),
        busy_before,
        contenders: options.contenders.iter().map(ToString::to_string).collect(),
        trials: options.trials.iter().map(ToString::to_string).collect(),
        rounds: most_rounds,
        rounds_of: trials
            .iter()
            .filter(|(_, rounds)| *rounds < most_rounds)
            .map(|(trial, rounds)| (trial.name(), *rounds))
            .collect(),
        seconds: options.seconds,
        seed: options.seed,
        services: options.services,
        paced_rate: options.paced_rate,
        client_cpu,
        server_cpu,
    })
}

/// All trials of all contenders, in turns.
fn race(options: &Options, results: &mut Results, progress: &mut Progress) -> Result<()> {
    let stage = Stage::raise(options, |what| progress.tell(&what))?;
    let pace = Pace {
        seconds: options.seconds,
        paced_rate: options.paced_rate,
        client_cpu: results.setup.client_cpu,
        server_cpu: results.setup.server_cpu,
    };
    stage.prove(options, &pace, |what| progress.tell(&what))?;
    let rounds = schedule::rounds(
        &options.each_with_rounds(),
        &options.contenders,
        options.seed,
    );
    let number_of_rounds = rounds.len();
    let turns: usize = rounds.iter().map(Vec::len).sum();
    let mut clock = Clock::start(turns, Duration::from_secs(options.seconds) + AROUND);
    for (round, turns) in (1..).zip(rounds) {
        for (place, turn) in (1..).zip(turns) {
            if interrupt::asked() {
                return stop(results, round);
            }
            let Turn { trial, contender } = turn;
            progress.tell(&format!(
                "round {round} of {number_of_rounds}, {contender}: {trial}, {}",
                clock.left()
            ));
            let at = format!("round {round}, {contender}, {trial}");
            match twice(&stage, turn, &pace) {
                Ok((outcome, first)) => {
                    results.samples.push(sample(round, place, turn, outcome));
                    if let Some(first) = first {
                        let what = format!("{at}: the first attempt: {first:#}");
                        results.repeated.push(what);
                    }
                }
                Err(error) => {
                    let failure = format!("{at}: {error:#}");
                    progress.keep(&format!("failed: {failure}"));
                    results.failures.push(failure);
                }
            }
            clock.done();
        }
        results.setup.rounds = round;
    }
    ensure!(
        !results.samples.is_empty(),
        "nothing could be measured: {:?}",
        results.failures
    );
    match stage.memory() {
        Ok(agents) => results.agents = agents,
        // After half an hour that is no reason to lose the rest.
        Err(error) => {
            let failure = format!("memory of the agents: {error:#}");
            results.failures.push(failure);
        }
    }
    Ok(())
}

/// Asked to stop: what whole rounds have brought is kept.
fn stop(results: &mut Results, round: usize) -> Result<()> {
    results.samples.retain(|sample| sample.round < round);
    results.setup.rounds = round - 1;
    interrupt::check().or_else(|stopped| match round {
        1 => Err(stopped),
        _ => Ok(()),
    })
}

/// One turn; a second attempt where the first fails, for a run takes long. Why it failed is told, too.
fn twice(stage: &Stage, turn: Turn, pace: &Pace) -> Result<(Outcome, Option<Error>)> {
    let once = || {
        let outcome = stage.run(turn, pace)?;
        for figure in turn.trial.figures() {
            if !outcome.figures.get(figure).is_some_and(|it| it.is_finite()) {
                bail!("it yields no {}", figure.title());
            }
        }
        Ok(outcome)
    };
    match once() {
        Ok(outcome) => Ok((outcome, None)),
        Err(first) => {
            let outcome = once().with_context(|| format!("after {first:#}"))?;
            Ok((outcome, Some(first)))
        }
    }
}

fn sample(round: usize, turn_number: usize, turn: Turn, outcome: Outcome) -> Sample {
    Sample {
        round,
        turn: turn_number,
        trial: turn.trial.name(),
        contender: turn.contender.name().to_owned(),
        figures: outcome.figures,
        latencies: outcome.latencies,
        stolen: outcome.stolen,
    }
}

/// How much longer it takes.
struct Clock {
    begin: Instant,
    done: u32,
    turns: u32,
    guess: Duration,
}

impl Clock {
    fn start(turns: usize, guess: Duration) -> Self {
        Self {
            begin: Instant::now(),
            done: 0,
            turns: u32::try_from(turns).unwrap_or(u32::MAX),
            guess,
        }
    }

    fn done(&mut self) {
        self.done += 1;
    }

    fn left(&self) -> String {
        let each = match self.done {
            0 => self.guess,
            done => self.begin.elapsed() / done,
        };
        let minutes = (each * (self.turns - self.done)).as_secs().div_ceil(60);
        format!("{minutes} min left")
    }
}

/// Signs of life on standard error: one line that is written over on a terminal; elsewhere one line a minute.
/// Written between measurements only.
struct Progress {
    is_terminal: bool,
    last: Option<Instant>,
}

impl Progress {
    fn new() -> Self {
        Self {
            is_terminal: io::stderr().is_terminal(),
            last: None,
        }
    }

    fn tell(&mut self, what: &str) {
        if self.is_terminal {
            let what: String = what.chars().take(79).collect();
            let _ = write!(io::stderr(), "\r\x1b[K{what}");
        } else if self
            .last
            .is_none_or(|last| last.elapsed() >= Duration::from_secs(60))
        {
            let _ = writeln!(io::stderr(), "{what}");
            self.last = Some(Instant::now());
        }
    }

    /// A line that stays.
    fn keep(&mut self, what: &str) {
        self.clear();
        let _ = writeln!(io::stderr(), "{what}");
    }

    fn clear(&mut self) {
        if self.is_terminal {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_follows_what_it_took() {
        let mut clock = Clock::start(100, Duration::from_secs(3));
        assert_eq!(clock.left(), "5 min left");
        clock.done();
        // The turn took no time at all, and so will the others.
        assert_eq!(clock.left(), "0 min left");
    }
}
