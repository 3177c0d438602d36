//! Which packets between other nodes' pods go past the router's kernel: those that it has forwarded as they are.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use underpass_bench::lab::rules::Deny;
use underpass_bench::lab::{AgentOptions, Family, Host, Segment};
use underpass_bench::traffic::{Ping, TcpClient, TcpEcho, UdpClient, UdpEcho};
use underpass_bench::{Lab, root_or_skip, wait_for};
use underpass_common::flow::confirmed;
use underpass_common::verdict::{Hook, Verdict};

use super::{
    Traffic, UDP_PORT, all_fast_since, none_fast_since, on_both, router, segments, start_router,
};
use crate::carried::{PINGS, ping};
use crate::common::{DEADLINE, Datapath, NEVER, udp, with_families, with_families_in_turn};

/// More than can be under way when a road is closed.
const A_LOT: u64 = 32 << 20;

#[test]
fn transit_confirmed() -> Result<()> {
    if !root_or_skip("transit_confirmed") {
        return Ok(());
    }
    with_families_in_turn(|family| {
        let lab = segments(family).build()?;
        let agent = start_router(&lab, &on_both())?;
        goes_past_the_kernel(&lab, family)?;
        drop(agent);
        Ok(())
    })
}

/// With agents at the ends as well: to them a node behind a router is none of theirs.
#[test]
fn transit_between_agents() -> Result<()> {
    if !root_or_skip("transit_between_agents") {
        return Ok(());
    }
    with_families_in_turn(|family| {
        let lab = segments(family).build()?;
        let mut ends = Vec::new();
        for node in [1, 2] {
            let mut agent = lab.start_agent(lab.node(node), &AgentOptions::default())?;
            agent.wait_ready(DEADLINE)?;
            ends.push(agent);
        }
        let agent = start_router(&lab, &on_both())?;
        goes_past_the_kernel(&lab, family)?;
        let peers = lab.underpass_json(lab.node(1), &["peers"])?;
        let states: Vec<_> = ["node2", "node3"]
            .map(|name| {
                let mut all = peers.as_array().into_iter().flatten();
                all.find(|peer| peer["name"] == name)
                    .map(|peer| peer["state"].clone())
            })
            .to_vec();
        ensure!(
            states == [Some("not_on_link".into()), Some("ready".into())],
            "{peers}"
        );
        drop((agent, ends));
        Ok(())
    })
}

fn goes_past_the_kernel(lab: &Lab, family: Family) -> Result<()> {
    let (pod, far) = (lab.pod(1, 1), lab.pod(2, 1));
    let datapath = Datapath::of(lab, router(lab))?;
    let traffic = Traffic::start(pod, far)?;
    traffic.make_fast(&datapath)?;
    for road in [Road::Rules, Road::Forwarding] {
        road.close(lab, family)?;
        // What was not confirmed before cannot be now.
        let other = Ping::to(far.address()).timeout(NEVER).run(pod)?;
        ensure!(!other.all_replied(), "{road:?} is open");
        let before = datapath.counts()?;
        traffic.goes_on(A_LOT)?;
        all_fast_since(&datapath, &before)?;
        road.open(lab, family)?;
    }
    // The last packets of a connection, too.
    Road::Rules.close(lab, family)?;
    let before = datapath.counts()?;
    traffic.bulk.stop(DEADLINE)?;
    all_fast_since(&datapath, &before)
}

/// How the router's kernel is kept from forwarding.
#[derive(Clone, Copy, Debug)]
enum Road {
    /// A rule in FORWARD drops everything.
    Rules,
    /// It forwards nothing.
    Forwarding,
}

impl Road {
    fn close(self, lab: &Lab, family: Family) -> Result<()> {
        match self {
            Self::Rules => lab.deny(router(lab), &Deny::all()),
            Self::Forwarding => router(lab).sysctl(family.forwarding(), "0"),
        }
    }

    fn open(self, lab: &Lab, family: Family) -> Result<()> {
        match self {
            Self::Rules => lab.undeny(router(lab), &Deny::all()),
            Self::Forwarding => router(lab).sysctl(family.forwarding(), "1"),
        }
    }
}

/// Frames that XDP hands from one uplink to the other are carried by it, not by TC.
#[test]
fn transit_by_xdp() -> Result<()> {
    if !root_or_skip("transit_by_xdp") {
        return Ok(());
    }
    with_families(|family| {
        let lab = segments(family).whole_frames(true).pod_gro(true).build()?;
        let agent = start_router(&lab, &on_both().args(["--ingress", "xdp"]))?;
        wait_for_targets(&lab, 2)?;
        let carried = ping(&lab, router(&lab))?;
        // The first each way shows the way.
        let fast = 2 * (u64::from(PINGS) - 1);
        ensure!(
            (carried.by_xdp, carried.by_tc) == (fast, 0),
            "{carried:?}, not {fast}"
        );
        drop(agent);
        Ok(())
    })
}

/// Waits until so many uplinks get frames from XDP.
fn wait_for_targets(lab: &Lab, wanted: usize) -> Result<()> {
    let datapath = Datapath::of(lab, router(lab))?;
    let what = format!("{wanted} uplinks get frames from XDP");
    wait_for(DEADLINE, &what, || {
        let found = datapath.maps.xdp_uplinks()?;
        ensure!(found.len() == wanted, "{found:?}");
        Ok(())
    })
}

/// Nothing is handed to an uplink that would drop it, nor past what hangs on its way out: TC carries it.
#[test]
fn an_uplink_that_takes_no_frames_stays_with_tc() -> Result<()> {
    if !root_or_skip("an_uplink_that_takes_no_frames_stays_with_tc") {
        return Ok(());
    }
    with_families(|family| {
        let lab = segments(family).whole_frames(true).pod_gro(true).build()?;
        let agent = start_router(&lab, &on_both().args(["--ingress", "xdp"]))?;
        let (node, switch): (&Host, &Host) = (router(&lab), lab.switch());
        let gro = |to| format!("ethtool -K node3-eth1 gro {to}");
        let tbf = "root tbf rate 1gbit burst 64k latency 50ms";
        let filter = "egress pref 9 bpf direct-action bytecode '1,6 0 0 4294967295'";
        for (host, done, undone) in [
            (switch, gro("off"), gro("on")),
            (
                node,
                format!("tc qdisc add dev eth1 {tbf}"),
                "tc qdisc del dev eth1 root".to_owned(),
            ),
            (
                node,
                format!("tc qdisc add dev eth1 clsact && tc filter add dev eth1 {filter}"),
                "tc qdisc del dev eth1 clsact".to_owned(),
            ),
        ] {
            wait_for_targets(&lab, 2)?;
            host.run(&["sh", "-c", &done])?;
            wait_for_targets(&lab, 1)?;
            let carried = ping(&lab, router(&lab))?;
            // To eth1 by TC, and from it by XDP, but for the first.
            let each = u64::from(PINGS) - 1;
            ensure!(
                (carried.by_xdp, carried.by_tc) == (each, each),
                "{done}: {carried:?}"
            );
            host.run(&["sh", "-c", &undone])?;
            wait_for_targets(&lab, 2)?;
            ensure!(ping(&lab, router(&lab))?.by_tc == 0, "{undone}");
        }
        drop(agent);
        Ok(())
    })
}

/// Which rule of the router's translates.
#[derive(Clone, Copy, Debug)]
enum Rule {
    /// The source address: masquerade.
    Source,
    /// The destination port.
    Port,
}

/// Where the denied packets go.
const DENIED_PORT: u16 = 5201;

/// The port that nobody listens at.
const ALIAS: u16 = 5101;

impl Rule {
    fn add(self, lab: &Lab, family: Family) -> Result<()> {
        let iptables = match family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        let (from, to) = (lab.node(1).pod_cidr(), lab.pod(2, 1).address());
        let own = router(lab).address_on(Segment::Second, family);
        let rules: Vec<String> = match self {
            Self::Source => vec![format!("POSTROUTING -s {from} -d {to} -j SNAT --to {own}")],
            Self::Port => ["tcp", "udp"]
                .map(|protocol| {
                    let target = SocketAddr::new(to, UDP_PORT);
                    format!(
                        "PREROUTING -p {protocol} -d {to} --dport {ALIAS} -j DNAT --to {target}"
                    )
                })
                .to_vec(),
        };
        for rule in rules {
            let words = [iptables, "-w", "-t", "nat", "-I"];
            let words: Vec<&str> = words.into_iter().chain(rule.split(' ')).collect();
            router(lab).run(&words)?;
        }
        Ok(())
    }

    /// What the pods of node 1 send to.
    fn port(self) -> u16 {
        match self {
            Self::Source => UDP_PORT,
            Self::Port => ALIAS,
        }
    }
}

#[test]
fn transit_translated() -> Result<()> {
    if !root_or_skip("transit_translated") {
        return Ok(());
    }
    with_families(|family| {
        [Rule::Source, Rule::Port]
            .into_iter()
            .try_for_each(|rule| translated(family, rule).with_context(|| format!("{rule:?}")))
    })
}

fn translated(family: Family, rule: Rule) -> Result<()> {
    let lab = segments(family).build()?;
    rule.add(&lab, family)?;
    let agent = start_router(&lab, &on_both())?;
    let (pod, far) = (lab.pod(1, 1), lab.pod(2, 1));
    let (tcp, udp_echo) = (
        TcpEcho::start(far, UDP_PORT)?,
        UdpEcho::start(far, UDP_PORT)?,
    );
    let datapath = Datapath::of(&lab, router(&lab))?;
    let before = datapath.counts()?;
    let target = SocketAddr::new(far.address(), rule.port());
    let client = UdpClient::connect(pod, target)?;
    let mut connection = TcpClient::connect(pod, target, DEADLINE)?;
    for _ in 0..100 {
        client.echo(b"translate me", DEADLINE)?;
        connection.echo(b"and me")?;
    }
    connection.close()?;
    none_fast_since(&datapath, &before)?;
    let expected = match rule {
        Rule::Source => router(&lab).address_on(Segment::Second, family),
        Rule::Port => pod.address(),
    };
    for peers in [tcp.peers(), udp_echo.peers()] {
        ensure!(!peers.is_empty(), "nobody came");
        ensure!(peers.iter().all(|peer| peer.ip() == expected), "{peers:?}");
    }
    let added = datapath.counts()?.since(&before);
    ensure!(
        added.of(Hook::FromWire, Verdict::Unconfirmed) > 200,
        "{added:?}"
    );
    // The same pods' other flows are fast: to what is not translated.
    if let Rule::Port = rule {
        let direct = UdpClient::connect(pod, SocketAddr::new(far.address(), UDP_PORT))?;
        let from = SocketAddr::new(pod.address(), direct.local_port()?);
        let packet = udp(from, SocketAddr::new(far.address(), UDP_PORT));
        wait_for(DEADLINE, "the direct flow is fast", || {
            direct.echo(b"?", DEADLINE)?;
            ensure!(datapath.passes_fast(&packet)? && datapath.passes_fast(&packet.answer())?);
            Ok(())
        })?;
        // And stays apart from the translated one.
        for _ in 0..20 {
            direct.echo(b"direct", DEADLINE)?;
            client.echo(b"translated", DEADLINE)?;
        }
    }
    drop(agent);
    Ok(())
}

#[test]
fn transit_denied() -> Result<()> {
    if !root_or_skip("transit_denied") {
        return Ok(());
    }
    with_families(|family| {
        let lab = segments(family).build()?;
        let (pod, far) = (lab.pod(1, 1), lab.pod(2, 1));
        let deny = Deny::all().from(pod.address()).to(far.address());
        lab.deny(router(&lab), &deny)?;
        let agent = start_router(&lab, &on_both())?;
        let datapath = Datapath::of(&lab, router(&lab))?;
        let before = datapath.counts()?;

        // Whoever sends first.
        let start = |at| {
            anyhow::Ok((
                UdpEcho::start(at, DENIED_PORT)?,
                TcpEcho::start(at, DENIED_PORT)?,
            ))
        };
        let servers = [start(pod)?, start(far)?];
        for (from, to) in [(pod, far), (far, pod)] {
            let target = SocketAddr::new(to.address(), DENIED_PORT);
            let client = UdpClient::connect(from, target)?;
            for _ in 0..20 {
                client.send(b"anybody there?")?;
            }
            ensure!(
                client.echo(b"?", NEVER).is_err(),
                "{} is answered",
                from.name()
            );
            let connection = TcpClient::connect(from, target, NEVER);
            ensure!(connection.is_err(), "{} can connect", from.name());
            let ping = Ping::to(to.address()).timeout(NEVER).run(from)?;
            ensure!(!ping.all_replied(), "{} has its ping answered", from.name());
        }
        denied_is_never_fast(&lab, &datapath)?;
        let added = datapath.counts()?.since(&before);
        ensure!(
            added.of(Hook::FromWire, Verdict::Unconfirmed) >= 20,
            "{added:?}"
        );

        // It was the policy, and nothing else.
        drop(servers);
        lab.undeny(router(&lab), &deny)?;
        Traffic::start(pod, far)?.make_fast(&datapath)?;
        drop(agent);
        Ok(())
    })
}

/// No flow from node 1's pod to node 2's is confirmed at the router.
fn denied_is_never_fast(lab: &Lab, datapath: &Datapath) -> Result<()> {
    let (pod, far) = (lab.pod(1, 1).address(), lab.pod(2, 1).address());
    for (key, flow) in datapath.maps.flows()? {
        let is_denied = (key.pod, key.remote) == (pod, far);
        let is_fast = flow.egress.confirmed != confirmed::NO;
        ensure!(!(is_denied && is_fast), "{key:?}: {flow:?}");
    }
    Ok(())
}
