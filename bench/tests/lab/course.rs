//! Every kind of traffic of the comparison runs with its tool, and yields all of its figures.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use underpass_bench::compare::course::{self, Course, Outcome, Pace, Ports};
use underpass_bench::compare::figure::Figure;
use underpass_bench::compare::trial::{Target, Traffic, Trial};
use underpass_bench::lab::rules::{Protocol, Service};
use underpass_bench::lab::{Family, Host, names};
use underpass_bench::measure::tools;
use underpass_bench::{Backend, Lab, skip};

use crate::{for_families, lab_test};

/// The shortest there is. One CPU, so that it runs on any machine.
const PACE: Pace = Pace {
    seconds: 1,
    paced_rate: 2000,
    client_cpu: 0,
    server_cpu: 0,
};

/// True where all tools are there.
fn tools_or_skip(test: &str) -> bool {
    let missing = tools::missing();
    if !missing.is_empty() {
        skip(test, &format!("needs {}", missing.join(", ")));
    }
    missing.is_empty()
}

fn to_peer(traffic: Traffic, offload: bool) -> Trial {
    Trial {
        traffic,
        target: Target::Peer,
        offload,
    }
}

fn between_pods(lab: &Lab) -> Course<'_> {
    let server: &Host = lab.pod(2, 1);
    Course {
        client: lab.pod(1, 1),
        server,
        address: lab.pod(2, 1).address(),
        ports: Ports::same(5201),
        keeps_gro: false,
    }
}

/// Runs it, and checks that every figure is there and can be.
fn run(trial: Trial, course: &Course) -> Result<Outcome> {
    let start = Instant::now();
    let outcome = course::run(trial, course, &PACE)?;
    println!("{trial}: {:.2?}: {:?}", start.elapsed(), outcome.figures);
    let told: Vec<_> = outcome.figures.keys().collect();
    let mut promised: Vec<_> = trial.figures().iter().collect();
    promised.sort();
    ensure!(told == promised, "{trial}: {told:?}, not {promised:?}");
    for (figure, &value) in &outcome.figures {
        let can_be = match figure {
            Figure::Loss => (0.0..=1.0).contains(&value),
            // A little work may fall between two of the kernel's clock ticks.
            Figure::CpuPerGigabit
            | Figure::CpuPerMillionConnections
            | Figure::CpuPerMillionPackets => value.is_finite() && value >= 0.0,
            _ => value.is_finite() && value > 0.0,
        };
        ensure!(can_be, "{trial}: {figure:?} is {value}");
    }
    Ok(outcome)
}

lab_test!(every_kind_of_traffic_yields_its_figures, {
    if !tools_or_skip("every_kind_of_traffic_yields_its_figures") {
        return Ok(());
    }
    let lab = Lab::builder().build()?;
    for traffic in [
        Traffic::Streams(1),
        Traffic::Streams(8),
        Traffic::Connections,
        Traffic::Flood(64),
        Traffic::Flood(1400),
        Traffic::Paced(64),
    ] {
        let outcome = run(to_peer(traffic, true), &between_pods(&lab))?;
        assert!(outcome.latencies.is_empty());
    }
    let requests = run(to_peer(Traffic::Requests, true), &between_pods(&lab))?;
    let ascending = |pair: &[(f64, f64)]| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1;
    assert!(
        requests.latencies.len() > 4 && requests.latencies.windows(2).all(ascending),
        "{requests:?}"
    );
    Ok(())
});

lab_test!(tools_speak_both_families, {
    if !tools_or_skip("tools_speak_both_families") {
        return Ok(());
    }
    for_families(|family| {
        let lab = Lab::builder().families(family).build()?;
        for traffic in [
            Traffic::Streams(1),
            Traffic::Requests,
            Traffic::Connections,
            Traffic::Paced(64),
        ] {
            run(to_peer(traffic, true), &between_pods(&lab))?;
        }
        Ok(())
    })
});

lab_test!(every_kind_of_traffic_goes_to_a_service, {
    if !tools_or_skip("every_kind_of_traffic_goes_to_a_service") {
        return Ok(());
    }
    let lab = Lab::builder()
        .flannel_rules(true)
        .kube_proxy_rules(Backend::Iptables)
        .build()?;
    let server = lab.pod(2, 1);
    let address = names::service_address(Family::V4, 10);
    for (name, protocol) in [("tcp", Protocol::Tcp), ("udp", Protocol::Udp)] {
        let service = Service::new(name, protocol, SocketAddr::new(address, 80));
        lab.add_service(&service.backend(server.address(), 8080))?;
    }
    let course = Course {
        address,
        ports: Ports {
            target: 80,
            listen: 8080,
        },
        ..between_pods(&lab)
    };
    for traffic in [
        Traffic::Streams(8),
        Traffic::Connections,
        Traffic::Requests,
        Traffic::Flood(64),
        Traffic::Paced(1400),
    ] {
        let target = Target::Service;
        let trial = Trial {
            target,
            ..to_peer(traffic, true)
        };
        run(trial, &course)?;
    }
    Ok(())
});

lab_test!(offloads_are_off_for_a_trial_and_on_again_after_it, {
    if !tools_or_skip("offloads_are_off_for_a_trial_and_on_again_after_it") {
        return Ok(());
    }
    let lab = Lab::builder().build()?;
    let course = between_pods(&lab);
    let trial = to_peer(Traffic::Streams(1), false);
    let before = features(&course)?;
    // Without segmentation offload no packet is larger than the wire's.
    let largest = 1500 + 14;
    assert!(bytes_a_packet(trial, &course)? <= largest);
    assert_eq!(features(&course)?, before);
    let with = to_peer(Traffic::Streams(1), true);
    assert!(bytes_a_packet(with, &course)? > largest);
    // Also after a failure: nobody is there.
    let nobody = Course {
        address: "10.244.2.99".parse()?,
        ports: Ports {
            target: 9,
            listen: 5201,
        },
        ..course
    };
    let error = course::run(trial, &nobody, &PACE).unwrap_err();
    assert!(format!("{error:#}").contains("iperf3"), "{error:#}");
    assert_eq!(features(&course)?, before);
    Ok(())
});

/// Runs it, and tells how large the packets were that the client's stack handed to its interface.
fn bytes_a_packet(trial: Trial, course: &Course) -> Result<u64> {
    let before = sent(course.client)?;
    run(trial, course)?;
    let now = sent(course.client)?;
    Ok((now.1 - before.1) / (now.0 - before.0))
}

lab_test!(the_client_of_connections_keeps_its_ports, {
    if !tools_or_skip("the_client_of_connections_keeps_its_ports") {
        return Ok(());
    }
    let lab = Lab::builder().build()?;
    let course = between_pods(&lab);
    let range = |host: &Host| host.read_sysctl("net.ipv4.ip_local_port_range");
    let before = range(course.client)?;
    run(to_peer(Traffic::Connections, true), &course)?;
    assert_eq!(range(course.client)?, before);
    let waiting = |host: &Host| -> Result<usize> {
        let sockets = host.run(&["ss", "-Htan", "state", "time-wait"])?;
        Ok(sockets.lines().count())
    };
    // wrk looks whether somebody is there, and breaks its 16 connections off at the end.
    let (client, server) = (waiting(course.client)?, waiting(course.server)?);
    println!("TIME_WAIT: client {client}, server {server}");
    assert!(client <= 17 && server > 0);
    Ok(())
});

/// What `ethtool` tells of both ends.
fn features(course: &Course) -> Result<[String; 2]> {
    let of = |host: &Host| host.run(&["ethtool", "-k", "eth0"]);
    Ok([of(course.client)?, of(course.server)?])
}

/// Packets and bytes that a host has sent, as its stack hands them to the interface.
fn sent(host: &Host) -> Result<(u64, u64)> {
    let count = |name: &str| -> Result<u64> {
        let links = host.run(&["ip", "-j", "-s", "link", "show", "eth0"])?;
        let links: serde_json::Value = serde_json::from_str(&links)?;
        let count = links[0]["stats64"]["tx"][name].as_u64();
        count.with_context(|| format!("no count of {name}"))
    };
    Ok((count("packets")?, count("bytes")?))
}
