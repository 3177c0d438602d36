//! What a policy drops in FORWARD is never confirmed, and never gets past it: whichever side sends
//! first, and when both send at once.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Barrier;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use underpass_bench::lab::rules::Deny;
use underpass_bench::lab::{AgentOptions, Family, Pod};
use underpass_bench::traffic::{Frame, FrameSocket, PacketType, TcpClient, TcpEcho};
use underpass_bench::{Backend, Lab, root_or_skip, wait_until};
use underpass_common::verdict::{Hook, Verdict};

use crate::common::{
    self, DEADLINE, Datapath, Ends, NEVER, is_fast, start_agents, tcp, udp, with_both_and_families,
};

/// Each part has flows of its own: the rule is there before any of them.
const PORT: u16 = 5001;
const PACKETS: usize = 100;

#[test]
fn policy_deny() -> Result<()> {
    if !root_or_skip("policy_deny") {
        return Ok(());
    }
    with_both_and_families(|backend, family| {
        // At the node of the pod that must not send, and at that of the pod that must not be sent to.
        [1, 2].into_iter().try_for_each(|enforced_at| {
            pod_must_not_send(family, backend, enforced_at)
                .with_context(|| format!("enforced at node{enforced_at}"))
        })
    })
}

/// Who sends first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    FarSide,
    Pod,
    BothAtOnce,
}

fn pod_must_not_send(family: Family, backend: Backend, enforced_at: usize) -> Result<()> {
    let lab = common::lab()
        .families(family)
        .flannel_rules(true)
        .kube_proxy_rules(backend)
        .build()?;
    let (pod, far) = (lab.pod(1, 1), lab.pod(2, 1));
    let deny = Deny::all().from(pod.address()).to(far.address());
    lab.deny(lab.node(enforced_at), &deny)?;
    let agents = start_agents(&lab, &AgentOptions::default())?;
    let policy = Policy::at(&lab, enforced_at)?;

    let parts = [First::FarSide, First::Pod, First::BothAtOnce];
    for (port, first) in (PORT..).zip(parts) {
        datagrams(&lab, &policy, port, first).with_context(|| format!("UDP, first: {first:?}"))?;
        connection(&policy, pod, far, port, first)
            .with_context(|| format!("TCP, first: {first:?}"))?;
    }
    refusals(&lab, &policy).context("ICMP errors")?;

    // It was the policy, and nothing else.
    lab.undeny(lab.node(enforced_at), &deny)?;
    let (ours, theirs) = ends_of(pod, far, PORT);
    let (pod, far) = (socket(pod, PORT, theirs)?, socket(far, PORT, ours)?);
    wait_until(DEADLINE, "what is allowed is fast", || {
        let sent = pod.send(b"now?").and_then(|_| far.recv(&mut [0; 4]));
        sent.is_ok() && is_fast(&lab, &udp(ours, theirs)).unwrap_or(false)
    })?;
    drop(agents);
    Ok(())
}

/// The rule, what comes to it and what comes past it.
struct Policy {
    datapath: Datapath,
    entrance: Hook,
    /// Before the node that enforces it.
    door: FrameSocket,
    /// At the pod that must not be sent to.
    end: FrameSocket,
    from: IpAddr,
    to: IpAddr,
}

impl Policy {
    fn at(lab: &Lab, enforced_at: usize) -> Result<Self> {
        let (pod, far, node) = (lab.pod(1, 1), lab.pod(2, 1), lab.node(enforced_at));
        let (entrance, door) = match enforced_at {
            1 => (Hook::FromPod, pod.node_veth()),
            _ => (Hook::FromWire, node.uplink()),
        };
        Ok(Self {
            datapath: Datapath::of(lab, node)?,
            entrance,
            door: FrameSocket::open(node, door)?,
            end: FrameSocket::open(far, far.interface())?,
            from: pod.address(),
            to: far.address(),
        })
    }

    fn denies(&self, frame: &Frame) -> bool {
        frame.packet_type != PacketType::Outgoing && is_between(&frame.bytes, self.from, self.to)
    }

    /// Waits until so many packets that it denies have come to it.
    fn has_met(&self, packets: usize) -> Result<()> {
        for met in 0..packets {
            let what = format!("a packet that is denied, after {met} of them");
            self.door
                .expect(DEADLINE, &what, |frame| self.denies(frame))?;
        }
        Ok(())
    }

    /// Nothing that it denies has come past it, and nothing ever may.
    fn holds(&self, denied: &Ends) -> Result<()> {
        let past = self.end.next(NEVER, |frame| self.denies(frame))?;
        ensure!(past.is_none(), "past the policy: {past:02x?}");
        ensure!(
            !self.datapath.sends_fast(denied)?,
            "{denied:?} is sent fast"
        );
        let received = self.datapath.receives_fast(denied)?;
        ensure!(!received, "{denied:?} is received fast");
        let counts = self.datapath.counts()?;
        ensure!(counts.of(self.entrance, Verdict::Fast) == 0, "{counts:?}");
        self.door.drain(|_| false).map(drop)
    }
}

/// A UDP flow with packets in both directions, of which one is denied.
fn datagrams(lab: &Lab, policy: &Policy, port: u16, first: First) -> Result<()> {
    let (pod, far) = (lab.pod(1, 1), lab.pod(2, 1));
    let (ours, theirs) = ends_of(pod, far, port);
    let denied = udp(ours, theirs);
    let (pod, far) = (socket(pod, port, theirs)?, socket(far, port, ours)?);
    let send = |socket: &UdpSocket| -> Result<()> {
        (0..PACKETS).try_for_each(|_| socket.send(b"hello").map(drop))?;
        Ok(())
    };
    let far_sends = || {
        send(&far)?;
        let mut arrived = 0;
        wait_until(DEADLINE, "all that is allowed arrives", || {
            while pod.recv(&mut [0; 16]).is_ok() {
                arrived += 1;
            }
            arrived == PACKETS
        })
    };
    let pod_sends = || {
        send(&pod)?;
        policy.has_met(PACKETS)
    };
    match first {
        First::FarSide => {
            far_sends()?;
            pod_sends()?;
            far_sends()?;
        }
        First::Pod => {
            pod_sends()?;
            far_sends()?;
            pod_sends()?;
        }
        First::BothAtOnce => at_once(pod_sends, far_sends)?,
    }
    policy.holds(&denied)?;
    ensure!(
        is_fast(lab, &denied.answer())?,
        "what is allowed isn't fast"
    );
    Ok(())
}

/// A connection needs both directions, whoever opens it.
fn connection(policy: &Policy, pod: &Pod, far: &Pod, port: u16, first: First) -> Result<()> {
    let (ours, theirs) = ends_of(pod, far, port);
    let refused = |client: &Pod, to| {
        let connection = TcpClient::connect_from(client, port, to, NEVER);
        ensure!(connection.is_err(), "{} can connect", client.name());
        Ok(())
    };
    match first {
        First::FarSide => {
            let _server = TcpEcho::start(pod, port)?;
            refused(far, ours)?;
        }
        First::Pod => {
            let _server = TcpEcho::start(far, port)?;
            refused(pod, theirs)?;
        }
        // A simultaneous open (RFC 9293, 3.5), which needs no server.
        First::BothAtOnce => at_once(|| refused(pod, theirs), || refused(far, ours))?,
    }
    policy.has_met(1)?;
    policy.holds(&tcp(ours, theirs))
}

/// The pod doesn't want what it gets, and must not say so: its errors follow no flow of which only the
/// other direction is allowed.
fn refusals(lab: &Lab, policy: &Policy) -> Result<()> {
    const CLOSED: u16 = PORT - 1;
    let (pod, far) = (lab.pod(1, 1), lab.pod(2, 1));
    let (ours, theirs) = ends_of(pod, far, CLOSED);
    // As many errors as there are reasons.
    pod.sysctl(
        match Family::of(pod.address()) {
            Family::V4 => "net.ipv4.icmp_ratelimit",
            Family::V6 => "net.ipv6.icmp.ratelimit",
        },
        "0",
    )?;
    let far = socket(far, CLOSED, ours)?;
    for _ in 0..20 {
        far.send(b"anybody there?")?;
        policy.has_met(1)?;
    }
    policy.holds(&udp(ours, theirs))
}

/// Two things that begin at the same time.
fn at_once(
    one: impl FnOnce() -> Result<()> + Send,
    other: impl FnOnce() -> Result<()> + Send,
) -> Result<()> {
    let start = Barrier::new(2);
    thread::scope(|threads| {
        let one = threads.spawn(|| {
            start.wait();
            one()
        });
        start.wait();
        let other = other();
        one.join().map_err(|_| anyhow!("a sender panicked"))??;
        other
    })
}

/// The ends of a flow between two pods that use the same port.
fn ends_of(pod: &Pod, far: &Pod, port: u16) -> (SocketAddr, SocketAddr) {
    let end = |pod: &Pod| SocketAddr::new(pod.address(), port);
    (end(pod), end(far))
}

/// True for a frame with an IP packet from one address to another.
fn is_between(frame: &[u8], from: IpAddr, to: IpAddr) -> bool {
    let (at, addresses) = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => (26, [from.octets(), to.octets()].concat()),
        (IpAddr::V6(from), IpAddr::V6(to)) => (22, [from.octets(), to.octets()].concat()),
        _ => return false,
    };
    frame.get(12..14) == Some(&Family::of(from).ether_type())
        && frame.get(at..at + addresses.len()) == Some(&addresses)
}

/// A socket that is connected, so that it takes packets only from there, and never waits.
fn socket(pod: &Pod, port: u16, peer: SocketAddr) -> Result<UdpSocket> {
    pod.enter(|| {
        let socket = UdpSocket::bind((pod.address(), port))?;
        socket.connect(peer)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    })
}
