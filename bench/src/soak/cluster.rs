//! A cluster that things happen to.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, Map, MapData};
use underpass_common::map_names;
use underpass_common::settings::{LAYOUT_VERSION, Settings};

use super::Ingress;
use super::event::{Event, Kind, NODES, UNTOUCHED};
use super::ledger::Account;
use super::vitals::Vitals;
use crate::lab::{AgentOptions, AgentProcess, Families, Lab, Node, PodPlan};
use crate::leftovers::{self, LIBERAL};
use crate::measure::share::Counted;
use crate::traffic::{UdpFlow, announce};
use crate::{Backend, wait_for};

/// How long an agent may take to be ready, or to see what has changed.
const READY: Duration = Duration::from_secs(30);
/// The number of the pods that come and go.
const SPARE: usize = 3;

/// A cluster, with an agent on each node or with none.
#[derive(Debug)]
pub(super) struct Cluster {
    pub lab: Lab,
    ingress: Ingress,
    /// By node.
    agents: Vec<Option<AgentProcess>>,
    /// What was counted on each node when it was last looked at.
    counted: Vec<Counted>,
    /// What the sysctl was on each node.
    liberal: Vec<String>,
    /// How often a MAC has changed.
    macs: u8,
    /// How many pods have come.
    pods: u8,
}

impl Cluster {
    /// Makes it, without agents.
    pub(super) fn new(underpass: &Path, ingress: Ingress) -> Result<Self> {
        let by_xdp = ingress == Ingress::Xdp;
        let lab = Lab::builder()
            .whole_frames(by_xdp)
            .pod_gro(by_xdp)
            .nodes(NODES)
            .pods(2)
            .families(Families::Dual)
            .flannel_rules(true)
            .kube_proxy_rules(Backend::Iptables)
            .underpass(underpass)
            .build()?;
        let liberal = lab.nodes().iter().map(|node| node.read_sysctl(LIBERAL));
        Ok(Self {
            liberal: liberal.collect::<Result<_>>()?,
            counted: vec![Counted::default(); lab.nodes().len()],
            lab,
            ingress,
            agents: Vec::new(),
            macs: 0,
            pods: 0,
        })
    }

    /// Starts an agent on each node.
    pub(super) fn start_agents(&mut self) -> Result<()> {
        let agents = self.lab.start_agents(&self.options(), READY)?;
        self.agents = agents.into_iter().map(Some).collect();
        self.settle()
    }

    fn options(&self) -> AgentOptions {
        AgentOptions::default().args(["--ingress", self.ingress.name()])
    }

    fn has_agents(&self) -> bool {
        !self.agents.is_empty()
    }

    fn node(&self, number: usize) -> &Node {
        self.lab.node(number)
    }

    /// Has something happen. Returns what was sent and lost by a pod that came for it. `go_on` waits until the
    /// traffic has gone on.
    ///
    /// # Errors
    /// Where something does not work that must, whatever happens.
    pub(super) fn play(&mut self, event: Event, go_on: impl Fn() -> Result<()>) -> Result<Account> {
        let Event { kind, node, lot } = event;
        if kind == Kind::PodComes {
            return self.pod_comes(node);
        }
        if kind == Kind::MacChanges {
            self.mac_changes(node)?;
        } else if self.has_agents() {
            match kind {
                Kind::NodeLeaves => self.node_leaves(node, &go_on)?,
                Kind::FileBreaks => self.file_breaks(&go_on)?,
                Kind::KillAtStart => self.kill_at_start(node, lot)?,
                Kind::KillTwo => self.kill_two(&go_on)?,
                _ => self.agent_ends(kind, node, &go_on)?,
            }
        }
        Ok(Account::default())
    }

    /// Waits until every agent has taken up all peers and pods.
    ///
    /// # Errors
    /// Shows what `underpass status` says instead.
    pub(super) fn settle(&self) -> Result<()> {
        for node in self.lab.nodes().iter().filter(|_| self.has_agents()) {
            let what = format!("{} has taken up all peers and pods", node.name());
            wait_for(READY, &what, || {
                let (peers, pods) = self.seen(node)?;
                let wanted = (NODES - 1, node.pods().len());
                ensure!(
                    (peers, pods) == wanted,
                    "{peers} peers are ready, {pods} pods attached"
                );
                Ok(())
            })?;
        }
        Ok(())
    }

    /// How many peers are ready and pods attached.
    fn seen(&self, node: &Node) -> Result<(usize, usize)> {
        let status = self.lab.underpass_json(node, &["status"])?;
        let in_state = |list: &str, state: &str| {
            let entries = status[list].as_array().map_or(&[][..], Vec::as_slice);
            entries.iter().filter(|it| it["state"] == state).count()
        };
        Ok((in_state("peers", "ready"), in_state("pods", "attached")))
    }

    fn start(&mut self, node: usize) -> Result<()> {
        let options = self.options();
        let mut agent = self.lab.start_agent(self.node(node), &options)?;
        agent.wait_ready(READY)?;
        self.agents[node - 1] = Some(agent);
        Ok(())
    }

    fn take_agent(&mut self, node: usize) -> Result<AgentProcess> {
        let agent = self.agents[node - 1].take();
        let mut agent = agent.with_context(|| format!("node{node} has no agent"))?;
        ensure!(
            agent.is_running(),
            "the agent of node{node} has ended by itself; its log:\n{}",
            agent.log()
        );
        Ok(agent)
    }

    fn terminate(&mut self, node: usize) -> Result<()> {
        let status = self.take_agent(node)?.terminate()?;
        ensure!(
            status.success(),
            "the agent of node{node} ended with {status}"
        );
        Ok(())
    }

    fn agent_ends(
        &mut self,
        kind: Kind,
        node: usize,
        go_on: &impl Fn() -> Result<()>,
    ) -> Result<()> {
        match kind {
            Kind::Restart | Kind::Detach => self.terminate(node)?,
            _ => self.take_agent(node)?.kill()?,
        }
        match kind {
            Kind::Upgrade => self.pretend(node, LAYOUT_VERSION - 1)?,
            Kind::Downgrade => self.pretend(node, LAYOUT_VERSION + 1)?,
            Kind::Detach => {
                self.lab.underpass(self.node(node), &["detach"])?;
            }
            _ => {}
        }
        go_on().context("without an agent")?;
        self.start(node)
    }

    fn kill_two(&mut self, go_on: &impl Fn() -> Result<()>) -> Result<()> {
        for node in 1..UNTOUCHED {
            self.take_agent(node)?.kill()?;
        }
        go_on().context("without two agents")?;
        (1..UNTOUCHED).try_for_each(|node| self.start(node))
    }

    /// Now and then before anything is loaded, now and then with half of it attached.
    fn kill_at_start(&mut self, node: usize, lot: u64) -> Result<()> {
        /// Within this an agent is ready.
        const START_MS: u64 = 400;
        self.take_agent(node)?.kill()?;
        // Every other time what is left is to be given up as well.
        if lot.is_multiple_of(2) {
            self.pretend(node, LAYOUT_VERSION - 1)?;
        }
        let options = self.options();
        for life in [lot / 2, lot / 1_000, lot / 500_000] {
            let agent = self.lab.start_agent(self.node(node), &options)?;
            thread::sleep(Duration::from_millis(life % START_MS));
            agent.kill()?;
        }
        self.start(node)
    }

    /// Has the maps of a node say that they are of this version.
    fn pretend(&self, node: usize, version: u32) -> Result<()> {
        let path = self.lab.bpffs(self.node(node)).join(map_names::SETTINGS);
        let data = MapData::from_pin(&path)
            .with_context(|| format!("there is no map {}", path.display()))?;
        let mut array = Array::<_, Settings>::try_from(Map::Array(data))?;
        let mut settings = array.get(&0, 0)?;
        settings.layout_version = version;
        Ok(array.set(0, settings, 0)?)
    }

    fn node_leaves(&self, number: usize, go_on: &impl Fn() -> Result<()>) -> Result<()> {
        let leaving = self.node(number);
        let all = self.lab.nodes_list();
        self.lab
            .write_nodes_file(&all.clone().without(leaving.name()))?;
        for node in self.lab.nodes().iter().filter(|it| it.number() != number) {
            let what = format!("{} lets go of {}", node.name(), leaving.name());
            wait_for(READY, &what, || {
                let (peers, _) = self.seen(node)?;
                ensure!(peers < NODES - 1, "{peers} peers are ready");
                Ok(())
            })?;
        }
        go_on().context("without a node")?;
        self.lab.write_nodes_file(&all)
    }

    fn file_breaks(&self, go_on: &impl Fn() -> Result<()>) -> Result<()> {
        self.lab
            .write_nodes_text("kind: List\nitems:\n- kind: Node\n  metadata: {name: [\n")?;
        go_on().context("with a broken nodes file")?;
        self.lab.write_nodes_file(&self.lab.nodes_list())
    }

    /// A pod with the same address as the one before it, and another MAC.
    fn pod_comes(&mut self, node: usize) -> Result<Account> {
        const PACKETS: u64 = 300;
        self.pods = self.pods.wrapping_add(1);
        let plan = PodPlan::new(node, SPARE).mac([0x02, 0x51, 0, self.pods, 0, node as u8]);
        let pod = self.lab.add_pod(plan)?;
        let far = self.lab.pod(1 + node % NODES, 1);
        let mut account = Account::default();
        for (number, address) in (7300..).zip(far.addresses()) {
            let flow = UdpFlow::to((address, number).into()).packets(PACKETS);
            let report = flow.run(&pod, far)?;
            account.add(Account {
                sent: report.sent,
                lost: report.lost,
            });
        }
        for (number, address) in (7300..).zip(pod.addresses()) {
            let flow = UdpFlow::to((address, number).into()).packets(PACKETS);
            let report = flow.run(far, &pod)?;
            account.add(Account {
                sent: report.sent,
                lost: report.lost,
            });
        }
        self.lab.remove_pod(&pod)?;
        Ok(account)
    }

    fn mac_changes(&mut self, number: usize) -> Result<()> {
        self.macs = self.macs.wrapping_add(1);
        let node = self.node(number);
        let mac = [0x02, 0x4f, 0, 0, self.macs, number as u8];
        let text = mac.map(|byte| format!("{byte:02x}")).join(":");
        node.ip(&format!("link set {} address {text}\n", node.uplink()))?;
        let mut addresses = node.addresses().into_iter();
        addresses.try_for_each(|address| announce(node, node.uplink(), address, mac))
    }

    /// Packets that the agents' programs have counted since this was last asked; a node's first ones where its maps
    /// have been made anew since.
    ///
    /// # Errors
    /// Where `underpass status` fails.
    pub(super) fn count(&mut self) -> Result<Counted> {
        let mut sum = Counted::default();
        if !self.has_agents() {
            return Ok(sum);
        }
        for (node, before) in self.lab.nodes().iter().zip(&mut self.counted) {
            let now = Counted::of(&self.lab, node)?;
            let is_afresh = now.fast < before.fast || now.kernel < before.kernel;
            let new = if is_afresh { now } else { now.since(*before) };
            sum.fast += new.fast;
            sum.kernel += new.kernel;
            *before = now;
        }
        Ok(sum)
    }

    /// What each agent takes now.
    ///
    /// # Errors
    /// Where one has ended.
    pub(super) fn vitals(&self) -> Result<Vec<Vitals>> {
        let agents = self.agents.iter().zip(self.lab.nodes());
        agents
            .map(|(agent, node)| {
                let agent = agent.as_ref().context("an agent has ended")?;
                Vitals::of(agent.pid(), &self.lab.bpffs(node))
            })
            .collect()
    }

    /// Ends the agents and takes everything out: what is left all the same.
    ///
    /// # Errors
    /// Where an agent or `detach` fails.
    pub(super) fn take_out(&mut self) -> Result<Vec<String>> {
        let mut left = Vec::new();
        for number in 1..=self.agents.len() {
            if self.agents[number - 1].is_some() {
                self.terminate(number)?;
            }
            let node = self.node(number);
            self.lab.underpass(node, &["detach"])?;
            left.extend(leftovers::of(&self.lab, node, &self.liberal[number - 1])?);
        }
        Ok(left)
    }

    /// Logs of all agents that ever ran.
    pub(super) fn logs(&self) -> Result<Vec<PathBuf>> {
        let any = self.lab.file("any");
        let dir = any.parent().context("a file without a directory")?;
        let mut logs = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                logs.push(path);
            }
        }
        Ok(logs)
    }
}
