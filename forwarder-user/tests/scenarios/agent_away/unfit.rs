//! Agents that cannot work: they say why in one sentence, and do no harm.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use underpass_bench::lab::{AgentOptions, AgentProcess, Node};
use underpass_bench::{Lab, root_or_skip};

use crate::common::{DEADLINE, lab, start_agents};
use crate::talk::{Road, Talk};

/// Starts an agent that cannot work, and returns the one line that it leaves.
fn last_words(lab: &Lab, node: &Node, wrapper: &[&str], bpffs: &Path) -> Result<String> {
    let bpffs = bpffs.to_string_lossy();
    let nodes_file = lab.nodes_file().to_string_lossy().into_owned();
    let agent = [
        env!("CARGO_BIN_EXE_underpass"),
        "agent",
        "--node-name",
        node.name(),
        "--nodes-file",
        &nodes_file,
        "--bpffs",
        &bpffs,
    ];
    let words = [wrapper, &agent].concat();
    let log = lab.file("unfit.log");
    let mut command = Command::new(words[0]);
    command
        .args(&words[1..])
        .stdout(File::create(&log)?)
        .stderr(File::options().append(true).open(&log)?);
    let status = node.spawn(command)?.wait(DEADLINE)?;
    let said = fs::read_to_string(&log)?;
    ensure!(status.code() == Some(1), "{status}: {said}");
    let mut lines = said.lines();
    let line = lines.next().context("not a word")?.to_owned();
    ensure!(
        lines.next().is_none() && line.starts_with("underpass: "),
        "{said}"
    );
    Ok(line)
}

/// A lab with agents, and with traffic that should stay fast whatever is started beside them.
fn busy_lab() -> Result<(Lab, Vec<AgentProcess>, Talk)> {
    let lab = lab().build()?;
    let agents = start_agents(&lab, &AgentOptions::default())?;
    let talk = Talk::new(&lab, lab.pod(1, 1), lab.pod(2, 1))?;
    talk.wait_for(Road::Fast)?;
    Ok((lab, agents, talk))
}

#[test]
fn unfit_machine() -> Result<()> {
    if !root_or_skip("unfit_machine") {
        return Ok(());
    }
    let (lab, _agents, talk) = busy_lab()?;
    let node = lab.node(1);
    let no_bpffs = lab.file("no-bpffs");
    let unused = lab.bpffs(node).with_file_name("unfit");

    let line = last_words(&lab, node, &[], &no_bpffs)?;
    let expected = format!("{} is not on a BPF file system", no_bpffs.display());
    ensure!(
        line.contains(&expected) && line.contains("mount -t bpf"),
        "{line}"
    );

    for (lacking, name) in [
        ("-net_admin", "CAP_NET_ADMIN"),
        ("-bpf,-sys_admin", "CAP_BPF"),
    ] {
        let wrapper = ["setpriv", "--bounding-set", lacking];
        let line = last_words(&lab, node, &wrapper, &unused)?;
        ensure!(
            line.contains(&format!("this process lacks {name}")),
            "{line}"
        );
    }
    ensure!(!no_bpffs.exists() && !unused.exists());
    assert_eq!(talk.road()?, Road::Fast);
    Ok(())
}

/// Whatever directory the second one names: they are on the same devices.
#[test]
fn second_agent() -> Result<()> {
    if !root_or_skip("second_agent") {
        return Ok(());
    }
    let (lab, mut agents, talk) = busy_lab()?;
    let node = lab.node(1);
    let (dir, first) = (lab.bpffs(node), agents[0].pid());
    let other = dir.with_file_name("second");
    let expected = format!(
        "another agent is at work on {} (process {first})",
        dir.display()
    );
    for wanted in [&dir, &other] {
        let line = last_words(&lab, node, &[], wanted)?;
        ensure!(line.contains(&expected), "{}: {line}", wanted.display());
    }
    ensure!(!other.exists(), "{} was made", other.display());
    ensure!(agents[0].is_running());
    assert_eq!(talk.road()?, Road::Fast);

    // What somebody left elsewhere is not taken out below the running agent, whose routes and neighbours look the same.
    fs::create_dir(&other)?;
    let detach = [env!("CARGO_BIN_EXE_underpass"), "detach", "--bpffs"];
    let detach = || node.run(&[&detach[..], &[&other.to_string_lossy()]].concat());
    let refused = detach().expect_err("taken out below a running agent");
    ensure!(format!("{refused:#}").contains(&expected), "{refused:#}");
    assert_eq!(talk.road()?, Road::Fast);
    for agent in agents {
        agent.terminate()?;
    }
    detach()?;
    ensure!(!other.exists());
    Ok(())
}
