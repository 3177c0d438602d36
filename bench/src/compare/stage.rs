//! The contenders' clusters: two nodes each with a pod on each, and a switch between them; and for packets in transit
//! clusters of two segments.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::contender::Contender;
use super::course::{self, Course, Outcome, Pace, Ports};
use super::fib_helper::{FibHelper, Redirects};
use super::hooks_limit::HooksLimit;
use super::results::AgentMemory;
use super::run::Options;
use super::schedule::Turn;
use super::transit::{self, Transit};
use super::trial::{Target, Traffic, Trial};
use super::vxlan;
use crate::Backend;
use crate::lab::rules::{Protocol, Service};
use crate::lab::{AgentOptions, AgentProcess, Family, Host, Lab, Node, names};
use crate::measure::share::Counted;
use crate::measure::usage::{Memory, memory};

/// How long an agent may take until it is ready.
pub(super) const READY: Duration = Duration::from_secs(30);
/// The Service's number in the range of ClusterIPs. Those that only make the tables long begin at the low end.
const SERVICE: u16 = u16::MAX - 1;
/// Its ports, of both protocols.
const SERVICE_PORTS: Ports = Ports {
    target: 80,
    listen: 5201,
};
/// The share of a flow's packets that must be fast before a contender of Underpass counts as one.
pub(super) const FAST: f64 = 0.9;

/// All contenders, up and connected.
pub(super) struct Stage {
    stands: Vec<Stand>,
    transits: Vec<Transit>,
}

/// One contender's cluster.
struct Stand {
    contender: Contender,
    agents: Vec<AgentProcess>,
    /// Programs other than Underpass's.
    helper: Option<Box<dyn Redirects>>,
    /// Last, for the others live in it.
    lab: Lab,
}

impl Stage {
    /// Raises the clusters that the contenders need for their trials.
    pub fn raise(options: &Options, mut progress: impl FnMut(String)) -> Result<Self> {
        let (underpass, services) = (options.underpass.as_path(), options.services);
        let mut stands = Vec::new();
        // `node` has no cluster of its own.
        let mut wanted = contenders(options, false);
        if wanted.contains(&Contender::Node) && !wanted.contains(&Contender::Routes) {
            wanted.push(Contender::Routes);
        }
        for contender in wanted.into_iter().filter(|it| *it != Contender::Node) {
            crate::interrupt::check()?;
            progress(format!("raising {contender}"));
            let stand = Stand::raise(contender, underpass, services);
            stands.push(stand.with_context(|| format!("raising {contender}"))?);
        }
        let mut transits = Vec::new();
        for contender in contenders(options, true) {
            crate::interrupt::check()?;
            progress(format!("raising {contender} for packets in transit"));
            let transit = Transit::raise(contender, underpass, services);
            transits.push(transit.with_context(|| format!("raising {contender} for transit"))?);
        }
        Ok(Self { stands, transits })
    }

    /// One turn.
    pub fn run(&self, turn: Turn, pace: &Pace) -> Result<Outcome> {
        let Turn { trial, contender } = turn;
        if trial.target == Target::Transit {
            self.transit(contender)?.run(trial, pace)
        } else {
            course::run(trial, &self.course(contender, trial)?, pace)
        }
    }

    fn transit(&self, contender: Contender) -> Result<&Transit> {
        let found = self.transits.iter().find(|it| it.contender() == contender);
        found.with_context(|| format!("{contender} was not raised for packets in transit"))
    }

    fn stand(&self, contender: Contender) -> Result<&Stand> {
        let home = match contender {
            Contender::Node => Contender::Routes,
            other => other,
        };
        let found = self.stands.iter().find(|it| it.contender == home);
        found.with_context(|| format!("{contender} was not raised"))
    }

    /// Where a contender's trial begins and ends.
    fn course(&self, contender: Contender, trial: Trial) -> Result<Course<'_>> {
        let stand = self.stand(contender)?;
        let ports = match trial.target {
            Target::Service => SERVICE_PORTS,
            Target::Peer | Target::Outside | Target::Transit => Ports::same(SERVICE_PORTS.listen),
        };
        let (client, server): (&Host, &Host) = match (contender, trial.target) {
            (Contender::Wire | Contender::Node, Target::Peer) => {
                (stand.lab.node(1), stand.lab.node(2))
            }
            (_, Target::Outside) => (stand.lab.pod(1, 1), stand.lab.outside()),
            _ => (stand.lab.pod(1, 1), stand.lab.pod(2, 1)),
        };
        let address = match (contender, trial.target) {
            (Contender::Wire | Contender::Node, _) => stand.lab.node(2).address(),
            (_, Target::Peer | Target::Transit) => stand.lab.pod(2, 1).address(),
            (_, Target::Service) => service_address(),
            (_, Target::Outside) => names::outside_address(Family::V4),
        };
        Ok(Course {
            client,
            server,
            address,
            ports,
            keeps_gro: contender.has_whole_frames(),
        })
    }

    /// Runs traffic by every contender, so that caches are warm, and looks whether it took the way that the
    /// contender's name says.
    pub fn prove(
        &self,
        options: &Options,
        pace: &Pace,
        mut progress: impl FnMut(String),
    ) -> Result<()> {
        for contender in contenders(options, false) {
            crate::interrupt::check()?;
            progress(format!("proving that {contender} is what it should be"));
            let turn = Turn {
                trial: STREAM,
                contender,
            };
            self.run(turn, pace)
                .with_context(|| format!("{contender}: {STREAM}"))?;
            self.prove_one(contender)?;
        }
        for transit in &self.transits {
            let contender = transit.contender();
            crate::interrupt::check()?;
            progress(format!(
                "proving that {contender} is what it should be in transit"
            ));
            let proof = transit.prove(pace);
            proof.with_context(|| format!("{contender} is not what it should be in transit"))?;
        }
        Ok(())
    }

    /// After traffic of [`Target::Peer`] has been run.
    fn prove_one(&self, contender: Contender) -> Result<()> {
        let stand = self.stand(contender)?;
        let prove = || match contender {
            Contender::UnderpassXdp => stand.prove_xdp(),
            _ if contender.has_agents() => stand.prove_fast(),
            Contender::FibHelper | Contender::HooksLimit => stand.prove_redirected(),
            Contender::Vxlan => stand.prove_by_device(vxlan::DEVICE, "tx"),
            _ if contender.is_proxied() => stand.prove_tracked(true),
            _ => stand.prove_tracked(false),
        };
        prove().with_context(|| format!("{contender} is not what it should be"))
    }

    /// What the agents take.
    pub fn memory(&self) -> Result<Vec<AgentMemory>> {
        let stands = self.stands.iter().filter(|it| !it.agents.is_empty());
        stands
            .map(|stand| {
                let agents = stand.agents.iter();
                let each: Vec<_> = agents
                    .map(|agent| memory(agent.pid()))
                    .collect::<Result<_>>()?;
                let most = |kib: fn(&Memory) -> u64| each.iter().map(kib).max().unwrap_or_default();
                Ok(AgentMemory {
                    contender: stand.contender.to_string(),
                    resident: most(|it| it.resident_kib) * 1024,
                    peak: most(|it| it.peak_kib) * 1024,
                })
            })
            .collect()
    }
}

impl Stand {
    fn raise(contender: Contender, underpass: &Path, services: u16) -> Result<Self> {
        let lab = lab(contender, underpass)?;
        if contender.is_proxied() {
            // The one that is used stands in the middle of the others: kube-proxy has them in no order.
            let half = services / 2;
            lab.add_dummy_services(0..half)?;
            for service in services_to(lab.pod(2, 1).address()) {
                lab.add_service(&service)?;
            }
            lab.add_dummy_services(half..services)?;
        }
        if contender == Contender::Vxlan {
            vxlan::connect(&lab)?;
        }
        let helper: Option<Box<dyn Redirects>> = match contender {
            Contender::FibHelper => Some(Box::new(FibHelper::attach(&lab)?)),
            Contender::HooksLimit => Some(Box::new(HooksLimit::attach(&lab)?)),
            _ => None,
        };
        let agents = if contender.has_agents() {
            start_agents(&lab, contender)?
        } else {
            Vec::new()
        };
        Ok(Self {
            contender,
            agents,
            helper,
            lab,
        })
    }

    /// Nearly all packets between the pods are fast.
    fn prove_fast(&self) -> Result<()> {
        Counted::read(&self.lab)?.at_least(FAST)
    }

    /// Nearly all packets into the pods are carried by XDP.
    fn prove_xdp(&self) -> Result<()> {
        self.prove_fast()?;
        let (mut by_xdp, mut by_tc) = (0, 0);
        for node in self.lab.nodes() {
            by_xdp += transit::fast_packets(&self.lab, node, "from_wire_xdp")?;
            by_tc += transit::fast_packets(&self.lab, node, "from_wire")?;
        }
        let share = by_xdp as f64 / (by_xdp + by_tc).max(1) as f64;
        ensure!(
            share >= FAST,
            "XDP has carried {by_xdp} packets and TC {by_tc} in its place"
        );
        Ok(())
    }

    /// Such programs have redirected nearly all that came in by the uplinks, and as much that went out.
    fn prove_redirected(&self) -> Result<()> {
        let redirected = self.helper.as_ref().map_or(0, |it| it.packets());
        let mut crossed = 0;
        for node in self.lab.nodes() {
            crossed += packets(node, node.uplink(), "rx")? + packets(node, node.uplink(), "tx")?;
        }
        ensure!(
            redirected as f64 >= FAST * crossed as f64,
            "its programs have redirected {redirected} of {crossed} packets that crossed the uplinks"
        );
        Ok(())
    }

    /// Nearly all that node 1 has exchanged by its uplink went by this device of its own.
    fn prove_by_device(&self, device: &str, direction: &str) -> Result<()> {
        let node = self.lab.node(1);
        let (inside, outside) = (
            packets(node, device, direction)?,
            packets(node, node.uplink(), direction)?,
        );
        ensure!(
            inside as f64 >= FAST * outside as f64,
            "{inside} packets went by {device}, and {outside} by the uplink"
        );
        Ok(())
    }

    /// Conntrack follows the connections of node 1, or follows none.
    fn prove_tracked(&self, is_tracked: bool) -> Result<()> {
        let entries = self.lab.node(1).run(&["conntrack", "-L"])?;
        if !is_tracked {
            let known = entries.lines().count();
            ensure!(known == 0, "conntrack on node1 knows {known} connections");
            return Ok(());
        }
        let pod = self.lab.pod(1, 1).address();
        ensure!(
            entries.contains(&format!("src={pod} ")),
            "conntrack on node1 knows no connection of {pod}"
        );
        Ok(())
    }
}

/// The trial by which contenders are proven.
const STREAM: Trial = Trial {
    traffic: Traffic::Streams(1),
    target: Target::Peer,
    offload: true,
};

/// The contenders that have trials to run, with packets in transit or with others.
fn contenders(options: &Options, in_transit: bool) -> Vec<Contender> {
    let mut trials = options.trials.iter();
    if !trials.any(|trial| (trial.target == Target::Transit) == in_transit) {
        return Vec::new();
    }
    let proof = Trial {
        target: if in_transit {
            Target::Transit
        } else {
            Target::Peer
        },
        traffic: Traffic::Flood(64),
        ..STREAM
    };
    let contenders = options.contenders.iter().copied();
    contenders.filter(|it| it.runs(proof)).collect()
}

/// How many packets a device of a node has sent (`tx`) or received (`rx`); of a segment train, one.
fn packets(node: &Node, device: &str, direction: &str) -> Result<u64> {
    let said = node.run(&["ip", "-json", "-statistics", "link", "show", device])?;
    let links: serde_json::Value = serde_json::from_str(&said)?;
    links
        .pointer(&format!("/0/stats64/{direction}/packets"))
        .and_then(serde_json::Value::as_u64)
        .with_context(|| format!("ip tells no packets of {device}"))
}

fn lab(contender: Contender, underpass: &Path) -> Result<Lab> {
    let builder = Lab::builder()
        .name(&format!("{contender}-{}", std::process::id()))
        .underpass(underpass)
        .whole_frames(contender.has_whole_frames())
        .pod_gro(contender.has_whole_frames());
    let backend = match contender {
        Contender::RoutesProxiedNft => Backend::Nftables,
        _ => Backend::Iptables,
    };
    match contender {
        Contender::Wire => builder.pods(0).no_routes(),
        Contender::Vxlan => builder.no_routes(),
        _ if contender.is_proxied() => builder
            .outside()
            .flannel_rules(true)
            .kube_proxy_rules(backend),
        _ => builder,
    }
    .build()
}

fn start_agents(lab: &Lab, contender: Contender) -> Result<Vec<AgentProcess>> {
    let options = match contender {
        Contender::UnderpassAlways => AgentOptions::default().offload("always"),
        Contender::UnderpassXdp => AgentOptions::default().args(["--ingress", "xdp"]),
        _ => AgentOptions::default(),
    };
    lab.start_agents(&options, READY)
}

fn service_address() -> IpAddr {
    names::service_address(Family::V4, SERVICE)
}

/// The Service for both protocols: iperf3 steers UDP by TCP.
fn services_to(pod: IpAddr) -> [Service; 2] {
    [Protocol::Tcp, Protocol::Udp].map(|protocol| {
        let address = SocketAddr::new(service_address(), SERVICE_PORTS.target);
        let service = Service::new(&format!("bench-{protocol}"), protocol, address);
        service.backend(pod, SERVICE_PORTS.listen)
    })
}
