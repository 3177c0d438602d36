//! `docs/operating.md` and `docs/troubleshooting.md`: what they say to type on a node.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use underpass_bench::lab::{AgentOptions, AgentProcess};
use underpass_bench::{Lab, root_or_skip, skip};
use underpass_common::peer::{PeerState, Refusal};

use crate::blocks::{Block, blocks};
use crate::links::documents;
use crate::shell::Shell;
use crate::traffic::Traffic;
use crate::{DEADLINE, repository, try_block};

const OPERATING: &str = "docs/operating.md";
const TROUBLESHOOTING: &str = "docs/troubleshooting.md";

/// Of Debian's package xdp-tools.
const XDP_LOADER: &str = "xdp-loader ";

/// What of troubleshooting needs no cluster, and ends by itself.
const ON_A_NODE: [&str; 4] = ["underpass ", "bpftool ", "ip neighbour ", "ls "];

#[test]
fn every_command_for_operators_works() -> Result<()> {
    const TEST: &str = "every_command_for_operators_works";
    if !root_or_skip(TEST) {
        return Ok(());
    }
    let lab = Lab::builder()
        .underpass(env!("CARGO_BIN_EXE_underpass"))
        .build()?;
    let agents = lab.start_agents(&AgentOptions::default(), DEADLINE)?;
    let shell = Shell::new(&lab);
    let mut traffic = Traffic::start(&lab, &shell)?;

    let operating = repository(OPERATING);
    let of_operating = blocks(&operating);
    ensure!(of_operating.len() >= 8, "it has lost its commands");
    let has_curl = shell.run("curl --version").is_ok();
    for block in of_operating {
        if block.script.contains(XDP_LOADER) {
            // With agents of its own, below.
            continue;
        }
        if block.script.contains("curl ") && !has_curl {
            skip(TEST, "there is no curl here: the metrics are not looked at");
            continue;
        }
        try_block(&block, &shell, &mut traffic)?;
    }

    settings_are_told(&operating, &shell.run("underpass agent --help")?)?;
    let troubleshooting = repository(TROUBLESHOOTING);
    let of_troubleshooting = lines_for_a_node(&troubleshooting);
    ensure!(of_troubleshooting.len() >= 6, "{of_troubleshooting:?}");
    for script in of_troubleshooting {
        let block = Block {
            heading: "",
            script,
            shown: None,
        };
        try_block(&block, &shell, &mut traffic)?;
    }
    for document in [operating, troubleshooting] {
        metrics_are_served(&document, &agents[0])?;
    }
    Ok(())
}

/// What tools of others say of the program on the uplink, where agents have put one there.
#[test]
fn xdp_loader_names_our_program() -> Result<()> {
    const TEST: &str = "xdp_loader_names_our_program";
    if !root_or_skip(TEST) {
        return Ok(());
    }
    let lab = Lab::builder()
        .underpass(env!("CARGO_BIN_EXE_underpass"))
        .build()?;
    let shell = Shell::new(&lab);
    if shell.run("command -v xdp-loader").is_err() {
        skip(
            TEST,
            "there is no xdp-loader here (Debian and Ubuntu: xdp-tools)",
        );
        return Ok(());
    }
    let options = AgentOptions::default().args(["--ingress", "xdp"]);
    let _agents = lab.start_agents(&options, DEADLINE)?;
    let mut traffic = Traffic::start(&lab, &shell)?;
    let operating = repository(OPERATING);
    let of_xdp_loader = blocks(&operating).into_iter();
    let of_xdp_loader = of_xdp_loader.filter(|block| block.script.contains(XDP_LOADER));
    let of_xdp_loader: Vec<_> = of_xdp_loader.collect();
    ensure!(!of_xdp_loader.is_empty(), "it has lost its command");
    for block in of_xdp_loader {
        let shown = block.shown.context("it has lost its picture")?;
        ensure!(shown.contains("from_wire_xdp"), "{shown}");
        try_block(&block, &shell, &mut traffic)?;
    }
    Ok(())
}

/// Whoever types and sees it has a terminal of 80 columns.
#[test]
fn what_is_typed_and_shown_fits_a_terminal() {
    let document = repository(OPERATING);
    let blocks = blocks(&document);
    let shown: Vec<_> = blocks.iter().filter_map(|block| block.shown).collect();
    assert!(shown.len() >= 7, "it has lost its pictures");
    // All that stands between fences, pictures of no command as well.
    let fenced = document.split("\n```").skip(1).step_by(2);
    let lines = fenced.flat_map(str::lines);
    let wide: Vec<_> = lines.filter(|line| line.chars().count() > 80).collect();
    assert!(wide.is_empty(), "wider than 80 columns: {wide:#?}");
}

/// So has who reads the other documents, where pictures of screens are concerned.
#[test]
fn every_picture_fits_a_terminal() -> Result<()> {
    let mut pictures = 0;
    for name in documents()? {
        let document = repository(&name);
        for picture in document.split("```text\n").skip(1) {
            let picture = picture.split("```").next().unwrap_or_default();
            let wide = picture.lines().find(|line| line.chars().count() > 80);
            ensure!(wide.is_none(), "{name}: wider than 80 columns: {wide:?}");
            pictures += 1;
        }
    }
    ensure!(pictures >= 20, "pictures are lost: {pictures}");
    Ok(())
}

/// Troubleshooting has a node's state in the words that `underpass peers` has for it.
#[test]
fn states_are_named_as_peers_names_them() {
    let document = repository(TROUBLESHOOTING);
    for state in [
        PeerState::KernelRoutesElsewhere,
        PeerState::OtherMtu,
        PeerState::NotOnLink,
    ] {
        let words = format!("- `{}`: ", state.name().replace('_', " "));
        assert!(document.contains(&words), "no {words}");
    }
    let refused = format!("`refused: {}`", Refusal::OutsideClusterCidr.description());
    assert!(document.contains(&refused), "no {refused}");
}

fn lines_for_a_node(document: &str) -> BTreeSet<&str> {
    let lines = blocks(document)
        .into_iter()
        .flat_map(|it| it.script.lines());
    lines
        .filter(|line| ON_A_NODE.iter().any(|start| line.starts_with(start)))
        .collect()
}

/// Each option of the agent has its place in the table.
fn settings_are_told(document: &str, help: &str) -> Result<()> {
    let options = help.lines().filter_map(|line| {
        let name = line.trim_start().strip_prefix("--")?;
        name.split(' ').next()
    });
    let options: Vec<_> = options.collect();
    ensure!(options.len() > 10, "{options:?}");
    for option in options {
        let told = [format!("`{option}`"), format!("`--{option}`")];
        ensure!(
            told.iter().any(|it| document.contains(it)),
            "{option} is not told of"
        );
    }
    Ok(())
}

/// Each metric that a document names is one that the agent serves.
fn metrics_are_served(document: &str, agent: &AgentProcess) -> Result<()> {
    let (_, served) = agent.get("/metrics")?;
    let is_of_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let words = document.split(|c| !is_of_name(c));
    let metrics: BTreeSet<_> = words
        .filter(|word| word.starts_with("underpass_"))
        .collect();
    metrics.first().context("no metric is named")?;
    for metric in metrics {
        // Of what has no sample now, the type is there.
        let is_it = |line: &str| line.trim_start_matches("# TYPE ").starts_with(metric);
        ensure!(served.lines().any(is_it), "nobody serves {metric}");
    }
    Ok(())
}
