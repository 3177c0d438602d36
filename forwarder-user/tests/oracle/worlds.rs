//! Both worlds side by side: the kernel alone, and the kernel with Underpass.

use std::thread;

use anyhow::{Context, Result, ensure};
use underpass::datapath::Maps;
use underpass_bench::lab::AgentProcess;

use super::climate::Climate;
use super::counters::{self, KernelCounts, Past};
use super::exits::{Outcome, pin_to_cpu};
use super::frames::Injection;
use super::world::World;

pub struct Worlds {
    kernel: World,
    underpass: World,
    /// `None` while it is away.
    agent: Option<AgentProcess>,
    pub maps: Maps,
    /// What the kernels had counted when all was ready.
    before: [KernelCounts; 2],
}

impl Worlds {
    /// # Errors
    /// Where a world can't be made, or an agent does not get ready.
    pub fn build(climate: Climate) -> Result<Self> {
        let mut kernel = World::build(climate)?;
        let mut underpass = World::build(climate)?;
        kernel.wait_until_up()?;
        underpass.wait_until_up()?;
        if climate.is_by_xdp {
            kernel.pass_by_xdp()?;
        }
        let (agent, maps) = underpass.start_agent()?;
        play([&mut kernel, &mut underpass], &[])?;
        Ok(Self {
            before: [KernelCounts::of(&kernel)?, KernelCounts::of(&underpass)?],
            kernel,
            underpass,
            agent: Some(agent),
            maps,
        })
    }

    /// Puts a batch into both; the outcomes are in the order of the fields.
    ///
    /// # Errors
    /// Where not all could be caught.
    pub fn play(&mut self, batch: &[Injection]) -> Result<[Vec<Outcome>; 2]> {
        play([&mut self.kernel, &mut self.underpass], batch)
    }

    /// Runs lines of `ip` commands on both nodes.
    ///
    /// # Errors
    /// At the first line that fails.
    pub fn ip(&self, lines: &str) -> Result<()> {
        self.kernel.lab.node(1).ip(lines)?;
        self.underpass.lab.node(1).ip(lines)
    }

    /// Runs a command on both nodes.
    ///
    /// # Errors
    /// Where it fails.
    pub fn run(&self, command: &[&str]) -> Result<()> {
        self.kernel.lab.node(1).run(command)?;
        self.underpass.lab.node(1).run(command).map(drop)
    }

    /// Kills the agent, as a crash would.
    ///
    /// # Errors
    /// Where it has ended by itself.
    pub fn kill_agent(&mut self) -> Result<()> {
        self.check_agent()?;
        self.agent.take().map_or(Ok(()), AgentProcess::kill)
    }

    /// Starts an agent again, on the pins that the last one has left.
    ///
    /// # Errors
    /// Where it does not get ready.
    pub fn restart_agent(&mut self) -> Result<()> {
        // That it is asked whether it is ready is traffic, too.
        let before = KernelCounts::of(&self.underpass)?;
        let (agent, maps) = self.underpass.start_agent()?;
        let asked = KernelCounts::of(&self.underpass)?.since(&before);
        self.before[1] = self.before[1].plus(&asked);
        (self.agent, self.maps) = (Some(agent), maps);
        Ok(())
    }

    /// # Errors
    /// Where the agent has ended by itself.
    pub fn check_agent(&mut self) -> Result<()> {
        let agent = self.agent.as_mut().context("no agent is running")?;
        ensure!(agent.is_running(), "the agent has ended:\n{}", agent.log());
        Ok(())
    }

    /// Compares what the kernels have counted. `past`: packets of each family that have gone past one
    /// of them.
    ///
    /// # Errors
    /// Where they differ by anything else.
    pub fn compare_counters(&self, past: [Past; 2]) -> Result<()> {
        let [kernel, underpass] = &self.before;
        counters::compare(
            &KernelCounts::of(&self.kernel)?.since(kernel),
            &KernelCounts::of(&self.underpass)?.since(underpass),
            past,
        )
    }
}

fn play(worlds: [&mut World; 2], batch: &[Injection]) -> Result<[Vec<Outcome>; 2]> {
    let mut number = 0;
    let [kernel, underpass] = thread::scope(|threads| {
        worlds
            .map(|world| {
                let cpu = number;
                number += 1;
                threads.spawn(move || {
                    pin_to_cpu(cpu)?;
                    world.exits.play(batch)
                })
            })
            .map(|thread| thread.join().expect("it does not panic"))
    });
    Ok([
        kernel.context("the kernel's world")?,
        underpass.context("Underpass's world")?,
    ])
}
