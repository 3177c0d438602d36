//! Packets in transit: from a pod on one L2 segment to a pod on another, by a node that has an uplink on each. What a
//! contender is, is that node alone; the ends are the same for all.
//!
//! All wires carry whole frames, and nodes join what they receive (GRO), as behind NICs.

mod flood;
mod packets;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use self::flood::{Arrived, Course, flood};
use self::packets::Ends;
use super::contender::Contender;
use super::course::{self, Outcome, Pace, Ports};
use super::fib_helper::{FibHelper, Redirects as _};
use super::figure::Figure;
use super::stage::{FAST, READY};
use super::trial::{Traffic, Trial};
use crate::Backend;
use crate::lab::{AgentOptions, AgentProcess, Host, Lab, Node, names};
use crate::measure::tools::Measured;

/// The node between the segments, whose number comes last.
const ROUTER: usize = 3;
/// The port of TCP streams.
const PORT: u16 = 5201;
/// How long packets are sent to see which way they take.
const PROOF: Duration = Duration::from_millis(200);
/// How long a flood lasts for each second of a trial: no tool is asked that knows whole ones only, and more rounds tell
/// more.
const FLOOD: Duration = Duration::from_millis(400);
/// The TTL that packets begin with.
const TTL: u8 = 64;

/// One contender's cluster of two segments.
pub struct Transit {
    contender: Contender,
    agent: Option<AgentProcess>,
    fib_helper: Option<FibHelper>,
    /// Last, for the others live in it.
    lab: Lab,
}

impl Transit {
    /// Raises it, with so many idle Services where there is kube-proxy; `underpass` is the program.
    ///
    /// # Errors
    /// Where the lab does not come up, or what belongs to the contender does not start.
    pub fn raise(contender: Contender, underpass: &Path, services: u16) -> Result<Self> {
        let lab = lab(contender, underpass)?;
        if contender.is_proxied() {
            lab.add_dummy_services(0..services)?;
        }
        let router = lab.node(ROUTER);
        let fib_helper = match contender {
            Contender::FibHelper => Some(FibHelper::attach_on(std::slice::from_ref(router))?),
            Contender::FibHelperXdp => Some(FibHelper::attach_xdp(router)?),
            _ => None,
        };
        let agent = if contender.has_agents() {
            let mut agent = lab.start_agent(router, &options(contender))?;
            agent.wait_ready(READY)?;
            Some(agent)
        } else {
            None
        };
        Ok(Self {
            contender,
            agent,
            fib_helper,
            lab,
        })
    }

    /// Whose it is.
    pub fn contender(&self) -> Contender {
        self.contender
    }

    /// Its hosts.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Runs one trial.
    ///
    /// # Errors
    /// As [`course::run`], and where packets arrive that have not been routed.
    pub fn run(&self, trial: Trial, pace: &Pace) -> Result<Outcome> {
        match trial.traffic {
            Traffic::Flood(size) => {
                let duration = FLOOD * u32::try_from(pace.seconds.max(1))?;
                let measured = self.flood(size, duration, pace.client_cpu);
                measured.map(outcome).with_context(|| trial.to_string())
            }
            Traffic::Streams(_) => course::run(trial, &self.course(), pace),
            _ => bail!("{trial} is no test of packets in transit"),
        }
    }

    fn course(&self) -> course::Course<'_> {
        let server = self.lab.pod(2, 1);
        course::Course {
            client: self.lab.pod(1, 1),
            server,
            address: server.address(),
            ports: Ports::same(PORT),
            keeps_gro: true,
        }
    }

    fn flood(&self, payload: u16, duration: Duration, cpu: usize) -> Result<Measured<Arrived>> {
        let (router, switch) = (self.lab.node(ROUTER), self.lab.switch());
        let ports: Vec<_> = router.uplinks().collect();
        let [near, far] = ports[..] else {
            bail!("{} has not two uplinks", router.name())
        };
        let (near_port, far_port) = (near.switch_port(), far.switch_port());
        let sent = Ends {
            src_mac: self.lab.node(1).mac(),
            dst_mac: near.mac(),
            src: self.lab.pod(1, 1).ipv4(),
            dst: self.lab.pod(2, 1).ipv4(),
            ttl: TTL,
            payload,
        };
        let routed = Ends {
            src_mac: far.mac(),
            dst_mac: self.lab.node(2).mac(),
            ttl: TTL - 1,
            ..sent
        };
        let (from, sent): ((&Host, &str), _) = match self.contender {
            // Past the router, as if it had been there.
            Contender::Wire => ((router, far.interface()), routed),
            _ => ((switch, &near_port), sent),
        };
        let course = Course {
            from,
            to: (switch, &far_port),
            sent,
            routed,
        };
        flood(&course, duration, cpu)
    }

    /// Sends some, and looks whether the router is what the contender's name says.
    ///
    /// # Errors
    /// Where it is not, and as [`run`](Self::run).
    pub fn prove(&self, pace: &Pace) -> Result<()> {
        let before = self.carried()?;
        let arrived = self.flood(64, PROOF, pace.client_cpu)?.value.packets;
        let carried = self.carried()? - before;
        let router = self.lab.node(ROUTER);
        if self.contender.has_agents() || self.fib_helper.is_some() {
            ensure!(
                carried as f64 >= FAST * arrived as f64,
                "on {} its programs have carried {carried} packets, and {arrived} arrived",
                router.name()
            );
            return Ok(());
        }
        let entries = router.run(&["conntrack", "-L"])?;
        let is_tracked = entries.contains(&format!("src={} ", self.lab.pod(1, 1).address()));
        ensure!(
            is_tracked == self.contender.is_proxied(),
            "conntrack on {} knows {} connections",
            router.name(),
            entries.lines().count()
        );
        Ok(())
    }

    /// Packets that the contender's own programs have carried into or through the router by its uplinks.
    fn carried(&self) -> Result<u64> {
        if let Some(fib_helper) = &self.fib_helper {
            return Ok(fib_helper.packets());
        }
        if self.agent.is_none() {
            return Ok(0);
        }
        let hook = if self.contender.is_by_xdp() {
            "from_wire_xdp"
        } else {
            "from_wire"
        };
        fast_packets(&self.lab, self.lab.node(ROUTER), hook)
    }
}

/// Fast packets that a node has counted at a hook.
pub(super) fn fast_packets(lab: &Lab, node: &Node, hook: &str) -> Result<u64> {
    let status = lab.underpass_json(node, &["status"])?;
    let verdicts = status["verdicts"]
        .as_array()
        .context("status has no verdicts")?;
    let fast = verdicts
        .iter()
        .filter(|count| count["verdict"] == "fast" && count["hook"] == hook);
    Ok(fast
        .map(|count| count["packets"].as_u64().unwrap_or_default())
        .sum())
}

fn lab(contender: Contender, underpass: &Path) -> Result<Lab> {
    let builder = Lab::builder()
        .nodes(ROUTER)
        .second_segment(&[2], ROUTER)
        .underpass(underpass)
        .whole_frames(true);
    let backend = match contender {
        Contender::RoutesProxiedNft => Backend::Nftables,
        _ => Backend::Iptables,
    };
    let lab = match contender {
        // Without Flannel's: it would masquerade what passes between pods of others.
        _ if contender.is_proxied() => builder.kube_proxy_rules(backend),
        _ => builder,
    }
    .build()?;
    for node in lab.nodes() {
        for uplink in node.uplinks() {
            node.run(&["ethtool", "-K", uplink.interface(), "gro", "on"])?;
        }
    }
    Ok(lab)
}

fn options(contender: Contender) -> AgentOptions {
    let mut options = AgentOptions::default().args(["--extra-iface", names::SECOND_UPLINK]);
    if contender.is_always() {
        options = options.offload("always");
    }
    if contender.is_by_xdp() {
        options = options.args(["--ingress", "xdp"]);
    }
    options
}

fn outcome(measured: Measured<Arrived>) -> Outcome {
    let arrived = measured.value;
    let packets = arrived.packets as f64;
    Outcome::from([
        (Figure::PacketRate, packets / arrived.seconds),
        (
            Figure::CpuPerMillionPackets,
            measured.cpu_seconds * 1e6 / packets,
        ),
    ])
    .stolen(measured.stolen)
}
