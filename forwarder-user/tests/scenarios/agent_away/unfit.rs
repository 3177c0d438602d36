//! Agents that cannot work: they say why in one sentence, and do no harm.

use std::fs::File;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use underpass_bench::lab::{AgentOptions, Node};
use underpass_bench::{Lab, root_or_skip};

use crate::common::{DEADLINE, lab, start_agents};
use crate::talk::{Road, Talk};

/// Starts an agent that cannot work, and returns the one line that it leaves.
fn last_words(lab: &Lab, node: &Node, wrapper: &[&str], bpffs: &str) -> Result<String> {
    let nodes_file = lab.nodes_file().to_string_lossy().into_owned();
    let agent = [
        env!("CARGO_BIN_EXE_underpass"),
        "agent",
        "--node-name",
        node.name(),
        "--nodes-file",
        &nodes_file,
        "--bpffs",
        bpffs,
    ];
    let words = [wrapper, &agent].concat();
    let log = lab.file("unfit.log");
    let mut command = Command::new(words[0]);
    command
        .args(&words[1..])
        .stdout(File::create(&log)?)
        .stderr(File::options().append(true).open(&log)?);
    let status = node.spawn(command)?.wait(DEADLINE)?;
    let said = std::fs::read_to_string(&log)?;
    ensure!(status.code() == Some(1), "{status}: {said}");
    let mut lines = said.lines();
    let line = lines.next().context("not a word")?.to_owned();
    ensure!(lines.next().is_none() && line.starts_with("underpass: "), "{said}");
    Ok(line)
}

#[test]
fn unfit_machine() -> Result<()> {
    if !root_or_skip("unfit_machine") {
        return Ok(());
    }
    let lab = lab().build()?;
    let node = lab.node(1);
    let nowhere = lab.file("no-bpffs");
    let new = lab.bpffs(node).with_file_name("unfit");
    let (nowhere, new) = (nowhere.to_string_lossy(), new.to_string_lossy());
    let _agents = start_agents(&lab, &AgentOptions::default())?;
    let talk = Talk::new(&lab, lab.pod(1, 1), lab.pod(2, 1))?;
    talk.wait_for(Road::Fast)?;

    let line = last_words(&lab, node, &[], &nowhere)?;
    println!("{line}");
    for lacking in ["-net_admin", "-bpf,-sys_admin"] {
        let wrapper = ["setpriv", &format!("--bounding-set={lacking}")];
        let line = last_words(&lab, node, &wrapper, &new)?;
        println!("{line}");
    }
    assert_eq!(talk.road()?, Road::Fast);
    Ok(())
}
