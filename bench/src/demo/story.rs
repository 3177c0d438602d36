//! What is shown, and in which order.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};

use super::agents::Agents;
use super::clusters::{Clusters, NODES, PODS};
use super::comparison::Comparison;
use super::race::{self, Plan, Results};
use super::report::Measured;
use super::stage::{Held, Stage, Step, held};
use super::{bypass, maps, pings, service, table};
use crate::interrupt::{self, Interrupted};
use crate::measure::cpu::Account;
use crate::measure::kernel_release;
use crate::measure::share::Counted;
use crate::screen::Screen;

/// The share of fast packets that pings between all pods must reach: the first exchange of each pair
/// goes by the kernel.
const PINGS_FAST: f64 = 0.8;
/// The share that long flows must reach.
const FLOWS_FAST: f64 = 0.99;

/// How to run the demo.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program `underpass`.
    pub underpass: PathBuf,
    /// Where the report goes.
    pub json: Option<PathBuf>,
    /// Measure once and briefly.
    pub quick: bool,
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Every step held.
    Held,
    /// A step failed.
    Failed,
    /// Somebody stopped it.
    Interrupted,
}

const OPENING: &str = "
  Pod traffic between nodes goes through bridge, netfilter with conntrack,
  routes and neighbours. Underpass takes it past them once the kernel itself
  has let the flow through:

     pod - veth - cni0 - netfilter - routes - neighbours - eth0 - other node
             |                                               |
             '------------------- underpass -----------------'";

/// Shows everything, takes everything down, and writes the report. What goes wrong in a step is part
/// of the show.
///
/// # Errors
/// When the report can't be written, or signals can't be caught.
pub fn run(options: &Options) -> Result<Ending> {
    // Before minutes are spent on it; and so that no older report is taken for this one's.
    if let Some(path) = &options.json {
        write(path, "")?;
    }
    interrupt::catch()?;
    let begin = Instant::now();
    let mut stage = Stage::new(Screen::new());
    stage.screen.line(
        &stage
            .screen
            .bold("Underpass: pod traffic below the route table"),
    );
    stage.screen.line(OPENING);
    let ended = raise_and_show(&mut stage, options);
    if let Some(measured) = &stage.report.measured {
        table::print(stage.screen, measured);
    }
    let report = &mut stage.report;
    report.ok = ended.is_ok() && report.checks.iter().all(|check| check.ok);
    report.seconds = begin.elapsed().as_secs_f64();
    if let Some(path) = &options.json {
        write(path, &(serde_json::to_string_pretty(report)? + "\n"))?;
    }
    close(&stage, ended)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Says how it went.
fn close(stage: &Stage, ended: Result<()>) -> Result<Ending> {
    let screen = stage.screen;
    let report = &stage.report;
    let failed: Vec<_> = report.checks.iter().filter(|check| !check.ok).collect();
    screen.line("");
    match ended {
        Err(error) if error.is::<Interrupted>() && failed.is_empty() => {
            screen.line("Stopped as you wished; everything is taken down.");
            return Ok(Ending::Interrupted);
        }
        Err(error) => screen.line(&screen.red(&format!("{error:#}"))),
        Ok(()) => {}
    }
    if report.ok {
        let (steps, seconds) = (report.checks.len(), report.seconds);
        screen.line(&screen.green(&format!("All {steps} steps held, in {seconds:.0} s.")));
        screen.line(
            "Next: `cargo xtask test` proves it, `cargo xtask lab up` is yours to play with.",
        );
        return Ok(Ending::Held);
    }
    let names: Vec<_> = failed.iter().map(|check| check.name).collect();
    let names = names.join(", ");
    screen.line(&screen.red(&format!(
        "Not every step held: {names}. What failed is told above."
    )));
    Ok(Ending::Failed)
}

fn raise_and_show(stage: &mut Stage, options: &Options) -> Result<()> {
    stage.screen.heading("The kernel's road");
    let raise = Step::new(
        "lab",
        format!("raise two like clusters: {NODES} nodes, {PODS} pods on each"),
    );
    let clusters = stage.need(raise, |_| Clusters::raise(&options.underpass))?;
    let shown = show(stage, &clusters, options);
    // The agents' logs go with the lab.
    stage.logs.clear();
    let cleanup = Step::new("cleanup", "take everything down");
    stage.run(cleanup, |_| clusters.take_down());
    shown
}

fn show(stage: &mut Stage, clusters: &Clusters, options: &Options) -> Result<()> {
    let plan = if options.quick {
        Plan::QUICK
    } else {
        Plan::FULL
    };
    let twins = plain_routes(stage, clusters, plan)?;

    stage.screen.heading("Underpass beside it");
    let start = Step::new("agents-ready", "start an agent on each node of one of them");
    let agents = stage.need(start, |_| {
        Agents::start(&clusters.underpass).with_context(|| {
            let check = options.underpass.display();
            format!("Is this machine fit? This tells:\n  {check} check")
        })
    })?;
    agents.show_logs_on(stage);
    side_by_side(stage, clusters, plan, twins)?;

    stage.screen.heading("Nothing is broken");
    behaviours(stage, clusters, agents)
}

/// The cluster as it is without Underpass.
fn plain_routes(stage: &mut Stage, clusters: &Clusters, plan: Plan) -> Result<Option<Results>> {
    let ping = Step::new("ping-routes", "ping from every pod to every other pod");
    stage.check(ping, |_| {
        pings::all_pairs(&clusters.routes, 1)?;
        let pinged = pings::all_pairs(&clusters.underpass, 1)?;
        Ok(held(format!(
            "{0} of {0} pairs answer, {1} of them across nodes",
            pinged.pairs, pinged.across
        )))
    })?;
    let measure = Step::new(
        "measure-routes",
        "measure both: what they differ by is noise",
    )
    .takes(plan.takes(2));
    stage.check(measure, |progress| {
        let results = race::twins(clusters, plan, progress)?;
        Ok(Held {
            detail: table::twins(&results)?,
            value: results,
        })
    })
}

/// The same with Underpass in one of the clusters.
fn side_by_side(
    stage: &mut Stage,
    clusters: &Clusters,
    plan: Plan,
    twins: Option<Results>,
) -> Result<()> {
    let lab = &clusters.underpass;
    let ping = Step::new(
        "ping-underpass",
        "ping again, ten times each across the nodes",
    );
    stage.check(ping, |_| {
        let before = Counted::read(lab)?;
        let pinged = pings::across_nodes(lab, 10)?;
        let counted = Counted::read(lab)?.since(before);
        counted.at_least(PINGS_FAST)?;
        Ok(held(format!(
            "{} of {} pings answered; {counted}: of each ten the first goes by the kernel",
            pinged.pings, pinged.pings
        )))
    })?;

    let measure = Step::new("measure-underpass", "measure routes and Underpass in turns")
        .takes(plan.takes(3));
    let done = stage.check(measure, |progress| {
        let before = Counted::read(lab)?;
        let rivals = race::rivals(clusters, plan, progress)?;
        let measured = twins.map(|twins| measured(plan, &twins, &rivals));
        Ok(Held {
            value: (before, measured.transpose()?),
            detail: format!(
                "{} rounds; the figures stand in the table below",
                plan.rounds
            ),
        })
    })?;
    let Some((before, measured)) = done else {
        return Ok(());
    };
    stage.report.measured = measured;
    let share = Step::new("fast-share", "count the packets that took the fast path");
    stage.check(share, |_| {
        let counted = Counted::read(lab)?.since(before);
        counted.at_least(FLOWS_FAST)?;
        Ok(held(format!("while it was measured: {counted}")))
    })?;
    Ok(())
}

fn measured(plan: Plan, twins: &Results, rivals: &Results) -> Result<Measured> {
    Ok(Measured {
        cpus: Account::read()?.cpus(),
        kernel: kernel_release()?,
        wires: "veth pairs",
        rounds: plan.rounds,
        figures: Comparison::all(twins, rivals)?,
    })
}

/// What must be true whatever the figures say.
fn behaviours(stage: &mut Stage, clusters: &Clusters, mut agents: Agents) -> Result<()> {
    let lab = &clusters.underpass;
    let step = Step::new(
        "bypass-proof",
        "switch the kernel's forwarding off: it goes on",
    );
    stage.check(step, |_| bypass::prove(clusters))?;
    let step = Step::new(
        "maps",
        "look into a map: node1's routes to the other nodes' pods",
    );
    stage.check(step, |_| maps::dump_routes(lab))?;
    let step = Step::new("clusterip", "use a ClusterIP made of DNAT rules");
    stage.check(step, |_| service::use_cluster_ip(lab))?;
    let step = Step::new(
        "agent-restarted",
        "kill an agent and start it again, under traffic",
    );
    stage.check(step, |_| agents.restart_under_traffic())?;
    agents.show_logs_on(stage);
    let step = Step::new("detach", "take Underpass out again: underpass detach");
    stage.check(step, |_| agents.detach())?;
    Ok(())
}
