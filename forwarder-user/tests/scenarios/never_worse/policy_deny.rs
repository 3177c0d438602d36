//! What a policy drops in FORWARD is never confirmed.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};

use anyhow::{Context, Result, ensure};
use underpass_bench::lab::rules::Deny;
use underpass_bench::lab::{AgentOptions, Family, Pod};
use underpass_bench::traffic::{TcpClient, TcpEcho};
use underpass_bench::{Backend, Lab, root_or_skip, wait_for, wait_until};
use underpass_common::verdict::{Hook, Verdict};

use crate::common::{
    self, DEADLINE, Datapath, Ends, NEVER, answer_to, is_fast, start_agents, tcp, udp,
    with_both_and_families,
};

const PORT: u16 = 5001;
const CLIENT_PORT: u16 = 41_000;

#[test]
fn policy_deny() -> Result<()> {
    if !root_or_skip("policy_deny") {
        return Ok(());
    }
    with_both_and_families(|backend, family| {
        // At the node of the pod that must not send, and at that of the pod that must not be sent to.
        [1, 2].into_iter().try_for_each(|enforced_at| {
            pod_must_not_send(backend, family, enforced_at)
                .with_context(|| format!("enforced at node{enforced_at}"))
        })
    })
}

/// Who sends the first packet of a flow: each needs a port of its own, for a flow of its own.
#[derive(Clone, Copy, Debug)]
enum First {
    /// The pod that may be answered, but must not answer.
    Far,
    /// The pod that must not send.
    Pod,
    /// Both at once.
    Both,
}

fn pod_must_not_send(backend: Backend, family: Family, enforced_at: usize) -> Result<()> {
    let lab = common::lab()
        .families(family)
        .flannel_rules(true)
        .kube_proxy_rules(backend)
        .build()?;
    let (pod, far) = (lab.pod(1, 1), lab.pod(2, 1));
    let deny = Deny::all().from(pod.address()).to(far.address());
    lab.deny(lab.node(enforced_at), &deny)?;
    let agents = start_agents(&lab, &AgentOptions::default())?;
    let policy = Policy {
        datapath: Datapath::of(&lab, lab.node(enforced_at))?,
        entrance: [Hook::FromPod, Hook::FromWire][enforced_at - 1],
    };
    for (first, port) in [
        (First::Far, PORT),
        (First::Pod, PORT + 1),
        (First::Both, PORT + 2),
    ] {
        one_way_only(&lab, &policy, first, port).with_context(|| format!("{first:?} first"))?;
    }
    no_error_slips_out(&lab, &policy)?;
    neither_can_connect(&policy, pod, far)?;

    // It was the policy, and nothing else.
    lab.undeny(lab.node(enforced_at), &deny)?;
    let (ours, theirs) = (
        SocketAddr::new(pod.address(), PORT),
        SocketAddr::new(far.address(), PORT),
    );
    let (pod, far) = (socket(pod, theirs)?, socket(far, ours)?);
    wait_until(DEADLINE, "what is allowed is fast", || {
        let sent = pod.send(b"now?").and_then(|_| far.recv(&mut [0; 4]));
        sent.is_ok() && is_fast(&lab, &udp(ours, theirs)).unwrap_or(false)
    })?;
    drop(agents);
    Ok(())
}

/// Where it is enforced.
struct Policy {
    datapath: Datapath,
    entrance: Hook,
}

impl Policy {
    fn never_confirmed(&self, denied: &Ends) -> Result<()> {
        ensure!(
            !self.datapath.sends_fast(denied)?,
            "{denied:?} is sent fast"
        );
        let received = self.datapath.receives_fast(denied)?;
        ensure!(!received, "{denied:?} is received fast");
        let counts = self.datapath.counts()?;
        ensure!(counts.of(self.entrance, Verdict::Fast) == 0, "{counts:?}");
        Ok(())
    }
}

/// A UDP flow with packets in both directions, of which one is denied.
fn one_way_only(lab: &Lab, policy: &Policy, first: First, port: u16) -> Result<()> {
    const PACKETS: u64 = 100;
    let (pod, far) = (lab.pod(1, 1), lab.pod(2, 1));
    let (ours, theirs) = (
        SocketAddr::new(pod.address(), port),
        SocketAddr::new(far.address(), port),
    );
    let (pod, far) = (socket(pod, theirs)?, socket(far, ours)?);
    let denied = udp(ours, theirs);
    let before = policy.datapath.counts()?;
    let pod_sends = |packets| (0..packets).try_for_each(|_| pod.send(b"denied").map(drop));
    let far_sends = |packets| (0..packets).try_for_each(|_| far.send(b"allowed").map(drop));
    match first {
        First::Far => far_sends(PACKETS).and_then(|()| pod_sends(PACKETS))?,
        First::Pod => pod_sends(PACKETS).and_then(|()| far_sends(PACKETS))?,
        First::Both => (0..PACKETS).try_for_each(|_| pod_sends(1).and_then(|()| far_sends(1)))?,
    }
    let mut allowed = 0;
    wait_until(DEADLINE, "all that is allowed arrives", || {
        while pod.recv(&mut [0; 16]).is_ok() {
            allowed += 1;
        }
        allowed == PACKETS
    })?;
    let what = "all that is denied has come to the policy";
    wait_for(DEADLINE, what, || {
        let counts = policy.datapath.counts()?.since(&before);
        let denied = counts.of(policy.entrance, Verdict::Unconfirmed);
        ensure!(denied >= PACKETS, "{counts:?}");
        Ok(())
    })?;
    ensure!(far.recv(&mut [0; 16]).is_err(), "the denied has arrived");
    policy.never_confirmed(&denied)?;
    let back = answer_to(&denied);
    ensure!(is_fast(lab, &back)?, "what is allowed isn't fast");
    Ok(())
}

/// Nobody listens where the far pod sends, and the error that says so is denied, too. Of the flow that it
/// is about only the far pod's direction is confirmed.
fn no_error_slips_out(lab: &Lab, policy: &Policy) -> Result<()> {
    const PACKETS: u64 = 5;
    let (pod, far) = (lab.pod(1, 1), lab.pod(2, 1));
    let (ours, theirs) = (
        SocketAddr::new(pod.address(), PORT + 9),
        SocketAddr::new(far.address(), PORT + 9),
    );
    let far = socket(far, ours)?;
    let before = policy.datapath.counts()?;
    for _ in 0..PACKETS {
        far.send(b"anybody there?")?;
    }
    wait_for(DEADLINE, "the errors have come to the policy", || {
        let counts = policy.datapath.counts()?.since(&before);
        ensure!(counts.of(policy.entrance, Verdict::Icmp) > 0, "{counts:?}");
        Ok(())
    })?;
    // An error would be told to whoever reads the socket.
    let answer = far.recv(&mut [0; 16]).expect_err("nobody answers");
    ensure!(answer.kind() == ErrorKind::WouldBlock, "{answer}");
    policy.never_confirmed(&udp(ours, theirs))
}

/// A connection needs both directions, whoever opens it.
fn neither_can_connect(policy: &Policy, pod: &Pod, far: &Pod) -> Result<()> {
    for (client, server, denied) in [(pod, far, Denied::Asks), (far, pod, Denied::Answers)] {
        let from = SocketAddr::new(client.address(), CLIENT_PORT);
        let to = SocketAddr::new(server.address(), PORT);
        let _server = TcpEcho::start(server, PORT)?;
        let connection = TcpClient::connect_from(client, CLIENT_PORT, to, NEVER);
        ensure!(connection.is_err(), "{} can connect", client.name());
        policy.never_confirmed(&match denied {
            Denied::Asks => tcp(from, to),
            Denied::Answers => answer_to(&tcp(from, to)),
        })?;
    }
    Ok(())
}

/// What the pod that must not send does in a connection.
enum Denied {
    Asks,
    Answers,
}

/// A socket that is connected, so that it takes packets only from there, and never waits.
fn socket(pod: &Pod, peer: SocketAddr) -> Result<UdpSocket> {
    pod.enter(|| {
        let socket = UdpSocket::bind((pod.address(), peer.port()))?;
        socket.connect(peer)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    })
}
