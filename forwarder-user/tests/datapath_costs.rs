//! The benchmark of the BPF programs alone: each case takes the path that it is meant to take, and yields figures.

use std::path::Path;

use anyhow::{Result, ensure};
use underpass_bench::compare::datapath::{DatapathOptions, measure};
use underpass_bench::root_or_skip;

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
    ensure!(sizes.len() == 4, "{sizes:?}");
    ensure!(sizes.iter().all(|it| it.instructions > 0), "{sizes:?}");
    for routes in [10, 1000] {
        let costs: Vec<_> = results
            .costs
            .iter()
            .filter(|it| it.routes == routes)
            .collect();
        ensure!(costs.len() == 12, "{routes} routes: {costs:?}");
        for cost in costs {
            let values = &cost.nanoseconds;
            // A fast packet at an exit costs next to nothing: what is left may be less than the noise.
            let is_small = (cost.program.as_str(), cost.case.as_str()) == ("to_wire", "fast");
            let can_be = |it: &f64| it.is_finite() && (is_small || *it > 0.0);
            ensure!(values.len() == 2 && values.iter().all(can_be), "{cost:?}");
            println!(
                "{:9} {:12} {routes:5} {values:.1?}",
                cost.program, cost.case
            );
        }
    }
    Ok(())
}
