//! A run that never was, for tests: every figure is known.

use std::collections::BTreeMap;

use crate::compare::contender::Contender;
use crate::compare::figure::Figure;
use crate::compare::results::{
    AgentMemory, Cost, Datapath, FORM, ProgramSize, Results, Sample, Setup,
};
use crate::compare::trial::Trial;

/// Its rounds.
pub(crate) const ROUNDS: usize = 7;

/// All contenders and all trials. Underpass is faster than routes by 1.22, than proxied ones by 1.525; the two
/// like ones differ by 1 % at most.
pub(crate) fn results() -> Results {
    let mut samples = Vec::new();
    for round in 1..=ROUNDS {
        for trial in Trial::ALL {
            let runners = Contender::ALL.into_iter().filter(|it| it.runs(trial));
            samples.extend(runners.map(|contender| sample(round, trial, contender)));
        }
    }
    Results {
        form: FORM,
        setup: setup(),
        samples,
        failures: Vec::new(),
        repeated: Vec::new(),
        agents: vec![AgentMemory {
            contender: Contender::Underpass.name().to_owned(),
            resident: 14 << 20,
            peak: 21 << 20,
        }],
        datapath: Some(datapath()),
    }
}

/// Makes the two like contenders differ by a third up and down in a trial.
pub(crate) fn make_noisy(results: &mut Results, trial: Trial) {
    for sample in &mut results.samples {
        if sample.contender == Contender::RoutesTwin.name() && sample.trial == trial.name() {
            let factor = [0.67, 1.5][sample.round % 2];
            sample.figures.values_mut().for_each(|it| *it *= factor);
        }
    }
}

/// Takes a contender out, as if it had not taken part.
pub(crate) fn remove(results: &mut Results, contender: Contender) {
    results
        .samples
        .retain(|it| it.contender != contender.name());
    results.setup.contenders.retain(|it| it != contender.name());
    results.agents.retain(|it| it.contender != contender.name());
}

/// Keeps these trials alone, which makes a whole report quicker.
pub(crate) fn keep_trials(results: &mut Results, trials: &[Trial]) {
    for trial in Trial::ALL {
        if !trials.contains(&trial) {
            remove_trial(results, trial);
        }
    }
}

/// Takes a trial out, as if it had not been run.
pub(crate) fn remove_trial(results: &mut Results, trial: Trial) {
    results.samples.retain(|it| it.trial != trial.name());
    results.setup.trials.retain(|it| *it != trial.name());
}

fn setup() -> Setup {
    Setup {
        began: "2026-11-26 12:00".to_owned(),
        commit: "0123456789ab".to_owned(),
        processor: "Example CPU".to_owned(),
        cpus: 2,
        memory: 8 << 30,
        kernel: "6.18.5".to_owned(),
        tools: BTreeMap::from([("iptables".to_owned(), "1.8.9".to_owned())]),
        busy_before: 0.04,
        contenders: Contender::ALL.map(|it| it.name().to_owned()).into(),
        trials: Trial::ALL.map(Trial::name).into(),
        rounds: ROUNDS,
        rounds_of: BTreeMap::new(),
        seconds: 5,
        seed: 42,
        services: 5000,
        paced_rate: 20_000,
        client_cpu: 0,
        server_cpu: 1,
    }
}

fn sample(round: usize, trial: Trial, contender: Contender) -> Sample {
    let figures = trial.figures().iter();
    let latencies = match trial.figures().first() {
        Some(Figure::LatencyP50) => [50.0, 75.0, 90.0, 99.0, 99.9],
        _ => [0.0; 5],
    };
    let latency = |it: f64| (it, rounded((20.0 + it * it / 200.0) / speed(contender)));
    Sample {
        round,
        turn: 1 + contender as usize,
        trial: trial.name(),
        contender: contender.name().to_owned(),
        figures: figures
            .map(|it| {
                (
                    *it,
                    rounded(value(*it, contender) * wobble(round, contender)),
                )
            })
            .collect(),
        latencies: latencies
            .into_iter()
            .filter(|it| *it > 0.0)
            .map(latency)
            .collect(),
        stolen: 0.0,
    }
}

/// To six digits behind the point, so that JSON gives back the very same.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

fn value(figure: Figure, contender: Contender) -> f64 {
    let of_routes = match figure {
        Figure::Throughput => 14.1,
        Figure::CpuPerGigabit => 81.0,
        Figure::LatencyP50 => 30.0,
        Figure::LatencyP99 => 60.0,
        Figure::LatencyP999 => 110.0,
        Figure::RequestRate => 32_000.0,
        Figure::ConnectionRate => 9_000.0,
        Figure::CpuPerMillionConnections => 180.0,
        Figure::PacketRate => 190_000.0,
        Figure::CpuPerMillionPackets => 8.2,
        Figure::Loss => return 0.001,
    };
    if figure.more_is_better() {
        of_routes * speed(contender)
    } else {
        of_routes / speed(contender)
    }
}

/// How fast it is, by routes.
fn speed(contender: Contender) -> f64 {
    match contender {
        Contender::Wire => 1.35,
        Contender::Node => 1.25,
        Contender::Routes | Contender::RoutesTwin => 1.0,
        Contender::RoutesProxied => 0.8,
        Contender::RoutesProxiedNft => 0.82,
        Contender::Vxlan => 0.6,
        Contender::Underpass => 1.22,
        Contender::UnderpassClean => 1.23,
        Contender::UnderpassAlways => 1.24,
        Contender::FibHelper => 1.15,
        Contender::HooksLimit => 1.23,
        Contender::UnderpassXdp => 1.26,
        Contender::UnderpassWhole => 1.21,
        Contender::UnderpassXdpAlways => 1.27,
        Contender::FibHelperXdp => 1.16,
    }
}

/// Half a percent up and down, differently for each.
fn wobble(round: usize, contender: Contender) -> f64 {
    let phase = round as f64 * 1.7 + contender as usize as f64 * 2.3;
    1.0 + 0.005 * phase.sin()
}

fn datapath() -> Datapath {
    let mut costs = Vec::new();
    for (program, case, at_10, at_5000) in [
        ("from_pod", "fast", 50.0, 52.0),
        ("from_pod", "miss", 90.0, 160.0),
        ("from_wire", "fast", 55.0, 57.0),
    ] {
        for (routes, cost) in [(10, at_10), (5000, at_5000)] {
            let round = |it: usize| rounded(cost * (1.0 + 0.002 * it as f64));
            costs.push(Cost {
                program: program.to_owned(),
                case: case.to_owned(),
                routes,
                nanoseconds: (0..ROUNDS).map(round).collect(),
            });
        }
    }
    Datapath {
        flows: 64,
        programs: vec![ProgramSize {
            program: "from_pod".to_owned(),
            instructions: 900,
            machine_code: 5100,
            verified: 0,
        }],
        costs,
    }
}
