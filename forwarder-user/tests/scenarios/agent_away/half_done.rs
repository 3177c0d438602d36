//! Agents that are killed before they have done what they began: the next one, or `detach`, finishes it.

use std::fs;
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use aya::programs::ProgramInfo;
use underpass::datapath::attach::Mechanism;
use underpass::datapath::{Attachments, LoadOptions, Maps, Pins, load};
use underpass_bench::lab::{AgentOptions, Family, Node};
use underpass_bench::{Backend, Lab, root_or_skip};
use underpass_common::map_names;
use underpass_common::settings::LAYOUT_VERSION;
use underpass_common::verdict::Hook;

use crate::common::{DEADLINE, lab, start_agents, with_families};
use crate::streams::Traffic;
use crate::talk::{Road, Talk};

/// How many agents die young.
const LIVES: u32 = 24;

#[test]
fn agent_killed_as_it_starts() -> Result<()> {
    if !root_or_skip("agent_killed_as_it_starts") {
        return Ok(());
    }
    with_families(the_next_one_finishes_it)
}

fn the_next_one_finishes_it(family: Family) -> Result<()> {
    let lab = lab()
        .families(family)
        .kube_proxy_rules(Backend::Iptables)
        .build()?;
    let node = lab.node(1);
    let mut agents = start_agents(&lab, &AgentOptions::default())?;
    let traffic = Traffic::start(&lab)?;

    agents.remove(0).kill()?;
    let began = Instant::now();
    let mut agent = lab.start_agent(node, &AgentOptions::default())?;
    agent.wait_ready(DEADLINE)?;
    let start = began.elapsed();
    agent.kill()?;
    for life in 0..LIVES {
        // Every other one has all maps to give up as well.
        if life % 2 == 0 {
            make_old(&lab, node)?;
        }
        let agent = lab.start_agent(node, &AgentOptions::default())?;
        thread::sleep(start * life / LIVES);
        agent.kill()?;
        traffic.go_on(20)?;
    }

    let mut agent = lab.start_agent(node, &AgentOptions::default())?;
    agent.wait_ready(DEADLINE)?;
    traffic.go_on(100)?;
    expect_whole(&lab, node)?;
    traffic.expect_unharmed()?;
    Talk::new(&lab, lab.pod(1, 1), lab.pod(2, 1))?.wait_for(Road::Fast)?;
    ensure!(agent.terminate()?.success());
    lab.underpass(node, &["detach"])?;
    ensure!(!Pins::new(lab.bpffs(node)).root().exists());
    Ok(())
}

/// Has the maps, where there are any that say so, be of an older layout.
fn make_old(lab: &Lab, node: &Node) -> Result<()> {
    let Ok(mut maps) = Maps::open(&Pins::new(lab.bpffs(node))) else {
        return Ok(());
    };
    let mut settings = maps.settings()?;
    settings.layout_version = LAYOUT_VERSION - 1;
    maps.set_settings(&settings)
}

/// All maps, all programs and a link for each hook of each device are pinned, and nothing else.
fn expect_whole(lab: &Lab, node: &Node) -> Result<()> {
    let pins = Pins::new(lab.bpffs(node));
    let maps = Maps::open(&pins)?;
    ensure!(maps.settings()?.layout_version == LAYOUT_VERSION);
    for hook in Hook::TC {
        ProgramInfo::from_pin(pins.program(hook))?;
    }
    let hooks = {
        let pins = pins.clone();
        node.enter(|| Attachments::new(pins, Mechanism::of_this_kernel()).attached())?
    };
    // The uplink's and the one pod's; of XDP the uplink alone, where that is asked for.
    let of_tc = hooks.iter().filter(|(hook, _)| !hook.is_xdp());
    ensure!(of_tc.count() == 4, "{hooks:?}");
    let links = fs::read_dir(pins.links())?.count();
    ensure!(links == hooks.len(), "{links} link pins for {hooks:?}");
    Ok(())
}

#[test]
fn upgrade_broken_off_and_taken_out() -> Result<()> {
    if !root_or_skip("upgrade_broken_off_and_taken_out") {
        return Ok(());
    }
    for made in [Made::AllMaps, Made::SomeMaps] {
        with_families(|family| {
            connections_go_on(family, made).with_context(|| format!("{made:?}"))
        })?;
    }
    Ok(())
}

/// What a new agent had made when it was killed.
#[derive(Clone, Copy, Debug)]
enum Made {
    /// Its maps, in which nothing stands yet.
    AllMaps,
    /// Not all of them.
    SomeMaps,
}

/// It had attached nothing: the old programs still run, with maps that nobody can name any more.
fn connections_go_on(family: Family, made: Made) -> Result<()> {
    let lab = lab()
        .families(family)
        .kube_proxy_rules(Backend::Iptables)
        .build()?;
    let node = lab.node(1);
    let mut agents = start_agents(&lab, &AgentOptions::default())?;
    let traffic = Traffic::start(&lab)?;
    traffic.go_on(100)?;
    agents.remove(0).kill()?;
    make_old(&lab, node)?;
    let options = LoadOptions::default();
    let loaded = load(&Pins::new(lab.bpffs(node)), options)?;
    ensure!(loaded.started_afresh.is_some());
    drop(loaded);
    if let Made::SomeMaps = made {
        fs::remove_file(Pins::new(lab.bpffs(node)).map(map_names::PODS))?;
    }
    traffic.go_on(100)?;

    let said = lab.underpass(node, &["detach"])?;
    let liberal = node.read_sysctl("net.netfilter.nf_conntrack_tcp_be_liberal")?;
    ensure!(liberal == "0", "it is {liberal}: {said}");
    ensure!(!Pins::new(lab.bpffs(node)).root().exists());
    traffic.go_on(500)?;
    traffic.expect_unharmed()
}
