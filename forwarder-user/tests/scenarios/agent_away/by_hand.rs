//! An agent with nothing of ours around it.

use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use underpass_bench::root_or_skip;

const SCRIPT: &str = include_str!("by_hand.sh");
/// All that the script makes ends with it, and it ends with this process.
const WRAPPER: [&str; 8] = [
    "setpriv",
    "--pdeathsig",
    "KILL",
    "unshare",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
];

/// Runs the script and returns what it prints.
fn status_by_hand() -> Result<Value> {
    let directory = tempfile::tempdir()?;
    let binaries = Path::new(env!("CARGO_BIN_EXE_underpass")).parent();
    let binaries = binaries.context("no directory of underpass")?.to_owned();
    let inherited = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([binaries].into_iter().chain(env::split_paths(&inherited)))?;
    let output = Command::new(WRAPPER[0])
        .args(&WRAPPER[1..])
        .args(["sh", "-c", SCRIPT])
        .env("PATH", path)
        .current_dir(&directory)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {said}", output.status);
    serde_json::from_slice(&output.stdout).with_context(|| format!("not JSON: {output:?}"))
}

#[test]
fn by_hand() -> Result<()> {
    if !root_or_skip("by_hand") {
        return Ok(());
    }
    let status = status_by_hand()?;
    assert_eq!(status["node"], "worker1");
    assert_eq!(status["agent_running"], true);
    assert_eq!(status["uplink"], "eth0");
    assert_eq!(status["pod_cidrs"], json!(["10.1.1.0/24"]));

    let [peer] = &status["peers"].as_array().context("no peers")?[..] else {
        anyhow::bail!("not one peer: {status:#}");
    };
    assert_eq!(peer["name"], "worker2");
    assert_eq!(peer["state"], "ready");
    assert_eq!(peer["pod_cidr"], "10.1.2.0/24");
    assert_eq!(peer["address"], "192.168.1.2");

    let [pod] = &status["pods"].as_array().context("no pods")?[..] else {
        anyhow::bail!("not one pod: {status:#}");
    };
    assert_eq!(pod["veth"], "pod1");
    assert_eq!(pod["state"], "attached");
    assert_eq!(pod["addresses"], json!(["10.1.1.2"]));

    // Of twenty pings the first goes by the kernel, and so does its answer.
    for hook in ["from_pod", "from_wire"] {
        let mut verdicts = status["verdicts"].as_array().context("no verdicts")?.iter();
        let fast = verdicts.find(|count| count["hook"] == hook && count["verdict"] == "fast");
        let packets = fast.and_then(|count| count["packets"].as_u64());
        ensure!(
            packets.is_some_and(|packets| packets >= 19),
            "{hook}: {status:#}"
        );
    }
    Ok(())
}
