//! The stand-in for xdp-forward carries packets, as a router does, and only those that are to be routed.

use std::net::SocketAddr;

use anyhow::Result;
use aya::programs::{SchedClassifier, TcAttachType};
use aya::util::KernelVersion;
use underpass_bench::compare::fib_helper::{FibHelper, Redirects as _};
use underpass_bench::compare::hooks_limit::HooksLimit;
use underpass_bench::lab::{Host, Node, names};
use underpass_bench::traffic::{Bulk, Frame, FrameSocket, Ping, UdpClient, UdpEcho};
use underpass_bench::{Lab, skip, wait_for};

use crate::{SOON, lab_test};

/// False where this kernel has no TCX, and that is said.
fn has_tcx(test: &str) -> bool {
    let has = KernelVersion::current().is_ok_and(|it| it >= KernelVersion::new(6, 6, 0));
    if !has {
        skip(test, "this kernel has no TCX (Linux 6.6 brought it)");
    }
    has
}

/// The programs at ingress of a node's devices.
fn attached(node: &Node) -> Result<usize> {
    let devices = [node.uplink(), node.pods()[0].node_veth()];
    node.enter(|| {
        let mut count = 0;
        for device in devices {
            let (_, programs) = SchedClassifier::query_tcx(device, TcAttachType::Ingress)?;
            count += programs.len();
        }
        Ok(count)
    })
}

/// The first frame with UDP from the host that arrives while `work` is done.
fn arriving(from: &Host, at: &FrameSocket, work: impl FnOnce() -> Result<()>) -> Result<Frame> {
    at.drain(|_| true)?;
    work()?;
    at.expect(SOON, &format!("one from {}", from.name()), |frame| {
        frame.bytes.get(12..14) == Some(&[0x08, 0x00]) && frame.bytes.get(23) == Some(&17)
    })
}

lab_test!(fib_helper_carries_packets_as_a_router_does, {
    if !has_tcx("fib_helper_carries_packets_as_a_router_does") {
        return Ok(());
    }
    let lab = Lab::builder().pods(2).build()?;
    let (client, server) = (lab.pod(1, 1), lab.pod(2, 1));
    let fib_helper = FibHelper::attach(&lab)?;
    let _echo = UdpEcho::start(server, 6000)?;
    let target = SocketAddr::new(server.address(), 6000);
    let talk = UdpClient::connect(client, target)?;
    // Until the neighbours are known the kernel has the packets.
    wait_for(SOON, "both nodes redirect both directions", || {
        let before = fib_helper.packets();
        talk.echo(b"hello", SOON)?;
        anyhow::ensure!(fib_helper.packets() == before + 4);
        Ok(())
    })?;
    let sees = FrameSocket::open(server, server.interface())?;
    let before = fib_helper.packets();
    let request = arriving(client, &sees, || talk.echo(b"again", SOON).map(drop))?;
    assert_eq!(fib_helper.packets(), before + 4);
    assert_eq!(request.bytes[..6], server.mac());
    assert_eq!(request.bytes[6..12], names::gateway_mac(2));
    // 64, less the two nodes.
    assert_eq!(request.bytes[22], 62);

    // Trains of segments take the same way.
    let before = fib_helper.packets();
    let transfer = Bulk::to(SocketAddr::new(server.address(), 5000)).size(3_000_000);
    transfer.run(client, server, SOON)?;
    assert!(fib_helper.packets() > before);
    Ok(())
});

lab_test!(hooks_limit_carries_packets_and_does_nothing_else, {
    if !has_tcx("hooks_limit_carries_packets_and_does_nothing_else") {
        return Ok(());
    }
    let lab = Lab::builder().build()?;
    let (client, server) = (lab.pod(1, 1), lab.pod(2, 1));
    let limit = HooksLimit::attach(&lab)?;
    let _echo = UdpEcho::start(server, 6000)?;
    let target = SocketAddr::new(server.address(), 6000);
    let talk = UdpClient::connect(client, target)?;
    let sees = FrameSocket::open(server, server.interface())?;
    let before = limit.packets();
    let request = arriving(client, &sees, || talk.echo(b"hello", SOON).map(drop))?;
    assert_eq!(limit.packets(), before + 4);
    assert_eq!(request.bytes[..6], server.mac());
    assert_eq!(request.bytes[6..12], names::gateway_mac(2));
    // No router has seen it.
    assert_eq!(request.bytes[22], 64);
    drop(limit);
    for node in lab.nodes() {
        wait_for(SOON, "the programs are gone", || {
            let attached = attached(node)?;
            anyhow::ensure!(attached == 0, "{attached} programs on {}", node.name());
            Ok(())
        })?;
    }
    Ok(())
});

lab_test!(fib_helper_leaves_the_rest_to_the_kernel, {
    if !has_tcx("fib_helper_leaves_the_rest_to_the_kernel") {
        return Ok(());
    }
    let lab = Lab::builder().pods(2).build()?;
    let (from, to) = (lab.pod(1, 1), lab.pod(2, 1));
    Ping::to(to.address()).expect(from)?;
    let fib_helper = FibHelper::attach(&lab)?;
    let leaves = |what: &str, work: &dyn Fn() -> Result<()>| -> Result<()> {
        let before = fib_helper.packets();
        work()?;
        assert_eq!(fib_helper.packets(), before, "{what}");
        Ok(())
    };
    leaves("a neighbour on the bridge", &|| {
        Ping::to(lab.pod(1, 2).address()).expect(from).map(drop)
    })?;
    leaves("the node itself", &|| {
        Ping::to(lab.node(1).address()).expect(from).map(drop)
    })?;
    leaves("a TTL that ends here", &|| {
        let report = Ping::to(to.address()).ttl(1).run(from)?;
        assert!(report.errors[0].is_time_exceeded(), "{report:?}");
        Ok(())
    })?;
    leaves("fragments", &|| {
        Ping::to(to.address()).size(4000).expect(from).map(drop)
    })?;
    Ok(())
});

lab_test!(fib_helper_goes_when_it_is_dropped, {
    if !has_tcx("fib_helper_goes_when_it_is_dropped") {
        return Ok(());
    }
    let lab = Lab::builder().build()?;
    let all = || -> Result<Vec<_>> { lab.nodes().iter().map(attached).collect() };
    let fib_helper = FibHelper::attach(&lab)?;
    assert_eq!(all()?, [2, 2]);
    drop(fib_helper);
    assert_eq!(all()?, [0, 0]);
    Ok(())
});
