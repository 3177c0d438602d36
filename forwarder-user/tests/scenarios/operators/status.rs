//! `underpass status` on a node of a lab.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use underpass_bench::lab::AgentOptions;
use underpass_bench::{root_or_skip, wait_for};

use crate::common::{DEADLINE, lab, start_agents};
use crate::talk::{Road, Talk};

#[test]
fn status_tells_what_goes_by() -> Result<()> {
    if !root_or_skip("status_tells_what_goes_by") {
        return Ok(());
    }
    let lab = lab().nodes(3).pods(2).build()?;
    let mut agents = start_agents(&lab, &AgentOptions::default())?;
    let node = lab.node(1);
    let talk = Talk::new(&lab, lab.pod(1, 1), lab.pod(2, 1))?;
    talk.wait_for(Road::Fast)?;

    let done = AtomicBool::new(false);
    let rates = thread::scope(|threads| {
        let talker = threads.spawn(|| -> Result<()> {
            while !done.load(Ordering::Relaxed) {
                talk.exchange()?;
            }
            Ok(())
        });
        let status = lab.underpass_json(node, &["status", "--interval", "0.2"]);
        done.store(true, Ordering::Relaxed);
        talker.join().expect("the talker does not panic")?;
        status
    })?;
    let fast = rates["rates"]["fast_packets_per_s"].as_f64();
    ensure!(fast.context("no rate")? > 0.0, "{rates}");
    ensure!(
        rates["agent_version"] == env!("CARGO_PKG_VERSION"),
        "{rates}"
    );

    // Once, as no interval is asked for.
    let once = lab.underpass_json(node, &["status"])?;
    ensure!(once.get("rates").is_none(), "{once}");

    let screen = lab.underpass(node, &["status", "--interval", "0.1"])?;
    ensure!(!screen.contains('\x1b'), "colours in a pipe: {screen:?}");
    ensure!(screen.contains("peers    2 ready: node2 node3"), "{screen}");
    let fits = screen.lines().all(|line| line.chars().count() <= 80);
    ensure!(fits && screen.lines().count() <= 24, "{screen}");

    // What is wrong is told, with what to do about it.
    lab.write_nodes_text("nonsense")?;
    wait_for(DEADLINE, "the screen tells of the file", || {
        let screen = lab.underpass(node, &["status", "--interval", "0"])?;
        let told = screen.contains("WARNING  the nodes cannot be read");
        ensure!(
            told && screen.contains("-> the agent's --nodes-file"),
            "{screen}"
        );
        Ok(())
    })?;
    agents.remove(0).kill()?;
    let screen = lab.underpass(node, &["status", "--interval", "0"])?;
    ensure!(screen.contains("WARNING  no agent runs"), "{screen}");
    Ok(())
}
