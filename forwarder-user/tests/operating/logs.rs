//! A node's day in the log: everything that happened is there, by name, and once; and it fits on a screen.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use underpass_bench::lab::{AgentOptions, AgentProcess, Node};
use underpass_bench::{root_or_skip, wait_until};

use crate::{DEADLINE, lab};

/// Lines of a screen.
const SCREENFUL: usize = 40;

#[test]
fn a_day_is_told_in_a_screenful_of_json() -> Result<()> {
    if !root_or_skip("a_day_is_told_in_a_screenful_of_json") {
        return Ok(());
    }
    let log = day(&["--log-format", "json"])?;
    let mut told: BTreeMap<String, usize> = BTreeMap::new();
    for line in log.lines() {
        let object: Value =
            serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))?;
        for key in ["timestamp", "level", "message"] {
            ensure!(object[key].is_string(), "no {key}: {line}");
        }
        *told.entry(object["message"].to_string()).or_default() += 1;
    }
    let often = told.iter().find(|(_, times)| **times > 2);
    ensure!(often.is_none(), "told over and over: {often:?}\n{log}");
    ensure!(
        log.lines().count() <= SCREENFUL,
        "more than a screenful:\n{log}"
    );
    Ok(())
}

#[test]
fn a_day_is_told_in_a_screenful_of_text() -> Result<()> {
    if !root_or_skip("a_day_is_told_in_a_screenful_of_text") {
        return Ok(());
    }
    let log = day(&[])?;
    println!("{log}");
    ensure!(
        log.lines().count() <= SCREENFUL,
        "more than a screenful:\n{log}"
    );
    ensure!(!log.contains("DEBUG"), "{log}");
    Ok(())
}

/// An agent starts, another node comes, no longer answers and comes back, the nodes file breaks and is mended, and
/// the agent stops: its log.
fn day(arguments: &[&str]) -> Result<String> {
    let lab = lab().build()?;
    let (here, there) = (lab.node(1), lab.node(2));
    doubt_neighbours_soon(here)?;
    let whole = fs::read_to_string(lab.nodes_file())?;
    lab.write_nodes_file(&lab.nodes_list().without("node2"))?;

    let mut agent = lab.start_agent(
        here,
        &AgentOptions::default().args(arguments.iter().copied()),
    )?;
    agent.wait_ready(DEADLINE)?;
    expect(&agent, " started", 1)?;

    fs::write(lab.nodes_file(), &whole)?;
    expect(&agent, "on the fast path: node2", 1)?;
    there.ip("link set eth0 down")?;
    expect(&agent, "node node2: its address", 1)?;
    there.ip("link set eth0 up")?;
    expect(&agent, "on the fast path: node2", 2)?;

    fs::write(lab.nodes_file(), "kind: [")?;
    expect(&agent, "the last good nodes stay", 1)?;
    fs::write(lab.nodes_file(), &whole)?;
    expect(&agent, "the nodes can be read again", 1)?;
    lab.write_nodes_file(&lab.nodes_list().without("node2"))?;
    expect(&agent, "no longer a node of the cluster: node2", 1)?;

    let log = agent.log_path().to_owned();
    agent.terminate()?;
    let log = fs::read_to_string(log)?;
    ensure!(log.contains("agent stopped"), "{log}");
    Ok(log)
}

/// Waits until so many lines hold the words.
fn expect(agent: &AgentProcess, words: &str, times: usize) -> Result<()> {
    let told = || {
        agent
            .log()
            .lines()
            .filter(|line| line.contains(words))
            .count()
    };
    wait_until(
        DEADLINE,
        &format!("{words:?} is told {times} times"),
        || told() >= times,
    )
    .with_context(|| agent.log())
}

/// Has the kernel soon doubt a silent neighbour, and soon give it up; how often it looks after entries that it keeps
/// for somebody stays at 5 s.
fn doubt_neighbours_soon(node: &Node) -> Result<()> {
    for (key, value) in [
        ("base_reachable_time_ms", "200"),
        ("delay_first_probe_time", "0"),
        ("retrans_time_ms", "50"),
        ("ucast_solicit", "2"),
        ("mcast_solicit", "3"),
    ] {
        node.sysctl(&format!("net.ipv4.neigh.{}.{key}", node.uplink()), value)?;
    }
    Ok(())
}
