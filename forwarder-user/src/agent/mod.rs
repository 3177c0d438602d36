//! The node agent: one loop, one writer.
//!
//! ```text
//! absorb events -> desired = plan(world) -> changes = diff(actual, desired) -> apply
//! ```
//!
//! Nothing is applied before the nodes and the kernel have both been read once. When the agent ends,
//! everything it set up stays and goes on working: programs, links and maps are pinned.

mod liberal;
mod limits;
mod look;
mod paces;
mod peers;
mod pod_gro;
mod report;
mod trace;

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::{info, warn};
use underpass_common::endpoint::Endpoint;
use underpass_common::packet_trace::Filter;

use crate::apply::Applier;
use crate::capabilities;
use crate::cli::LogFormat;
use crate::clock::unix_now;
use crate::config::{Config, Ingress, UplinkChoice};
use crate::datapath::attach::Mechanism;
use crate::datapath::pins::AgentLock;
use crate::datapath::{Attachments, LoadOptions, OnlyAgent, Pins, load};
use crate::events::{Announcer, Pace, notices};
use crate::metrics::{self, Health};
use crate::packet_trace::{self, PacketFilter, Tracer};
use crate::plan::{Plan, Uplink, plan};
use crate::stop;
use crate::world::netlink::{Event, Events, Netlink, XdpNews};
use crate::world::source::{Choice, Source};
use crate::world::{Kernel, World};
use crate::xdp::XdpMode;
use liberal::BeLiberal;
use limits::NeighbourLimits;
use paces::Paces;
use peers::PeerTeller;
use pod_gro::PodGro;
use report::Reporter;

/// How often the kernel's state is read whole, should an event have been missed.
const RESYNC: Duration = Duration::from_secs(60);
/// How often the endpoints are looked at: the programs learn them without telling.
const ENDPOINTS: Duration = Duration::from_secs(1);
/// How soon a failed attempt is repeated.
const RETRY: Duration = Duration::from_secs(1);

/// Names of what is done again and again, in the log.
const FOLLOWING: &str = "following what the kernel reports";
const READING: &str = "reading the kernel's network state";
const TRACING: &str = "reading what the programs tell of packets";

/// What the agent needs besides the plan's [`Config`].
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// Where the nodes come from.
    pub nodes: Choice,
    /// Where everything is pinned.
    pub pins: Pins,
    /// Entries of the flow table.
    pub max_flows: u32,
    /// Set `nf_conntrack_tcp_be_liberal` to 1.
    pub set_be_liberal: bool,
    /// Raise the limits of the kernel's neighbour tables where the peers do not fit.
    pub raise_neighbour_limits: bool,
    /// Where XDP runs, if it is asked for.
    pub xdp_mode: XdpMode,
    /// Switch GRO on at the pods' end of their veths.
    pub set_pod_gro: bool,
    /// Serve health and metrics here.
    pub listen: Option<SocketAddr>,
    /// Tell of these packets in the log.
    pub trace_packets: Option<PacketFilter>,
    /// How the log tells of them.
    pub log_format: LogFormat,
}

/// A running agent.
pub struct Agent {
    config: Config,
    source: Source,
    netlink: Netlink,
    events: Events,
    world: World,
    applier: Applier,
    reporter: Reporter,
    peers: PeerTeller,
    liberal: BeLiberal,
    limits: NeighbourLimits,
    pod_gro: PodGro,
    xdp_news: XdpNews,
    /// Writes Events, where there is an API to write them to.
    announcer: Option<Announcer>,
    health: Arc<Health>,
    known_endpoints: BTreeMap<IpAddr, Endpoint>,
    /// The uplinks of the newest plan, by interface index.
    uplinks: BTreeSet<u32>,
    /// Writes a line for each traced packet, where any are traced.
    tracer: Option<Tracer>,
    /// Something has changed and is not applied yet; not before this moment.
    due: Option<Instant>,
    /// The mirror of the kernel may lack something.
    needs_resync: bool,
    /// Nobody else is at work on these devices, nor on these pins.
    alone: OnlyAgent,
    paces: Paces,
    _lock: AgentLock,
}

impl Agent {
    /// Loads the programs, and reads what the kernel has. Attaches nothing yet.
    ///
    /// # Errors
    /// Where this machine is not fit, or another agent is at work here: one sentence.
    pub async fn start(config: Config, options: AgentOptions) -> Result<Self> {
        let pins = options.pins;
        pins.check_file_system()?;
        capabilities::require()?;
        let alone = OnlyAgent::take(pins.root()).await?;
        if let Some(doubt) = alone.doubt() {
            warn!("{doubt}");
        }
        pins.create()?;
        let lock = pins.lock()?;
        let announcer = match &options.nodes {
            Choice::File(_) => None,
            Choice::Kubernetes(access) => {
                let (access, name) = (access.clone(), &config.node_name);
                Some(Announcer::start(access, name, Pace::default()))
            }
        };
        let source = Source::open(options.nodes).await?;
        let filter = options.trace_packets.as_ref();
        let mut loaded = load(
            &pins,
            LoadOptions {
                max_flows: options.max_flows,
                xdp: config.ingress == Ingress::Xdp,
                packet_trace: filter.map_or(Filter::OFF, PacketFilter::to_programs),
            },
        )?;
        if let Some(reason) = &loaded.started_afresh {
            warn!(
                "the maps of an earlier agent cannot be kept, starting with empty ones: {reason}"
            );
        }
        let tracer = trace::start(filter, options.log_format, &mut loaded, &pins)?;
        let before = loaded.maps.agent()?;
        let (netlink, events) = Netlink::connect()?;
        let kernel = netlink.read_all().await?;
        let event_failures = announcer.as_ref().map(Announcer::failures);
        let health = Arc::new(Health::new(event_failures.unwrap_or_default()));
        health.kernel_read(unix_now());
        if let Some(address) = options.listen {
            metrics::serve(address, pins.clone(), Arc::clone(&health)).await?;
        }
        let reporter = Reporter::new(
            &config,
            options.xdp_mode,
            source.kind(),
            unix_now(),
            before.routing_digest,
        );
        let liberal = BeLiberal::new(options.set_be_liberal, pins.was_strict());
        let limits = NeighbourLimits::new(options.raise_neighbour_limits, pins.neighbour_limits());
        let pod_gro = PodGro::new(options.set_pod_gro && config.ingress == Ingress::Xdp);
        let xdp_news = match config.ingress {
            Ingress::Tc => XdpNews::none(),
            Ingress::Xdp => XdpNews::subscribe()?,
        };
        let attachments =
            Attachments::new(pins, Mechanism::of_this_kernel()).xdp_mode(options.xdp_mode);
        let applier = Applier::new(loaded, attachments, &config)?;
        info!(
            node = config.node_name,
            offload = ?config.offload,
            nodes = config.nodes_source,
            "agent {} started",
            env!("CARGO_PKG_VERSION")
        );
        Ok(Self {
            source,
            netlink,
            events,
            world: World {
                nodes: None,
                kernel,
            },
            applier,
            reporter,
            peers: PeerTeller::default(),
            liberal,
            limits,
            pod_gro,
            xdp_news,
            announcer,
            health,
            known_endpoints: BTreeMap::new(),
            uplinks: BTreeSet::new(),
            tracer,
            due: None,
            needs_resync: false,
            config,
            alone,
            paces: Paces::default(),
            _lock: lock,
        })
    }

    /// Runs until told to stop (SIGTERM, SIGINT), and leaves everything in place then.
    ///
    /// # Errors
    /// Where the kernel no longer tells what happens.
    pub async fn run(mut self) -> Result<()> {
        let mut told_to_stop = pin!(stop::told()?);
        let mut resync = interval(RESYNC);
        resync.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut endpoints = interval(ENDPOINTS);
        endpoints.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.look_at_xdp();
        self.read_nodes().await;
        loop {
            tokio::select! {
                () = &mut told_to_stop => break,
                events = self.events.next() => self.absorb(events?).await,
                () = self.source.changed() => self.read_nodes().await,
                told = self.xdp_news.next() => {
                    self.reporter.tried("hearing which devices take frames from XDP", told);
                    self.look_at_xdp();
                }
                _ = resync.tick() => self.resync().await,
                _ = endpoints.tick() => {
                    self.look_at_endpoints();
                    self.look_at_mtus();
                    self.look_at_source();
                    self.look_at_xdp();
                    self.look_for_onlookers().await;
                    self.tell_left_out();
                }
                () = at(self.due) => self.reconcile().await,
                written = packet_trace::write_lines(self.tracer.as_mut()) => self.lines_written(written),
                asking = self.alone.asked() => asking.answer(&self.paces.told()),
            }
        }
        info!("agent stopped; what it set up stays and goes on (`underpass detach` takes it out)");
        Ok(())
    }

    async fn absorb(&mut self, events: Vec<Event>) {
        if events.contains(&Event::Overrun) {
            self.health.overrun();
        }
        let absorbed = self.netlink.absorb_batch(&mut self.world.kernel, events);
        match self.reporter.tried(FOLLOWING, absorbed.await) {
            Some(absorbed) if absorbed.changed => self.mark_due(Duration::ZERO),
            Some(_) => {}
            None => self.resync_soon(),
        }
    }

    fn resync_soon(&mut self) {
        self.needs_resync = true;
        self.mark_due(RETRY);
    }

    async fn resync(&mut self) {
        let read = self.netlink.read_all().await;
        let Some(kernel) = self.reporter.tried(READING, read) else {
            return self.resync_soon();
        };
        let before = std::mem::take(&mut self.world.kernel);
        self.world.kernel = Kernel {
            xdp_targets: before.xdp_targets,
            onlookers: before.onlookers,
            ..kernel
        };
        self.needs_resync = false;
        self.health.kernel_read(unix_now());
        self.applier.forget_what_was_written();
        self.mark_due(Duration::ZERO);
    }

    /// Reads the nodes; where that fails the last good ones stay.
    async fn read_nodes(&mut self) {
        let reading = self.source.read().await;
        if let Some(nodes) = reading.nodes {
            self.world.nodes = Some(nodes);
            self.mark_due(Duration::ZERO);
        }
        match reading.error {
            Some(error) => {
                let kept = self.world.nodes.is_some();
                self.reporter.nodes_failed(error, kept);
            }
            None if self.world.nodes.is_some() => {
                self.reporter
                    .nodes_read(reading.warnings, reading.heard_unix_s);
            }
            None => {}
        }
        self.write_record();
    }

    async fn reconcile(&mut self) {
        self.due = None;
        if self.needs_resync {
            return self.resync().await;
        }
        let began = Instant::now();
        self.resolve_uplink().await;
        let Some(mut planned) = plan(&self.config, &self.world) else {
            return self.write_record();
        };
        if self.look_at_onlookers(&planned).await {
            planned = plan(&self.config, &self.world).unwrap_or(planned);
        }
        let plan = planned;
        self.reporter.tell_problems(&plan.problems);
        self.limits.keep(&plan);
        if let Some(announcer) = &self.announcer {
            let nodes = self.world.nodes.as_ref().map_or(0, Vec::len);
            announcer.tell(notices(&plan, &self.config.node_name), nodes);
        }
        let applied = self
            .applier
            .apply(&self.netlink, &self.world.kernel, &plan)
            .await;
        self.health.took(began.elapsed());
        self.paces.took(began.elapsed());
        match applied {
            Ok(()) => {
                self.health.reconciled();
                self.reporter.applied();
                self.health.neighbours_lost(self.peers.tell(&plan));
            }
            Err(error) => {
                self.health.failed();
                self.reporter.apply_failed(&format!("{error:#}"));
                self.mark_due(RETRY);
            }
        }
        self.liberal.keep();
        if self.pod_gro.keep(&plan, &self.world.kernel) {
            self.look_at_xdp();
        }
        let no_xdp = no_xdp(&plan, self.applier.xdp_refused());
        self.reporter.xdp(no_xdp.as_deref());
        self.uplinks = plan.uplinks.iter().map(|uplink| uplink.ifindex).collect();
        let uplink = plan.main_uplink().map_or(0, |uplink| uplink.ifindex);
        self.reporter.planned(uplink, plan.routing_digest);
        self.write_record();
    }

    /// What `status` shows of the agent.
    fn write_record(&mut self) {
        let record = self.reporter.record();
        let written = self.applier.write_record(&record);
        self.reporter.tried("writing the map agent", written);
    }

    /// Asks the kernel anew by which interface it reaches the address of `--iface-can-reach`.
    async fn resolve_uplink(&mut self) {
        if let UplinkChoice::Reach { target, ifindex } = &mut self.config.uplink {
            let found = self.netlink.route_to(*target).await;
            if let Some(found) = self
                .reporter
                .tried("asking for the way to --iface-can-reach", found)
            {
                *ifindex = found;
            }
        }
    }

    /// Where lines cannot be waited for, no more are: the agent has more important things to do.
    fn lines_written(&mut self, written: Result<()>) {
        if self.reporter.tried(TRACING, written).is_none() {
            self.tracer = None;
        }
    }

    fn tell_left_out(&mut self) {
        if let Some(tracer) = &mut self.tracer {
            self.reporter.tried(TRACING, tracer.tell_left_out());
        }
    }

    fn mark_due(&mut self, after: Duration) {
        let moment = Instant::now() + after;
        self.due = Some(self.due.map_or(moment, |due| due.min(moment)));
    }
}

/// Why XDP is not on each uplink where it was asked for; of several with their names.
fn no_xdp(plan: &Plan, refused: &BTreeMap<u32, String>) -> Option<String> {
    let is_one = plan.uplinks.len() == 1;
    let why = |uplink: &Uplink| {
        let ifindex = &uplink.ifindex;
        let why = plan.no_xdp.get(ifindex).or(refused.get(ifindex))?;
        Some(match is_one {
            true => why.clone(),
            false => format!("{}: {why}", uplink.name),
        })
    };
    let whys: Vec<String> = plan.uplinks.iter().filter_map(why).collect();
    (!whys.is_empty()).then(|| whys.join("; "))
}

/// Waits for a moment; for none, for ever.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}
