//! `--trace-packets`: an operator looks for a packet in the log.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use underpass_bench::lab::{AgentOptions, AgentProcess, Node};
use underpass_bench::traffic::{UdpClient, UdpEcho, UdpFlow};
use underpass_bench::{Lab, root_or_skip, wait_for};

use crate::{DEADLINE, lab};

const WORDS: &[u8] = b"are you there?";

/// Two nodes with agents, of which the first one's has these arguments.
fn start(lab: &Lab, arguments: &[&str]) -> Result<[AgentProcess; 2]> {
    let options = AgentOptions::default().args(arguments.iter().copied());
    let mut traced = lab.start_agent(lab.node(1), &options)?;
    let mut other = lab.start_agent(lab.node(2), &AgentOptions::default())?;
    for agent in [&mut traced, &mut other] {
        agent.wait_ready(DEADLINE)?;
    }
    wait_for(DEADLINE, "the nodes know each other", || {
        for agent in [&traced, &other] {
            ensure!(agent.log().contains("on the fast path"), "{}", agent.log());
        }
        Ok(())
    })?;
    Ok([traced, other])
}

/// The objects of a log whose message is this.
fn objects(log: &str, message: &str) -> Result<Vec<Value>> {
    let all = log.lines().map(|line| {
        serde_json::from_str::<Value>(line).with_context(|| format!("no JSON: {line}"))
    });
    let all = all.collect::<Result<Vec<_>>>()?.into_iter();
    Ok(all
        .filter(|object| {
            object["message"]
                .as_str()
                .is_some_and(|it| it.starts_with(message))
        })
        .collect())
}

#[test]
fn a_slow_packet_and_a_fast_one_are_told_and_no_other() -> Result<()> {
    if !root_or_skip("a_slow_packet_and_a_fast_one_are_told_and_no_other") {
        return Ok(());
    }
    let lab = lab().pods(2).build()?;
    let (pod, beside, far) = (lab.pod(1, 1), lab.pod(1, 2), lab.pod(2, 1));
    let server = UdpEcho::start(far, 0)?;
    let target = (far.address(), server.port()).into();
    let (client, other) = (
        UdpClient::connect(pod, target)?,
        UdpClient::connect(beside, target)?,
    );
    let filter = format!("pod={},proto=udp,hook=from_pod", pod.address());
    let [agent, _other] = start(&lab, &["--log-format", "json", "--trace-packets", &filter])?;
    let status = lab.underpass_json(lab.node(1), &["status"])?;
    ensure!(status["trace_packets"] == filter.as_str(), "{status}");

    for _ in 0..3 {
        other.echo(WORDS, DEADLINE)?;
        client.echo(WORDS, DEADLINE)?;
    }
    let mut told = Vec::new();
    wait_for(DEADLINE, "three packets are told", || {
        told = objects(&agent.log(), "packet")?;
        told.retain(|object| object["hook"].is_string());
        ensure!(told.len() >= 3, "{}", agent.log());
        Ok(())
    })?;
    println!("{}", agent.log());
    ensure!(told.len() == 3, "not only what was asked for: {told:?}");
    let verdicts: Vec<_> = told.iter().map(|object| &object["verdict"]).collect();
    ensure!(verdicts == ["unconfirmed", "fast", "fast"], "{told:?}");
    for object in &told {
        let is_it = object["interface"] == pod.node_veth()
            && object["protocol"] == "udp"
            && object["source"] == pod.address().to_string()
            && object["source_port"] == client.local_port()?
            && object["destination"] == far.address().to_string()
            && object["destination_port"] == server.port()
            && object["length"] == 14 + 20 + 8 + WORDS.len()
            && object["level"] == "INFO";
        ensure!(is_it, "{object}");
    }
    Ok(())
}

#[test]
fn a_flood_is_told_in_few_lines_and_the_rest_is_counted() -> Result<()> {
    if !root_or_skip("a_flood_is_told_in_few_lines_and_the_rest_is_counted") {
        return Ok(());
    }
    const PACKETS: u64 = 10_000;
    let lab = lab().build()?;
    let (pod, far) = (lab.pod(1, 1), lab.pod(2, 1));
    let filter = format!("pod={},proto=udp,hook=from_pod", pod.address());
    let [agent, _other] = start(&lab, &["--log-format", "json", "--trace-packets", &filter])?;

    let flow = UdpFlow::to((far.address(), 7000).into());
    flow.packets(PACKETS).rate(20_000).run(pod, far)?;
    wait_for(DEADLINE, "each packet has a line or is counted", || {
        let log = agent.log();
        let lines = objects(&log, "packet")?;
        let lines = lines.iter().filter(|it| it["hook"].is_string()).count() as u64;
        let left_out = objects(&log, "packets without a line")?;
        let left_out: u64 = left_out
            .iter()
            .filter_map(|it| it["left_out"].as_u64())
            .sum();
        println!("{lines} lines, {left_out} left out");
        ensure!(lines + left_out == PACKETS, "{lines} and {left_out}");
        ensure!(lines < PACKETS / 2, "{lines} lines");
        Ok(())
    })?;
    Ok(())
}

#[test]
fn tracing_comes_and_goes_with_its_agent_and_loses_nothing() -> Result<()> {
    if !root_or_skip("tracing_comes_and_goes_with_its_agent_and_loses_nothing") {
        return Ok(());
    }
    let lab = lab().build()?;
    let (node, pod, far) = (lab.node(1), lab.pod(1, 1), lab.pod(2, 1));
    let server = UdpEcho::start(far, 0)?;
    let client = UdpClient::connect(pod, (far.address(), server.port()).into())?;
    let [plain, _other] = start(&lab, &[])?;
    expect_status(&lab, node, None)?;
    client.echo(WORDS, DEADLINE)?;
    ensure!(!plain.log().contains(" udp "), "{}", plain.log());
    // Constant traffic, which is not what is looked for.
    let stream = UdpFlow::to((far.address(), 7000).into()).rate(500);
    let stream = stream.start(pod, far)?;
    stream.wait_for_more(50, DEADLINE)?;
    plain.terminate()?;

    let filter = format!("port={}", server.port());
    let traced = restart(&lab, node, &["--trace-packets", &filter])?;
    expect_status(&lab, node, Some(&filter))?;
    client.echo(WORDS, DEADLINE)?;
    let line = format!(
        "from_pod on {}: fast: udp {}:",
        pod.node_veth(),
        pod.address()
    );
    wait_for(DEADLINE, "the packet is told", || {
        ensure!(traced.log().contains(&line), "{}", traced.log());
        Ok(())
    })?;
    println!("{}", traced.log());
    stream.wait_for_more(50, DEADLINE)?;
    traced.terminate()?;
    let screen = lab.underpass(node, &["status", "--interval", "0"])?;
    println!("{screen}");
    ensure!(
        screen.contains(&format!("tracing  {filter} (NOBODY READS IT)")),
        "{screen}"
    );

    let plain = restart(&lab, node, &[])?;
    expect_status(&lab, node, None)?;
    ensure!(
        plain.log().contains("packets are no longer traced"),
        "{}",
        plain.log()
    );
    client.echo(WORDS, DEADLINE)?;
    ensure!(!plain.log().contains(" udp "), "{}", plain.log());
    stream.wait_for_more(50, DEADLINE)?;
    let report = stream.stop()?;
    ensure!(report.lost == 0, "lost by the exchange: {report:?}");
    // What was there of it is there no more.
    let log = plain.log_path().to_owned();
    plain.terminate()?;
    ensure!(!fs::read_to_string(log)?.contains("without a line"));
    lab.underpass(node, &["detach"])?;
    ensure!(!lab.bpffs(node).exists(), "detach leaves something");
    Ok(())
}

fn restart(lab: &Lab, node: &Node, arguments: &[&str]) -> Result<AgentProcess> {
    let options = AgentOptions::default().args(arguments.iter().copied());
    let mut agent = lab.start_agent(node, &options)?;
    agent.wait_ready(DEADLINE)?;
    Ok(agent)
}

fn expect_status(lab: &Lab, node: &Node, filter: Option<&str>) -> Result<()> {
    let status = lab.underpass_json(node, &["status"])?;
    let told = status.get("trace_packets").and_then(Value::as_str);
    ensure!(told == filter, "{status}");
    Ok(())
}
