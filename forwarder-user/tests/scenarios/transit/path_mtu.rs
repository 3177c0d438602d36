//! Where the second segment is narrower than the first, the router's kernel says so to whom it concerns.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use underpass_bench::lab::{Family, Host};
use underpass_bench::traffic::{Bulk, UdpClient, UdpEcho};
use underpass_bench::{Lab, root_or_skip, wait_for};
use underpass_common::verdict::{Hook, Verdict};

use super::{TCP_PORT, UDP_PORT, on_both, router, segments, start_router};
use crate::common::{self, DEADLINE, Datapath, Ends, NEVER, with_families};

/// Less than the pods' 1500, and more than IPv6 asks of every link.
const NARROW: u32 = 1300;
/// A datagram that no longer fits, and one that does.
const LARGE: [u8; 1400] = [7; 1400];
const FITS: [u8; 1200] = [7; 1200];

#[test]
fn transit_mtu() -> Result<()> {
    if !root_or_skip("transit_mtu") {
        return Ok(());
    }
    with_families(|family| {
        narrow_from_the_beginning(family)?;
        tcp_learns(family).context("TCP")?;
        udp_learns(family).context("UDP")
    })
}

fn narrow_from_the_beginning(family: Family) -> Result<()> {
    let lab = segments(family).second_mtu(NARROW).build()?;
    let agent = start_router(&lab, &on_both())?;
    let (pod, far) = (lab.pod(1, 1), lab.pod(2, 1));
    let to = SocketAddr::new(far.address(), TCP_PORT);
    let bulk = Bulk::to(to).size(8 << 20);
    bulk.run(pod, far, DEADLINE)?;
    knows_how_narrow(&lab)?;
    let counts = Datapath::of(&lab, router(&lab))?.counts()?;
    ensure!(counts.of(Hook::FromWire, Verdict::Fast) > 100, "{counts:?}");
    drop(agent);
    Ok(())
}

/// Makes the second segment narrow, the router's uplink first: it is the one to tell.
fn narrow(lab: &Lab) -> Result<()> {
    let set = |host: &Host, link: &str| host.ip(&format!("link set {link} mtu {NARROW}\n"));
    set(router(lab), "eth1")?;
    set(lab.switch(), "node3-eth1")?;
    set(lab.switch(), "node2")?;
    set(lab.node(2), "eth0")
}

/// Waits until packet and answer pass the router fast.
fn make_fast(at: &Datapath, packet: &Ends, exchange: impl Fn() -> Result<()>) -> Result<()> {
    let what = format!("{packet:?} and its answer are fast");
    wait_for(DEADLINE, &what, || {
        exchange()?;
        ensure!(at.passes_fast(packet)? && at.passes_fast(&packet.answer())?);
        Ok(())
    })
}

fn tcp_learns(family: Family) -> Result<()> {
    let lab = segments(family).build()?;
    let agent = start_router(&lab, &on_both())?;
    let datapath = Datapath::of(&lab, router(&lab))?;
    let (pod, far) = (lab.pod(1, 1), lab.pod(2, 1));
    let to = SocketAddr::new(far.address(), TCP_PORT);
    let bulk = Bulk::to(to).start(pod, far)?;
    let packet = common::tcp(SocketAddr::new(pod.address(), bulk.local_port()?), to);
    make_fast(&datapath, &packet, || bulk.wait_for_more(1 << 20, DEADLINE))?;

    narrow(&lab)?;
    bulk.wait_for_more(8 << 20, DEADLINE)?;
    knows_how_narrow(&lab)?;
    let counts = datapath.counts()?;
    ensure!(counts.of(Hook::FromWire, Verdict::TooBig) > 0, "{counts:?}");
    bulk.wait_for_more(8 << 20, DEADLINE)?;
    let added = datapath.counts()?.since(&counts);
    ensure!(added.of(Hook::FromWire, Verdict::Fast) > 100, "{added:?}");
    bulk.stop(DEADLINE)?;
    drop(agent);
    Ok(())
}

fn udp_learns(family: Family) -> Result<()> {
    let lab = segments(family).build()?;
    let agent = start_router(&lab, &on_both())?;
    let datapath = Datapath::of(&lab, router(&lab))?;
    let (pod, far) = (lab.pod(1, 1), lab.pod(2, 1));
    let _echo = UdpEcho::start(far, UDP_PORT)?;
    let to = SocketAddr::new(far.address(), UDP_PORT);
    let udp = UdpClient::connect(pod, to)?;
    let packet = common::udp(SocketAddr::new(pod.address(), udp.local_port()?), to);
    make_fast(&datapath, &packet, || udp.echo(&LARGE, DEADLINE).map(drop))?;

    narrow(&lab)?;
    // One is enough: it is lost, and its error tells the sender.
    udp.send(&LARGE)?;
    knows_how_narrow(&lab)?;
    // And first the socket tells of the error.
    wait_for(DEADLINE, "what fits is answered", || {
        udp.echo(&FITS, NEVER).map(drop)
    })?;
    let before = datapath.counts()?;
    udp.echo(&FITS, DEADLINE)?;
    let added = datapath.counts()?.since(&before);
    ensure!(added.of(Hook::FromWire, Verdict::Fast) == 2, "{added:?}");
    drop(agent);
    Ok(())
}

fn knows_how_narrow(lab: &Lab) -> Result<()> {
    let (pod, far) = (lab.pod(1, 1), lab.pod(2, 1).address().to_string());
    wait_for(DEADLINE, "the sender has learned the path MTU", || {
        let route = pod.run(&["ip", "route", "get", &far])?;
        ensure!(route.contains(&format!("mtu {NARROW}")), "{route}");
        Ok(())
    })
}
