//! The agent's BPF programs alone: what each takes for a packet, without devices, drivers and stacks around it.
//!
//! The programs are the very ones that an agent has pinned, run by `BPF_PROG_TEST_RUN` in a node's namespace over the
//! agent's own maps, filled as is asked for. Before each packet the program `rotate` (in `bench/ebpf`) makes it another
//! flow's; what that takes with an empty program behind it is subtracted. What a redirected packet takes after the
//! program has said so is not in the figures.

mod cases;
mod packets;
mod runner;
mod stage;
mod world;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use self::cases::CASES;
use self::runner::{Candidate, Runner};
use self::stage::Stage;
use super::results::{Cost, Datapath};
use crate::interrupt;
use crate::measure::cpu;
use crate::random::Random;

/// Entries of the trie.
const ROUTES: [usize; 5] = [10, 100, 1000, 5000, 10_000];
/// The same where it shall be quick.
const FEW_ROUTES: [usize; 2] = [10, 1000];
/// Flows that take turns: a power of two.
const FLOWS: usize = 4096;

/// How often flows are put into the table before it counts. In a fresh one neighbouring flows are neighbours in
/// memory, too, and are there before they are needed; no table that is in use is like that.
const FILLINGS: usize = 3;

/// CPU time of a value.
const VALUE: Duration = Duration::from_millis(20);
/// The same where it shall be quick.
const QUICK_VALUE: Duration = Duration::from_millis(2);

const _: () = assert!(FLOWS.is_power_of_two() && FLOWS <= packets::MOST_FLOWS);
const _: () = assert!(ROUTES[ROUTES.len() - 1] <= packets::MOST_ROUTES);

/// How it is measured.
#[derive(Clone, Copy, Debug)]
pub struct DatapathOptions {
    /// Fewer sizes of the trie, and values of two milliseconds' work instead of twenty's.
    pub quick: bool,
    /// How often each case is measured.
    pub rounds: usize,
    /// Seed of the order of cases and of flows.
    pub seed: u64,
}

impl Default for DatapathOptions {
    fn default() -> Self {
        Self {
            quick: false,
            rounds: 9,
            seed: 1,
        }
    }
}

/// Measures the programs of the agent `underpass`. `progress` is told in words what comes next.
///
/// # Errors
/// No root; the agent does not start, or has another layout of its maps than this program; or a case takes another
/// path through its program than is meant.
pub fn measure(
    underpass: &Path,
    options: &DatapathOptions,
    progress: &mut dyn FnMut(String),
) -> Result<Datapath> {
    progress("datapath: a lab, and an agent in it".to_owned());
    let stage = Stage::new(underpass)?;
    let mut runner = Runner::new(&stage, FLOWS)?;
    let mut random = Random::new(options.seed);
    let mut results = Datapath {
        flows: FLOWS,
        programs: runner.sizes()?,
        costs: Vec::new(),
    };
    let sizes: &[usize] = if options.quick { &FEW_ROUTES } else { &ROUTES };
    progress("datapath: a flow table that has been in use".to_owned());
    for _ in 0..FILLINGS {
        let remotes = packets::remotes(sizes[0], FLOWS, &mut random);
        runner.fill(sizes[0], &remotes)?;
    }
    let mut rounds: BTreeMap<usize, Vec<Nanoseconds>> = BTreeMap::new();
    for (routes, numbers) in up_and_down(sizes, options.rounds) {
        let of_size = with_routes(
            &stage,
            &mut runner,
            routes,
            numbers,
            options,
            &mut random,
            progress,
        )
        .with_context(|| format!("datapath, {routes} routes"))?;
        rounds.entry(routes).or_default().extend(of_size);
    }
    for (routes, rounds) in &rounds {
        results.costs.extend(costs(*routes, rounds));
    }
    Ok(results)
}

/// Which sizes have which rounds: the first half from the smallest size to the largest, the others the other way
/// round, for the maps are not the same after they have been filled anew.
fn up_and_down(sizes: &[usize], rounds: usize) -> Vec<(usize, RangeInclusive<usize>)> {
    let half = rounds.div_ceil(2);
    let up = sizes.iter().map(|&routes| (routes, 1..=half));
    let down = sizes
        .iter()
        .rev()
        .map(|&routes| (routes, half + 1..=rounds));
    let all = up.chain(down);
    all.filter(|(_, numbers)| !numbers.is_empty()).collect()
}

/// These rounds with so many routes, each case proven before and after.
fn with_routes(
    stage: &Stage,
    runner: &mut Runner,
    routes: usize,
    numbers: RangeInclusive<usize>,
    options: &DatapathOptions,
    random: &mut Random,
    progress: &mut dyn FnMut(String),
) -> Result<Vec<Nanoseconds>> {
    progress(format!("datapath: {routes} routes, proving each case"));
    let packets = prepare(stage, runner, routes, options, random)?;
    let mut rounds = Vec::new();
    for round in numbers {
        let of = options.rounds;
        interrupt::check()?;
        progress(format!("datapath: {routes} routes, round {round} of {of}"));
        let order = there_and_back(random);
        rounds.push(inside(stage, || run_in_order(runner, &order, &packets))?);
    }
    inside(stage, || runner.prove()).context("after the rounds")?;
    Ok(rounds)
}

/// Fills maps and frames, proves each case, and tells how many packets make a value of each candidate.
fn prepare(
    stage: &Stage,
    runner: &mut Runner,
    routes: usize,
    options: &DatapathOptions,
    random: &mut Random,
) -> Result<Packets> {
    let remotes = packets::remotes(routes, FLOWS, random);
    runner.fill(routes, &remotes)?;
    let value = if options.quick { QUICK_VALUE } else { VALUE };
    inside(stage, || {
        runner.prove()?;
        let candidates = Candidate::all().into_iter();
        let packets = candidates.map(|candidate| {
            let few = 4 * FLOWS as u32;
            let took = runner.run(candidate, few)?.took;
            Ok((candidate, packets_in(value, took, few)))
        });
        packets.collect()
    })
}

/// Packets of each candidate that make one value.
type Packets = BTreeMap<Candidate, u32>;
/// Nanoseconds a packet, of each candidate.
type Nanoseconds = BTreeMap<Candidate, f64>;

/// How many packets take so long, where `few` took `took`: all flows equally often.
fn packets_in(value: Duration, took: Duration, few: u32) -> u32 {
    let share = value.as_secs_f64() / took.as_secs_f64().max(1e-9);
    let turns = (share * f64::from(few) / FLOWS as f64).round();
    // An hour's would fit, too.
    turns.clamp(1.0, 1e5) as u32 * FLOWS as u32
}

/// All candidates in an order of chance, and then the other way round: what drifts meanwhile falls out.
fn there_and_back(random: &mut Random) -> Vec<Candidate> {
    let mut order = Candidate::all();
    random.shuffle(&mut order);
    let back: Vec<_> = order.iter().rev().copied().collect();
    [order, back].concat()
}

/// Runs them, and takes the mean of each candidate's values.
fn run_in_order(
    runner: &mut Runner,
    order: &[Candidate],
    packets: &Packets,
) -> Result<Nanoseconds> {
    let mut sums = Nanoseconds::new();
    for candidate in order {
        let packets = packets[candidate];
        let took = runner.run(*candidate, packets)?.took;
        let nanoseconds = took.as_secs_f64() * 1e9 / f64::from(packets);
        // Each is there twice.
        *sums.entry(*candidate).or_default() += nanoseconds / 2.0;
    }
    Ok(sums)
}

/// What is left of each case when the empty program of the same round is subtracted.
fn costs(routes: usize, rounds: &[Nanoseconds]) -> Vec<Cost> {
    let cost = |(number, case): (usize, &cases::Case)| Cost {
        program: case.hook.name().to_owned(),
        case: case.name.to_owned(),
        routes,
        nanoseconds: rounds
            .iter()
            .map(|round| round[&Candidate::Case(number)] - round[&Candidate::empty(case.hook)])
            .collect(),
    };
    CASES.iter().enumerate().map(cost).collect()
}

/// On the node, and on one CPU.
fn inside<T: Send>(stage: &Stage, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    cpu::on_one(|| stage.node().enter(work))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_has_all_rounds_half_of_them_on_the_way_back() {
        let order = up_and_down(&[10, 100], 5);
        let expected = [(10, 1..=3), (100, 1..=3), (100, 4..=5), (10, 4..=5)];
        assert_eq!(order, expected);
        assert_eq!(up_and_down(&[10], 1), [(10, 1..=1)]);
    }

    #[test]
    fn every_flow_has_as_many_packets_as_every_other() {
        let few = 4 * FLOWS as u32;
        let packets = |took| packets_in(Duration::from_millis(20), took, few);
        assert_eq!(packets(Duration::from_millis(2)), 10 * few);
        assert_eq!(packets(Duration::from_micros(2100)) % FLOWS as u32, 0);
        assert_eq!(packets(Duration::from_secs(2)), FLOWS as u32);
        assert!(packets(Duration::ZERO) >= few);
    }

    #[test]
    fn everybody_is_run_twice_as_far_from_the_middle() {
        let order = there_and_back(&mut Random::new(4));
        let mut back = order.clone();
        back.reverse();
        assert_eq!(order, back);
        assert_ne!(order, there_and_back(&mut Random::new(5)));
        for candidate in Candidate::all() {
            assert_eq!(order.iter().filter(|it| **it == candidate).count(), 2);
        }
    }

    #[test]
    fn the_empty_program_of_the_same_round_is_subtracted() {
        let round = |case: f64, empty: f64| {
            let cases = (0..CASES.len()).map(|number| (Candidate::Case(number), case));
            let empty = [Candidate::Empty, Candidate::EmptyXdp].map(|it| (it, empty));
            cases.chain(empty).collect()
        };
        let costs = costs(10, &[round(70.0, 20.0), round(95.0, 35.0)]);
        assert_eq!(costs.len(), CASES.len());
        assert_eq!(costs[0].nanoseconds, [50.0, 60.0]);
        assert_eq!(
            (costs[0].program.as_str(), costs[0].routes),
            ("from_pod", 10)
        );
    }
}
