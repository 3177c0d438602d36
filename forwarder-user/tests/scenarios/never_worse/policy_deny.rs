//! What a policy drops in FORWARD is never confirmed.

use std::net::{SocketAddr, UdpSocket};

use anyhow::{Context, Result, ensure};
use underpass_bench::lab::rules::Deny;
use underpass_bench::lab::{AgentOptions, Pod};
use underpass_bench::traffic::{TcpClient, TcpEcho};
use underpass_bench::{Backend, Lab, root_or_skip, wait_for, wait_until};
use underpass_common::verdict::{Hook, Verdict};

use crate::common::{
    self, DEADLINE, Datapath, Ends, NEVER, answer_to, is_fast, start_agents, tcp, udp, with_both,
};

const PORT: u16 = 5001;
const CLIENT_PORT: u16 = 41_000;

#[test]
fn policy_deny() -> Result<()> {
    if !root_or_skip("policy_deny") {
        return Ok(());
    }
    with_both(|backend| {
        // At the node of the pod that must not send, and at that of the pod that must not be sent to.
        [1, 2].into_iter().try_for_each(|enforced_at| {
            pod_must_not_send(backend, enforced_at)
                .with_context(|| format!("enforced at node{enforced_at}"))
        })
    })
}

fn pod_must_not_send(backend: Backend, enforced_at: usize) -> Result<()> {
    let lab = common::lab()
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
    let (ours, theirs) = (
        SocketAddr::new(pod.address(), PORT),
        SocketAddr::new(far.address(), PORT),
    );

    both_send_at_once(&lab, &policy, pod, far)?;
    neither_can_connect(&policy, pod, far)?;

    // It was the policy, and nothing else.
    lab.undeny(lab.node(enforced_at), &deny)?;
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
fn both_send_at_once(lab: &Lab, policy: &Policy, pod: &Pod, far: &Pod) -> Result<()> {
    const PACKETS: u64 = 100;
    let (ours, theirs) = (
        SocketAddr::new(pod.address(), PORT),
        SocketAddr::new(far.address(), PORT),
    );
    let (pod, far) = (socket(pod, theirs)?, socket(far, ours)?);
    for _ in 0..PACKETS {
        pod.send(b"denied")?;
        far.send(b"allowed")?;
    }
    let mut allowed = 0;
    wait_until(DEADLINE, "all that is allowed arrives", || {
        while pod.recv(&mut [0; 16]).is_ok() {
            allowed += 1;
        }
        allowed == PACKETS
    })?;
    wait_for(
        DEADLINE,
        "all that is denied has come to the policy",
        || {
            let counts = policy.datapath.counts()?;
            let denied = counts.of(policy.entrance, Verdict::Unconfirmed);
            ensure!(denied >= PACKETS, "{counts:?}");
            Ok(())
        },
    )?;
    ensure!(far.recv(&mut [0; 16]).is_err(), "the denied has arrived");

    let denied = udp(ours, theirs);
    policy.never_confirmed(&denied)?;
    let back = answer_to(&denied);
    ensure!(is_fast(lab, &back)?, "what is allowed isn't fast");
    Ok(())
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
        let socket = UdpSocket::bind((pod.ipv4(), PORT))?;
        socket.connect(peer)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    })
}
