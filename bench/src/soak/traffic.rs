//! The traffic of one cluster: always on, and every packet and byte of it accounted for.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};

use super::ledger::{Account, share_out};
use super::talker::{Ask, Talker};
use crate::Lab;
use crate::lab::rules::{Protocol, Service};
use crate::lab::{Family, Host, Pod, names};
use crate::traffic::{
    Bulk, BulkTransfer, TcpClient, TcpEcho, UdpClient, UdpEcho, UdpFlow, UdpStream,
};
use crate::wait_until;

/// How long traffic may stand still after an event: TCP's timer doubles with every attempt.
const STANDSTILL: Duration = Duration::from_secs(30);
/// How long an answer by UDP may take before it is taken for lost.
const UDP_PATIENCE: Duration = Duration::from_secs(3);
/// How long a transfer may take to end.
const END: Duration = Duration::from_secs(30);

/// Steady flows: from a pod to a pod, each by node and number.
const STEADY: [(Place, Place, Family); 6] = [
    ((1, 1), (2, 1), Family::V4),
    ((2, 1), (1, 1), Family::V4),
    ((2, 2), (3, 1), Family::V6),
    ((3, 1), (2, 2), Family::V6),
    ((3, 2), (1, 2), Family::V4),
    ((1, 2), (3, 2), Family::V6),
];
const STEADY_RATE: u32 = 500;
/// Flows of packets without a pause, so many at a time: less than a CPU's queue holds.
const BURSTS: [(Place, Place, Family); 2] =
    [((1, 1), (3, 1), Family::V4), ((3, 1), (1, 1), Family::V6)];
const BURST: u32 = 64;
const BURST_RATE: u32 = 3200;
/// Transfers.
const TRANSFERS: [(Place, Place, Family); 3] = [
    ((1, 2), (2, 2), Family::V4),
    ((2, 1), (3, 2), Family::V6),
    ((3, 2), (1, 1), Family::V4),
];
const TRANSFER_BYTES_PER_S: u32 = 12_000_000;
/// Where a Service's questions come from, and the pods behind it.
const CLIENT: Place = (1, 2);
const BACKENDS: [Place; 2] = [(2, 2), (3, 2)];

const FLOW_PORT: u16 = 7000;
const TRANSFER_PORT: u16 = 7100;
const ECHO_PORT: u16 = 7200;
const SERVICE_PORT: u16 = 80;

/// A pod by its node and number.
type Place = (usize, usize);

/// What the traffic was in the end.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// UDP packets and questions, event by event.
    pub accounts: Vec<Account>,
    /// Bytes of TCP transfers that arrived, each as it was sent.
    pub bytes: u64,
    /// UDP packets that arrived twice.
    pub duplicated: u64,
    /// UDP packets that arrived after a later one.
    pub out_of_order: u64,
    /// UDP packets that a receiver's own buffer had no room for; these count as lost as well.
    pub overflowed: u64,
    /// What must not be, other than losses: transfers that broke.
    pub broken: Vec<String>,
    /// Losses, by the number of the event that had happened last.
    pub losses: Vec<(usize, String)>,
}

/// Traffic under way.
#[derive(Debug)]
pub(super) struct Traffic {
    flows: Vec<Marked<UdpStream>>,
    talkers: Vec<Marked<Talker>>,
    transfers: Vec<(String, BulkTransfer)>,
    _servers: (Vec<TcpEcho>, Vec<UdpEcho>),
}

/// With how much had been sent when each event began.
#[derive(Debug)]
struct Marked<T> {
    name: String,
    what: T,
    marks: Vec<u64>,
}

impl<T> Marked<T> {
    fn new(name: String, what: T) -> Self {
        let marks = vec![0];
        Self { name, what, marks }
    }
}

impl Traffic {
    /// Starts all of it.
    pub(super) fn start(lab: &Lab) -> Result<Self> {
        add_services(lab)?;
        let servers = (
            start_servers(lab, |pod| TcpEcho::start(pod, ECHO_PORT))?,
            start_servers(lab, |pod| UdpEcho::start(pod, ECHO_PORT))?,
        );
        Ok(Self {
            flows: start_flows(lab)?,
            transfers: start_transfers(lab)?,
            talkers: start_talkers(lab)?,
            _servers: servers,
        })
    }

    /// An event begins.
    pub(super) fn mark(&mut self) {
        for flow in &mut self.flows {
            flow.marks.push(flow.what.sent());
        }
        for talker in &mut self.talkers {
            talker.marks.push(talker.what.asked());
        }
    }

    /// Waits until all of it has gone on a little.
    ///
    /// # Errors
    /// Names what stands still instead.
    pub(super) fn go_on(&self) -> Result<()> {
        const PACKETS: u64 = 100;
        const BYTES: u64 = 1 << 20;
        let stands_still = |name: &str| format!("{name} goes on");
        // All goals first: what is waited for goes on together.
        let arrived = |it: &Marked<UdpStream>| it.what.received();
        let flows: Vec<_> = self.flows.iter().map(arrived).collect();
        let answered = |it: &Marked<Talker>| it.what.answered();
        let talkers: Vec<_> = self.talkers.iter().map(answered).collect();
        for (name, transfer) in &self.transfers {
            let more = transfer.wait_for_more(BYTES, STANDSTILL);
            more.with_context(|| stands_still(name))?;
        }
        for (flow, before) in self.flows.iter().zip(flows) {
            wait_until(STANDSTILL, &stands_still(&flow.name), || {
                flow.what.received() >= before + PACKETS
            })?;
        }
        for (talker, before) in self.talkers.iter().zip(talkers) {
            wait_until(STANDSTILL, &stands_still(&talker.name), || {
                talker.what.answered() > before
            })?;
        }
        Ok(())
    }

    /// UDP packets and questions so far, and how many of them have not arrived yet, or never will.
    pub(super) fn so_far(&self) -> Account {
        let mut sum = Account::default();
        let flows = self.flows.iter().map(|flow| &flow.what);
        let flows = flows.map(|flow| (flow.received(), flow.sent()));
        let talkers = self.talkers.iter().map(|talker| &talker.what);
        let talkers = talkers.map(|talker| (talker.answered(), talker.asked()));
        for (arrived, sent) in flows.chain(talkers) {
            let lost = sent.saturating_sub(arrived);
            sum.add(Account { sent, lost });
        }
        sum
    }

    /// Bytes of transfers so far.
    pub(super) fn bytes(&self) -> u64 {
        let transfers = self.transfers.iter();
        transfers.map(|(_, transfer)| transfer.received()).sum()
    }

    /// Ends it, and tells what became of all of it.
    pub(super) fn stop(self) -> Outcome {
        let mut outcome = Outcome::default();
        for (name, transfer) in self.transfers {
            match transfer.stop(END) {
                Ok(report) => outcome.bytes += report.bytes,
                Err(error) => outcome.broken.push(format!("{name}: {error:#}")),
            }
        }
        for talker in self.talkers {
            let asked = talker.what.asked();
            let failed = talker.what.stop();
            let numbers: Vec<_> = failed.iter().map(|(number, _)| *number).collect();
            let why = failed.first().map_or("", |(_, why)| why);
            let shared = share_out(&talker.marks, asked, &numbers);
            outcome.take(&talker.name, &shared, why);
        }
        for flow in self.flows {
            outcome.take_flow(flow);
        }
        outcome
    }
}

impl Outcome {
    fn take_flow(&mut self, flow: Marked<UdpStream>) {
        let report = match flow.what.stop() {
            Ok(report) => report,
            Err(error) => return self.broken.push(format!("{}: {error:#}", flow.name)),
        };
        self.duplicated += report.duplicated;
        self.out_of_order += report.out_of_order;
        self.overflowed += report.overflowed;
        let shared = share_out(&flow.marks, report.sent, &report.lost_ones);
        self.take(&flow.name, &shared, &report.send_error.unwrap_or_default());
    }

    /// Takes the accounts of one; `why` is the first that went wrong with it, if anything tells.
    fn take(&mut self, name: &str, accounts: &[Account], why: &str) {
        add(&mut self.accounts, accounts);
        let lossy = accounts.iter().enumerate().filter(|(_, it)| it.lost > 0);
        self.losses.extend(lossy.map(|(event, account)| {
            let loss = format!("{name}: {} of {} {why}", account.lost, account.sent);
            (event, loss.trim_end().to_owned())
        }));
    }
}

/// Adds accounts of the same events.
fn add(sums: &mut Vec<Account>, more: &[Account]) {
    sums.resize(sums.len().max(more.len()), Account::default());
    for (sum, account) in sums.iter_mut().zip(more) {
        sum.add(*account);
    }
}

fn pod(lab: &Lab, (node, number): Place) -> &Pod {
    lab.pod(node, number)
}

fn name(kind: &str, from: &Host, to: &Host, family: Family) -> String {
    format!("{kind} from {} to {}, {family}", from.name(), to.name())
}

fn start_servers<T>(lab: &Lab, start: impl Fn(&Pod) -> Result<T>) -> Result<Vec<T>> {
    let pods = lab.nodes().iter().flat_map(|node| node.pods());
    pods.map(start).collect()
}

fn start_flows(lab: &Lab) -> Result<Vec<Marked<UdpStream>>> {
    let steady = STEADY.map(|ends| ("UDP", ends, STEADY_RATE, 1));
    let bursts = BURSTS.map(|ends| ("UDP without a pause", ends, BURST_RATE, BURST));
    let mut flows = Vec::new();
    for (number, (kind, (from, to, family), rate, burst)) in
        steady.into_iter().chain(bursts).enumerate()
    {
        let (from, to) = (pod(lab, from), pod(lab, to));
        let port = FLOW_PORT + number as u16;
        let flow = UdpFlow::to(SocketAddr::new(to.address_of(family), port));
        let stream = flow.rate(rate).burst(burst).start(from, to)?;
        flows.push(Marked::new(name(kind, from, to, family), stream));
    }
    Ok(flows)
}

fn start_transfers(lab: &Lab) -> Result<Vec<(String, BulkTransfer)>> {
    let mut transfers = Vec::new();
    for (number, (from, to, family)) in TRANSFERS.into_iter().enumerate() {
        let (from, to) = (pod(lab, from), pod(lab, to));
        let port = TRANSFER_PORT + number as u16;
        let bulk = Bulk::to(SocketAddr::new(to.address_of(family), port));
        let transfer = bulk.pace(TRANSFER_BYTES_PER_S).start(from, to)?;
        transfers.push((name("TCP transfer", from, to, family), transfer));
    }
    Ok(transfers)
}

/// The ClusterIP of a family's Services.
fn service(family: Family) -> SocketAddr {
    SocketAddr::new(names::service_address(family, 1), SERVICE_PORT)
}

fn add_services(lab: &Lab) -> Result<()> {
    for family in Family::BOTH {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let mut rules = Service::new(&format!("echo-{protocol}"), protocol, service(family));
            for backend in BACKENDS {
                rules = rules.backend(pod(lab, backend).address_of(family), ECHO_PORT);
            }
            lab.add_service(&rules)?;
        }
    }
    Ok(())
}

fn start_talkers(lab: &Lab) -> Result<Vec<Marked<Talker>>> {
    /// Questions to a connection.
    const FEW: u64 = 50;
    const MANY: u64 = 1000;
    let direct = |family| SocketAddr::new(lab.pod(3, 1).address_of(family), ECHO_PORT);
    let client = pod(lab, CLIENT);
    let mut talkers = Vec::new();
    for family in Family::BOTH {
        for (to, target) in [
            ("node3-pod1", direct(family)),
            ("a Service", service(family)),
        ] {
            let called = |protocol| format!("{protocol} question and answer with {to}, {family}");
            let host = Host::clone(client);
            let connect = move || tcp(&host, target);
            let talker = Talker::start("tcp talker", MANY, connect)?;
            talkers.push(Marked::new(called("TCP"), talker));
            let host = Host::clone(client);
            let connect = move || udp(&host, target);
            let talker = Talker::start("udp talker", FEW, connect)?;
            talkers.push(Marked::new(called("UDP"), talker));
        }
    }
    Ok(talkers)
}

fn tcp(host: &Host, target: SocketAddr) -> Result<Ask> {
    let mut client = TcpClient::connect(host, target, STANDSTILL)?;
    Ok(Box::new(move |question| client.echo(question).map(drop)))
}

fn udp(host: &Host, target: SocketAddr) -> Result<Ask> {
    let client = UdpClient::connect(host, target)?;
    Ok(Box::new(move |question| {
        client.echo(question, UDP_PATIENCE).map(drop)
    }))
}
