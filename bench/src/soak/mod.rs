//! Agents that come, go, crash and change, under traffic of which every UDP packet and every byte of TCP is accounted
//! for.
//!
//! Two clusters of the same make have the same traffic, and what happens to the one happens to the other: pods come
//! and go, MACs change. Only the one has agents, so that the other shows what the kernel alone would have lost.

mod cluster;
mod event;
mod ledger;
mod report;
mod table;
mod talker;
mod traffic;
mod vitals;

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::interrupt::{self, nap};
use crate::measure::share::Counted;
use cluster::Cluster;
use event::{Event, Events, Happened, Kind};
use report::{Report, Seen};
use traffic::Traffic;
use vitals::Vitals;

/// From the end of one event to the next.
const PAUSE: Duration = Duration::from_millis(1500);
/// After agents have started, until their memory is called steady.
const SETTLE: Duration = Duration::from_secs(5);
/// The share of fast packets at the end, when nothing happens any more.
const MOSTLY_FAST: f64 = 0.9;

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program `underpass`.
    pub underpass: PathBuf,
    /// How long.
    pub during: Duration,
    /// Which events, in which order.
    pub seed: u64,
    /// Where packets for pods are taken up.
    pub ingress: Ingress,
    /// Where the figures and the agents' logs go.
    pub out: Option<PathBuf>,
}

/// `--ingress` of the agents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ingress {
    /// TC.
    #[default]
    Tc,
    /// XDP, on wires and into pods that it has something to carry on: whole frames, and GRO.
    Xdp,
}

impl Ingress {
    /// As the agent's command line has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tc => "tc",
            Self::Xdp => "xdp",
        }
    }
}

impl FromStr for Ingress {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "tc" => Ok(Self::Tc),
            "xdp" => Ok(Self::Xdp),
            _ => Err("it is tc or xdp".to_owned()),
        }
    }
}

/// Runs it and prints the table. False where something was lost or is left over. Ends early, in good order, where this
/// process is asked to stop.
///
/// # Errors
/// Where this is not root, or the clusters cannot be made.
pub fn run(options: &Options) -> Result<bool> {
    interrupt::catch()?;
    let mut soak = Soak::start(&options.underpass, options.ingress)?;
    let mut faults = Vec::new();
    if let Err(error) = soak.events(options) {
        // Whatever it is, the table tells what had been until then.
        if !interrupt::asked() {
            faults.push(format!("{error:#}"));
        }
    }
    let report = soak.end(options, faults)?;
    println!("{report}");
    Ok(report.is_clean())
}

struct Soak {
    began: Instant,
    with_agents: (Cluster, Traffic),
    without: (Cluster, Traffic),
    /// After [`Kind::Nothing`].
    happened: Vec<Happened>,
    /// What the pods that came for an event have sent and lost, there and here.
    visitors: Vec<[ledger::Account; 2]>,
    counted: Counted,
    first: Vec<Vitals>,
    backlog_drops: u64,
}

impl Soak {
    fn start(underpass: &Path, ingress: Ingress) -> Result<Self> {
        let mut with_agents = Cluster::new(underpass, ingress)?;
        let without = Cluster::new(underpass, ingress)?;
        with_agents.start_agents()?;
        let traffic = Traffic::start(&with_agents.lab)?;
        let twin = Traffic::start(&without.lab)?;
        nap(SETTLE)?;
        let first = with_agents.vitals()?;
        with_agents.count()?;
        Ok(Self {
            began: Instant::now(),
            with_agents: (with_agents, traffic),
            without: (without, twin),
            happened: vec![Happened {
                at_s: 0.0,
                kind: Kind::Nothing,
                node: 0,
            }],
            visitors: vec![Default::default()],
            counted: Counted::default(),
            first,
            backlog_drops: backlog_drops()?,
        })
    }

    fn events(&mut self, options: &Options) -> Result<()> {
        let mut events = Events::new(options.seed);
        let mut minute = 0;
        while self.began.elapsed() < options.during {
            nap(PAUSE)?;
            let event = events.draw();
            self.happen(event)
                .with_context(|| format!("{}, node{}", event.kind.name(), event.node))?;
            if self.began.elapsed().as_secs() / 60 > minute {
                minute = self.began.elapsed().as_secs() / 60;
                self.tell_minute(minute);
            }
        }
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Result<()> {
        self.count()?;
        self.happened.push(Happened {
            at_s: self.began.elapsed().as_secs_f64(),
            kind: event.kind,
            node: event.node,
        });
        self.visitors.push(Default::default());
        let sides = [&mut self.with_agents, &mut self.without];
        for (side, (cluster, traffic)) in sides.into_iter().enumerate() {
            traffic.mark();
            let account = cluster.play(event, || traffic.go_on())?;
            self.visitors[self.happened.len() - 1][side] = account;
            cluster.settle()?;
        }
        self.with_agents.1.go_on()?;
        self.without.1.go_on().context("without agents")?;
        let so_far = self.with_agents.1.so_far();
        eprintln!(
            "{:>6.1} s  {:<27} node{}  {} sent, {} not here (yet)",
            self.began.elapsed().as_secs_f64(),
            event.kind.name(),
            event.node,
            so_far.sent,
            so_far.lost
        );
        self.count()
    }

    fn count(&mut self) -> Result<()> {
        let more = self.with_agents.0.count()?;
        self.counted.fast += more.fast;
        self.counted.kernel += more.kernel;
        Ok(())
    }

    fn tell_minute(&self, minute: u64) {
        let bytes = self.with_agents.1.bytes() / 1_000_000;
        let events = self.happened.len() - 1;
        let counted = self.counted;
        eprintln!("minute {minute}: {events} events; {bytes} MB by TCP; {counted}");
    }

    fn end(self, options: &Options, mut faults: Vec<String>) -> Result<Report> {
        let (mut cluster, traffic) = self.with_agents;
        let seconds = self.began.elapsed().as_secs();
        let last = match cluster.settle().and_then(|()| cluster.vitals()) {
            Ok(last) => last,
            // Maybe in the midst of an event.
            Err(_) if interrupt::asked() => self.first.clone(),
            Err(error) => {
                faults.push(format!("in the end: {error:#}"));
                self.first.clone()
            }
        };
        if let Err(error) = is_fast_again(&mut cluster, &traffic)
            && !interrupt::asked()
        {
            faults.push(format!("in the end: {error:#}"));
        }
        let mut outcomes = [traffic.stop(), self.without.1.stop()];
        for (event, visitors) in self.visitors.iter().enumerate() {
            for (outcome, account) in outcomes.iter_mut().zip(visitors) {
                if let Some(sum) = outcome.accounts.get_mut(event) {
                    sum.add(*account);
                }
            }
        }
        match cluster.take_out() {
            Ok(left) => faults.extend(left.iter().map(|it| format!("left over on {it}"))),
            Err(error) => faults.push(format!("{error:#}")),
        }
        let [with_agents, without] = outcomes;
        let mut report = Report::new(Seen {
            seed: options.seed,
            seconds,
            happened: self.happened,
            with_agents,
            without,
            counted: self.counted,
            backlog_drops: backlog_drops()?.saturating_sub(self.backlog_drops),
            vitals: self.first.into_iter().zip(last).collect(),
            faults,
        });
        if let Some(out) = &options.out
            && let Err(error) = keep(out, &report, &cluster)
        {
            eprintln!("{error:#}");
            report.faults.push(format!("not all is kept: {error:#}"));
        }
        Ok(report)
    }
}

/// Where everything goes by the kernel nothing is lost, and nothing tried.
fn is_fast_again(cluster: &mut Cluster, traffic: &Traffic) -> Result<()> {
    cluster.count()?;
    traffic.go_on()?;
    cluster.count()?.at_least(MOSTLY_FAST)
}

fn keep(out: &Path, report: &Report, cluster: &Cluster) -> Result<()> {
    let path = out.join("soak.json");
    fs::write(&path, serde_json::to_string_pretty(report)?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    for log in cluster.logs()? {
        let copy = out.join(log.file_name().context("a log without a name")?);
        fs::copy(&log, &copy).with_context(|| format!("cannot write {}", copy.display()))?;
    }
    Ok(())
}

/// Packets that the queues of this machine's CPUs had no room for, since it booted (`netdev_max_backlog`).
fn backlog_drops() -> Result<u64> {
    const PATH: &str = "/proc/net/softnet_stat";
    let text = fs::read_to_string(PATH).with_context(|| format!("cannot read {PATH}"))?;
    // A line for each CPU; the second column, in hexadecimal.
    let columns = text
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1));
    Ok(columns
        .filter_map(|drops| u64::from_str_radix(drops, 16).ok())
        .sum())
}
