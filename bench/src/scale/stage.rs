//! One node of a large cluster: the agent on it, a segment on which all peers answer, and the API.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;

use super::Routes;
use super::cluster::{self, Peer};
use super::maps::Tries;
use super::node::node;
use crate::api_server::ApiServer;
use crate::interrupt;
use crate::lab::names::UPLINK;
use crate::lab::{AgentOptions, AgentProcess, Families, Lab, Node};

/// How long a start may take.
const DEADLINE: Duration = Duration::from_secs(180);
/// Between two looks at the maps while they are being filled. A look takes a while of its own.
const LOOK: Duration = Duration::from_millis(5);

/// A started agent whose maps hold everything.
pub(super) struct Running {
    pub agent: AgentProcess,
    pub tries: Tries,
    pub server: Arc<ApiServer>,
    /// From the last byte of the list to the last map entry; the look that found it is included.
    pub after_list: Duration,
    /// From the agent's start to the last map entry.
    pub after_start: Duration,
}

/// The lab.
pub(super) struct Stage {
    lab: Lab,
    peers: usize,
    /// Peers to whose other podCIDRs there are routes as well.
    actors: Vec<Peer>,
}

impl Stage {
    /// Makes it.
    pub(super) fn new(underpass: &Path, peers: usize, actors: usize) -> Result<Self> {
        let lab = Lab::builder()
            .nodes(1)
            .pods(1)
            .outside()
            .families(Families::Dual)
            .underpass(underpass)
            .build()?;
        lab.node(1).ip(&cluster::join_segment())?;
        let answering = lab.outside();
        answering.sysctls(&[
            ("net.ipv4.conf.all.rp_filter", "0"),
            (&format!("net.ipv4.conf.{UPLINK}.rp_filter"), "0"),
            ("net.ipv6.conf.all.forwarding", "1"),
            (&format!("net.ipv6.conf.{UPLINK}.proxy_ndp"), "1"),
            (&format!("net.ipv6.neigh.{UPLINK}.proxy_delay"), "0"),
        ])?;
        answering.ip(&cluster::answer_for(peers))?;
        Ok(Self {
            lab,
            peers,
            actors: (0..actors).map(Peer).collect(),
        })
    }

    fn node(&self) -> &Node {
        self.lab.node(1)
    }

    /// Makes the routes of a CNI, or takes them away.
    pub(super) fn cni_routes(&self, verb: &str) -> Result<()> {
        let routes = cluster::routes(verb, self.peers, &self.actors);
        self.node().ip(&routes)
    }

    /// Starts an API server and an agent that knows nothing yet, and waits until the maps hold
    /// every podCIDR.
    pub(super) fn start(&self, routes: Routes, arguments: &[String]) -> Result<Running> {
        let listener = self.node().enter(|| {
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("there is no free port")
        })?;
        let server = Arc::new(ApiServer::on(listener, []));
        let own = self.node();
        server.set(node(own.name(), &own.addresses(), &own.pod_cidrs(), 0));
        for peer in (0..self.peers).map(Peer) {
            server.set(node(&peer.name(), &peer.addresses(), &peer.pod_cidrs(), 0));
        }
        let options = AgentOptions::default()
            .kubeconfig(self.kubeconfig(&server)?)
            .args(["--routes", routes.name()])
            .args(arguments);
        let began = Instant::now();
        let mut agent = self.lab.start_agent(own, &options)?;
        let (tries, full) = self
            .wait_until_full(&mut agent)
            .with_context(|| format!("the agent's log:\n{}", tail(&agent.log())))?;
        let listed = server.said().listed.context("no list was asked for")?;
        Ok(Running {
            agent,
            tries,
            server,
            after_list: full.saturating_duration_since(listed),
            after_start: full - began,
        })
    }

    /// Ends the agent and takes everything out.
    pub(super) fn stop(&self, running: Running) -> Result<()> {
        running.agent.terminate()?;
        self.lab.underpass(self.node(), &["detach"])?;
        // As after a boot: nobody is known.
        self.node()
            .ip(&format!("neigh flush dev {UPLINK} nud all\n"))
    }

    fn kubeconfig(&self, server: &ApiServer) -> Result<std::path::PathBuf> {
        let path = self.lab.file("kubeconfig");
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "agent"}}],
            "clusters": [{"name": "here", "cluster": {"server": server.url()}}],
            "users": [{"name": "agent", "user": {"token": "none"}}],
        });
        fs::write(&path, text.to_string())
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// The tries, and when they were seen to hold everything.
    fn wait_until_full(&self, agent: &mut AgentProcess) -> Result<(Tries, Instant)> {
        let pins = self.lab.bpffs(self.node());
        let end = Instant::now() + DEADLINE;
        let ends = [Peer(0), Peer(self.peers - 1)];
        let ends: Vec<_> = ends.iter().flat_map(|peer| peer.pod_cidrs()).collect();
        let mut opened = None;
        loop {
            interrupt::check()?;
            ensure!(agent.is_running(), "the agent has ended");
            if opened.is_none() {
                opened = Tries::open(&pins).ok();
            }
            // The whole is counted only where its ends are there.
            if let Some(tries) = &opened
                && ends.iter().all(|cidr| tries.has(cidr).unwrap_or(false))
                && tries.count()? == 2 * self.peers
            {
                let seen = Instant::now();
                return opened.map(|tries| (tries, seen)).context("no tries");
            }
            if Instant::now() > end {
                let found = opened.as_ref().map(Tries::count).transpose()?;
                bail!(
                    "after {DEADLINE:?} the maps hold {found:?} of {} entries",
                    2 * self.peers
                );
            }
            thread::sleep(LOOK);
        }
    }
}

/// The end of a log.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}
