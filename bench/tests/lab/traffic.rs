//! What is sent is what is counted.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use underpass_bench::lab::rules::{Deny, Protocol};
use underpass_bench::lab::{Family, PodPlan};
use underpass_bench::traffic::{
    Bulk, Frame, FrameSocket, PacketType, Ping, TcpClient, TcpEcho, UdpClient, UdpEcho, UdpFlow,
};
use underpass_bench::{Backend, Lab, wait_for};

use crate::{NEVER, SOON, for_families, lab_test};

lab_test!(a_conversation_goes_on_over_one_connection, {
    for_families(|family| {
        let lab = Lab::builder().families(family).build()?;
        let server = TcpEcho::start(lab.pod(2, 1), 0)?;
        let target = SocketAddr::new(lab.pod(2, 1).address(), server.port()?);
        let mut client = TcpClient::connect_from(lab.pod(1, 1), 4000, target, SOON)?;
        client.echo(b"hello")?;
        client.echo(&vec![7; 1 << 20])?;
        assert_eq!(
            server.peers(),
            [SocketAddr::new(lab.pod(1, 1).address(), 4000)]
        );
        // Broken off, the same ports can be used at once.
        client.reset()?;
        TcpClient::connect_from(lab.pod(1, 1), 4000, target, SOON)?.close()?;
        drop(server);
        assert!(TcpClient::connect(lab.pod(1, 1), target, SOON).is_err());
        Ok(())
    })
});

lab_test!(nobody_at_home_is_an_error_in_time, {
    for_families(|family| {
        let lab = Lab::builder().families(family).conntrack(true).build()?;
        let target = SocketAddr::new(lab.pod(2, 1).address(), 80);
        lab.deny(lab.node(2), &Deny::all())?;
        let error = format!(
            "{:#}",
            TcpClient::connect(lab.pod(1, 1), target, NEVER).unwrap_err()
        );
        assert!(
            error.contains(&format!("node1-pod1: cannot connect to {target}")),
            "{error}"
        );
        assert!(error.contains("timed out"), "{error}");
        let echo = UdpClient::connect(lab.pod(1, 1), target)?.echo(b"x", NEVER);
        assert!(echo.is_err());
        Ok(())
    })
});

lab_test!(a_bulk_transfer_arrives_as_sent, {
    for_families(|family| {
        let lab = Lab::builder().families(family).build()?;
        let (client, server) = (lab.pod(1, 1), lab.pod(2, 1));
        let target = SocketAddr::new(server.address(), 5000);
        let report = Bulk::to(target)
            .size(30_000_001)
            .run(client, server, SOON)?;
        assert_eq!(report.bytes, 30_000_001);

        let transfer = Bulk::to(target).local_port(4001).start(client, server)?;
        transfer.wait_for_more(1_000_000, SOON)?;
        transfer.wait_for_more(1_000_000, SOON)?;
        assert!(transfer.stop(SOON)?.bytes >= 2_000_000);
        Ok(())
    })
});

lab_test!(a_transfer_that_stands_still_is_told_and_can_be_dropped, {
    for_families(|family| {
        let lab = Lab::builder().families(family).conntrack(true).build()?;
        let (client, server) = (lab.pod(1, 1), lab.pod(2, 1));
        let transfer = Bulk::to(SocketAddr::new(server.address(), 5000)).start(client, server)?;
        transfer.wait_for_more(1, SOON)?;
        lab.deny(lab.node(2), &Deny::all())?;
        let error = transfer.stop(NEVER).unwrap_err().to_string();
        assert!(error.contains("hasn't ended after 300ms"), "{error}");
        Ok(())
    })
});

lab_test!(a_udp_flow_is_counted, {
    for_families(|family| {
        let lab = Lab::builder().families(family).build()?;
        let target = SocketAddr::new(lab.pod(2, 1).address(), 6000);
        let flow = UdpFlow::to(target).packets(500);
        let report = flow.run(lab.pod(1, 1), lab.pod(2, 1))?;
        assert_eq!(
            (report.sent, report.received, report.lost),
            (500, 500, 0),
            "{report:?}"
        );
        assert_eq!(
            (report.duplicated, report.first_lost),
            (0, None),
            "{report:?}"
        );
        Ok(())
    })
});

lab_test!(what_a_udp_flow_loses_is_counted_too, {
    for_families(|family| {
        let lab = Lab::builder().families(family).conntrack(true).build()?;
        let target = SocketAddr::new(lab.pod(2, 1).address(), 6000);
        let stream = UdpFlow::to(target)
            .rate(2000)
            .start(lab.pod(1, 1), lab.pod(2, 1))?;
        stream.wait_for_more(100, SOON)?;
        let deny = Deny::all().port(Protocol::Udp, 6000);
        lab.deny(lab.node(2), &deny)?;
        let before = stream.sent();
        underpass_bench::wait_until(SOON, "some are lost", || stream.sent() > before + 100)?;
        lab.undeny(lab.node(2), &deny)?;
        stream.wait_for_more(100, SOON)?;
        let report = stream.stop()?;
        assert!(report.lost >= 100, "{report:?}");
        assert_eq!(report.sent, report.received + report.lost, "{report:?}");
        assert!(
            report.first_lost.is_some_and(|first| first >= 100),
            "{report:?}"
        );
        Ok(())
    })
});

lab_test!(a_udp_flow_has_its_rate, {
    let lab = Lab::builder().build()?;
    let target = SocketAddr::new(lab.pod(2, 1).address(), 6000);
    let start = std::time::Instant::now();
    let flow = UdpFlow::to(target)
        .rate(1000)
        .packets(1000)
        .local_port(6001);
    let report = flow.run(lab.pod(1, 1), lab.pod(2, 1))?;
    assert_eq!(report.lost, 0, "{report:?}");
    assert!(start.elapsed() >= Duration::from_millis(999));
    Ok(())
});

lab_test!(udp_echoes, {
    for_families(|family| {
        let lab = Lab::builder().families(family).build()?;
        let server = UdpEcho::start(lab.pod(2, 1), 0)?;
        let target = SocketAddr::new(lab.pod(2, 1).address(), server.port());
        let client = UdpClient::connect_from(lab.pod(1, 1), 4002, target)?;
        client.echo(b"one", SOON)?;
        client.echo(&[5; 1400], SOON)?;
        assert_eq!(
            server.peers(),
            [SocketAddr::new(lab.pod(1, 1).address(), 4002)]
        );
        Ok(())
    })
});

lab_test!(a_router_says_time_exceeded, {
    for_families(|family| {
        let lab = Lab::builder().families(family).build()?;
        let ping = Ping::to(lab.pod(2, 1).address());
        let hop = |ttl| -> Result<_> {
            let report = ping.ttl(ttl).run(lab.pod(1, 1))?;
            let error = report.errors.first();
            Ok(error.map(|error| (error.from, error.is_time_exceeded())))
        };
        assert_eq!(hop(1)?, Some((lab.node(1).gateway_of(family), true)));
        assert_eq!(hop(2)?, Some((lab.node(2).address(), true)));
        assert_eq!(hop(3)?, None);
        Ok(())
    })
});

lab_test!(a_router_says_too_big, {
    for_families(|family| {
        let lab = Lab::builder().families(family).build()?;
        let pod = lab.add_pod(PodPlan::new(2, 2).mtu(1300))?;
        let ping = Ping::to(pod.address());
        ping.size(1200).expect(lab.pod(1, 1))?;
        let report = ping.size(1400).dont_fragment().run(lab.pod(1, 1))?;
        let error = report.errors.first().context("no error")?;
        assert!(error.is_too_big(), "{error:?}");
        assert_eq!((error.from, error.mtu), (lab.node(2).address(), 1300));
        Ok(())
    })
});

/// True for a frame with an echo to this address.
fn is_echo_to(frame: &Frame, destination: IpAddr) -> bool {
    let family = Family::of(destination);
    let bytes = |range| frame.bytes.get::<std::ops::Range<usize>>(range);
    bytes(12..14) == Some(&family.ether_type())
        && match destination {
            IpAddr::V4(v4) => bytes(30..34) == Some(&v4.octets()),
            // And no neighbour discovery.
            IpAddr::V6(v6) => {
                bytes(38..54) == Some(&v6.octets())
                    && matches!(frame.bytes.get(54), Some(128 | 129))
            }
        }
}

lab_test!(frames_are_seen_and_sent, {
    for_families(|family| {
        let lab = Lab::builder().families(family).build()?;
        let (from, to) = (lab.pod(1, 1), lab.pod(2, 1));
        let sees = FrameSocket::open(lab.node(1), "eth0")?;
        Ping::to(to.address()).expect(from)?;
        let is_ours = |frame: &Frame| is_echo_to(frame, to.address());
        let seen = sees.expect(SOON, "the request leaves node1", is_ours)?;
        assert_eq!(seen.packet_type, PacketType::Outgoing);
        assert_eq!(seen.bytes[..6], lab.node(2).mac());
        assert_eq!(seen.bytes[6..12], lab.node(1).mac());

        // The very same frame again, from node1's uplink: it arrives in the pod.
        let arrives = FrameSocket::open(to, "eth0")?;
        sees.send(&seen.bytes)?;
        let arrived = arrives.expect(SOON, "the same frame arrives", is_ours)?;
        assert_eq!(arrived.packet_type, PacketType::Host);
        assert_eq!(arrived.bytes[..6], to.mac());
        // Less the hop, nothing but the MACs, TTL or hop limit and checksum differ.
        assert_eq!(arrived.bytes[26..], seen.bytes[26..]);
        assert!(arrives.drain(is_ours)?.is_empty());
        assert!(arrives.next(Duration::from_millis(50), is_ours)?.is_none());
        Ok(())
    })
});

lab_test!(kube_proxys_rule_drops_what_conntrack_finds_invalid, {
    for backend in [Backend::Iptables, Backend::Nftables] {
        let lab = Lab::builder()
            .kube_proxy_rules(backend)
            .flannel_rules(true)
            .build()?;
        let (from, to) = (lab.pod(1, 1), lab.pod(2, 1));
        // The ARP entries, and a frame to make another of.
        let wire = FrameSocket::open(from, "eth0")?;
        Ping::to(to.address()).expect(from)?;
        let is_ours = |frame: &Frame| is_echo_to(frame, to.address());
        let request = wire.expect(SOON, "the request leaves", is_ours)?;
        // An ICMP echo reply that nobody asked for.
        let mut reply = request.bytes;
        reply[34] = 0;
        // One's complement: the type went down by 8 in the upper half of a word.
        let checksum = u32::from(u16::from_be_bytes([reply[36], reply[37]])) + 0x0800;
        let folded = (checksum & 0xffff) + (checksum >> 16);
        reply[36..38].copy_from_slice(&(folded as u16).to_be_bytes());
        // With another identifier, so that it belongs to no request; the checksum is off now by what
        // the identifier changed, so change the sequence number by the opposite.
        reply.swap(38, 40);
        reply.swap(39, 41);
        let arrives = FrameSocket::open(to, "eth0")?;
        wire.send(&reply)?;
        assert!(arrives.next(NEVER, is_ours)?.is_none(), "{backend:?}");
        // And with the rule gone it arrives: it was the rule.
        lab.node(1).run(&["nft", "flush", "ruleset"])?;
        lab.node(2).run(&["nft", "flush", "ruleset"])?;
        wait_for(SOON, "the same frame arrives", || {
            wire.send(&reply)?;
            arrives.expect(NEVER, "the reply", is_ours)
        })?;
    }
    Ok(())
});
