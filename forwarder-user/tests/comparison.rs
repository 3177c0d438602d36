//! The comparison: every contender is what its name says, and each case of the programs alone takes the path that it
//! is meant to take. What comes out are figures; which, is for `cargo xtask bench` to say.

use std::path::Path;

use anyhow::{Result, ensure};
use underpass_bench::compare::contender::Contender;
use underpass_bench::compare::datapath::{DatapathOptions, measure};
use underpass_bench::compare::trial::{Target, Traffic, Trial};
use underpass_bench::compare::{Options, report, run};
use underpass_bench::root_or_skip;

#[test]
fn every_contender_is_what_its_name_says() -> Result<()> {
    if !root_or_skip("every_contender_is_what_its_name_says") {
        return Ok(());
    }
    let flood = |target| Trial {
        traffic: Traffic::Flood(64),
        target,
        offload: true,
    };
    let trials = vec![flood(Target::Peer), flood(Target::Outside)];
    // An error where a contender's traffic went another way than its name says.
    let results = run(&Options {
        underpass: env!("CARGO_BIN_EXE_underpass").into(),
        contenders: Contender::ALL.to_vec(),
        trials: trials.clone(),
        rounds: 1,
        rounds_of: std::collections::BTreeMap::new(),
        seconds: 1,
        services: 20,
        paced_rate: 1000,
        client_cpu: None,
        server_cpu: None,
        seed: 1,
        datapath: false,
        quick: true,
        despite_noise: true,
    })?;
    ensure!(results.failures.is_empty(), "{:?}", results.failures);
    for trial in trials {
        for contender in Contender::ALL.into_iter().filter(|it| it.runs(trial)) {
            for &figure in trial.figures() {
                let values = results.values(trial, contender, figure);
                ensure!(
                    values.len() == 1 && values[0].is_finite(),
                    "{contender}, {trial}, {}: {values:?}",
                    figure.title()
                );
            }
        }
    }
    ensure!(results.agents.len() == 5, "{:?}", results.agents);
    let text = report::summary(&results);
    ensure!(
        text.contains("too few rounds"),
        "one round proves nothing:\n{text}"
    );
    Ok(())
}

#[test]
fn every_case_takes_its_path_and_yields_figures() -> Result<()> {
    if !root_or_skip("every_case_takes_its_path_and_yields_figures") {
        return Ok(());
    }
    let options = DatapathOptions {
        quick: true,
        rounds: 2,
        ..DatapathOptions::default()
    };
    let underpass = Path::new(env!("CARGO_BIN_EXE_underpass"));
    let mut told = Vec::new();
    // An error where a packet of any case comes to another verdict than its own.
    let results = measure(underpass, &options, &mut |what| told.push(what))?;
    ensure!(
        told.iter().any(|it| it.contains("round 2 of 2")),
        "{told:?}"
    );
    ensure!(results.flows == 4096);
    let sizes = &results.programs;
    ensure!(sizes.len() == 5, "{sizes:?}");
    ensure!(sizes.iter().all(|it| it.instructions > 0), "{sizes:?}");
    for routes in [10, 1000] {
        let costs: Vec<_> = results
            .costs
            .iter()
            .filter(|it| it.routes == routes)
            .collect();
        ensure!(costs.len() == 16, "{routes} routes: {costs:?}");
        for cost in costs {
            let values = &cost.nanoseconds;
            // Noise may leave less than nothing when the empty program is subtracted.
            let is_there = values.len() == 2 && values.iter().all(|it| it.is_finite());
            ensure!(is_there, "{cost:?}");
            println!(
                "{:9} {:12} {routes:5} {values:.1?}",
                cost.program, cost.case
            );
        }
    }
    Ok(())
}
