//! Packets in transit are sent, routed by the node between the segments, and counted.

use std::path::Path;

use anyhow::Result;
use underpass_bench::compare::contender::Contender;
use underpass_bench::compare::course::Pace;
use underpass_bench::compare::figure::Figure;
use underpass_bench::compare::transit::Transit;
use underpass_bench::compare::trial::{Target, Traffic, Trial};
use underpass_bench::measure::tools;
use underpass_bench::skip;

use crate::lab_test;

/// One CPU, so that it runs on any machine.
const PACE: Pace = Pace {
    seconds: 1,
    paced_rate: 1,
    client_cpu: 0,
    server_cpu: 0,
};

fn raise(contender: Contender) -> Result<Transit> {
    // None of these is Underpass.
    Transit::raise(contender, Path::new("underpass"), 10)
}

fn in_transit(traffic: Traffic) -> Trial {
    Trial {
        traffic,
        target: Target::Transit,
        offload: true,
    }
}

lab_test!(floods_go_through_the_router, {
    for contender in [
        Contender::Wire,
        Contender::Routes,
        Contender::RoutesProxied,
        Contender::FibHelper,
        Contender::FibHelperXdp,
    ] {
        let transit = raise(contender)?;
        transit.prove(&PACE)?;
        for size in [64, 1400] {
            let outcome = transit.run(in_transit(Traffic::Flood(size)), &PACE)?;
            println!("{contender}, {size} B: {:?}", outcome.figures);
            let [rate, cpu] = [Figure::PacketRate, Figure::CpuPerMillionPackets]
                .map(|figure| outcome.figures[&figure]);
            assert!(rate > 0.0 && cpu > 0.0, "{contender}: {outcome:?}");
        }
    }
    Ok(())
});

lab_test!(a_router_that_forwards_nothing_is_told, {
    let transit = raise(Contender::Routes)?;
    let router = transit.lab().node(3);
    router.sysctl("net.ipv4.ip_forward", "0")?;
    let flood = in_transit(Traffic::Flood(64));
    let error = format!("{:#}", transit.run(flood, &PACE).unwrap_err());
    assert!(error.contains("none arrived"), "{error}");
    Ok(())
});

lab_test!(a_packet_that_was_not_routed_does_not_count, {
    let transit = raise(Contender::Routes)?;
    let router = transit.lab().node(3);
    // The other node's MAC as the router knows it is not the one that a sink expects.
    router.ip("neigh replace 192.168.78.2 lladdr 02:00:00:00:00:99 dev eth1 nud permanent\n")?;
    let flood = in_transit(Traffic::Flood(64));
    let error = format!("{:#}", transit.run(flood, &PACE).unwrap_err());
    assert!(error.contains("another MAC address"), "{error}");
    Ok(())
});

lab_test!(a_stream_goes_through_the_router, {
    if tools::missing().contains(&"iperf3") {
        skip("a_stream_goes_through_the_router", "needs iperf3");
        return Ok(());
    }
    let transit = raise(Contender::Routes)?;
    let outcome = transit.run(in_transit(Traffic::Streams(1)), &PACE)?;
    println!("{:?}", outcome.figures);
    assert!(outcome.figures[&Figure::Throughput] > 0.0);
    Ok(())
});
