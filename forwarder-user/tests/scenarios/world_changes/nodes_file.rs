//! The nodes file cannot be read, or some of it cannot be believed.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use underpass::datapath::Pins;
use underpass::inspect::status;
use underpass_bench::lab::{AgentOptions, AgentProcess, Family};
use underpass_bench::{Lab, root_or_skip, wait_for, wait_until};

use super::view::{lines_since, wait_for_line};
use crate::common::{DEADLINE, lab, start_agents, with_families};
use crate::talk::{Road, Talk};

/// What an agent says when a file that it could not read is good again.
const GOOD_AGAIN: &str = "the nodes can be read again";

/// Texts that are no list of Nodes, each with what must be said about it.
const BROKEN: [(&str, &str); 9] = [
    ("", "empty"),
    ("# nobody here\n", "empty"),
    ("\u{0}\u{1}\u{2}", "not valid YAML"),
    ("{ \"kind\": \"List\", ", "not valid JSON"),
    ("kind: [List\nitems: ]\n", "not valid YAML"),
    ("nodes, all of them", "not a Kubernetes List of Nodes"),
    (
        "apiVersion: v1\nkind: PodList\nitems: []\n",
        "kind is \"PodList\"",
    ),
    (
        "apiVersion: v1\nkind: List\nitems: none\n",
        "items is text, not a list",
    ),
    (
        "apiVersion: v2\nkind: List\nitems: []\n",
        "apiVersion is \"v2\"",
    ),
];

/// Does something to the nodes file that makes it unreadable. The agent must say so once and
/// clearly, keep what it has, and say so once when the file is good again.
fn expect_one_clear_line(
    lab: &Lab,
    agent: &mut AgentProcess,
    talk: &Talk,
    spoil: impl FnOnce() -> Result<()>,
    what: &str,
) -> Result<()> {
    let before = agent.log().len();
    let new_lines = |agent: &AgentProcess, text: &str| lines_since(agent, before, text);
    spoil()?;
    wait_until(DEADLINE, "the agent complains", || {
        !new_lines(agent, "ERROR").is_empty()
    })?;
    let pins = Pins::new(lab.bpffs(lab.node(1)));
    wait_for(DEADLINE, "`status` shows it", || {
        let told = status::read(&pins)?.nodes_error;
        ensure!(
            told.as_ref().is_some_and(|told| told.contains(what)),
            "{told:?}"
        );
        Ok(())
    })?;
    assert_eq!(talk.road()?, Road::Fast);

    if lab.nodes_file().is_dir() {
        fs::remove_dir(lab.nodes_file())?;
    }
    lab.write_nodes_file(&lab.nodes_list())?;
    wait_until(DEADLINE, GOOD_AGAIN, || {
        !new_lines(agent, GOOD_AGAIN).is_empty()
    })?;
    let file = lab.nodes_file();
    let lines = new_lines(agent, "");
    let [error, good] = &lines[..] else {
        anyhow::bail!("other than two lines: {lines:#?}");
    };
    ensure!(error.contains(&*file.to_string_lossy()), "{error}");
    ensure!(
        error.contains(what) && error.contains("the last good nodes stay"),
        "{error}"
    );
    ensure!(good.contains(GOOD_AGAIN), "{good}");
    ensure!(agent.is_running());
    assert_eq!(talk.road()?, Road::Fast);
    Ok(())
}

#[test]
fn file_broken() -> Result<()> {
    if !root_or_skip("file_broken") {
        return Ok(());
    }
    with_families(the_last_good_nodes_stay)
}

fn the_last_good_nodes_stay(family: Family) -> Result<()> {
    let lab = lab().families(family).build()?;
    let mut agents = start_agents(&lab, &AgentOptions::default())?;
    let talk = Talk::new(&lab, lab.pod(1, 1), lab.pod(2, 1))?;
    talk.wait_for(Road::Fast)?;

    let agent = &mut agents[0];
    for (text, what) in BROKEN {
        let spoil = || lab.write_nodes_text(text);
        expect_one_clear_line(&lab, agent, &talk, spoil, what)
            .with_context(|| format!("{text:?}"))?;
    }
    let vanish = || Ok(fs::remove_file(lab.nodes_file())?);
    expect_one_clear_line(&lab, agent, &talk, vanish, "cannot read it: No such file")
        .context("vanished")?;
    let replace = || {
        fs::remove_file(lab.nodes_file())?;
        Ok(fs::create_dir(lab.nodes_file())?)
    };
    expect_one_clear_line(&lab, agent, &talk, replace, "not a regular file").context("a directory")
}

/// A file that is broken from the beginning: the agent waits for a good one, and says so.
#[test]
fn file_broken_at_start() -> Result<()> {
    if !root_or_skip("file_broken_at_start") {
        return Ok(());
    }
    with_families(nothing_is_set_up_before_a_good_one)
}

fn nothing_is_set_up_before_a_good_one(family: Family) -> Result<()> {
    let lab = lab().families(family).build()?;
    fs::remove_file(lab.nodes_file())?;
    let mut agents = [
        lab.start_agent(lab.node(1), &AgentOptions::default())?,
        lab.start_agent(lab.node(2), &AgentOptions::default())?,
    ];
    for agent in &agents {
        wait_for_line(agent, "cannot read it: No such file")?;
        assert_eq!(agent.get("/healthz")?.0, 200);
        assert_eq!(agent.get("/readyz")?.0, 503);
        assert_eq!(lines_since(agent, 0, "ERROR").len(), 1, "{}", agent.log());
    }
    let talk = Talk::new(&lab, lab.pod(1, 1), lab.pod(2, 1))?;
    assert_eq!(talk.road()?, Road::Kernel);

    lab.write_nodes_file(&lab.nodes_list())?;
    for agent in &mut agents {
        agent.wait_ready(DEADLINE)?;
    }
    talk.wait_for(Road::Fast)
}
