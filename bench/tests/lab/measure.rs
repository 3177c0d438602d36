//! The measures give figures that can be.

use std::time::Duration;

use underpass_bench::Lab;
use underpass_bench::measure::{tcp_round_trips, tcp_stream, udp_packets};

use crate::lab_test;

const SHORT: Duration = Duration::from_millis(300);

lab_test!(all_measures_give_figures, {
    let lab = Lab::builder().build()?;
    let (client, server) = (lab.pod(1, 1), lab.pod(2, 1));
    let stream = tcp_stream(client, server, server.address(), SHORT)?;
    assert!(
        stream.bytes > 0 && stream.gigabits_per_second > 0.0,
        "{stream:?}"
    );
    let trips = tcp_round_trips(client, server, server.address(), SHORT)?;
    assert!(trips.per_second > 0.0, "{trips:?}");
    assert!(
        trips.p50_microseconds <= trips.p99_microseconds,
        "{trips:?}"
    );
    let packets = udp_packets(client, server, server.address(), SHORT)?;
    assert!(packets.received > 0, "{packets:?}");
    assert!(packets.received <= packets.sent, "{packets:?}");
    println!("{stream:?}\n{trips:?}\n{packets:?}");
    Ok(())
});
