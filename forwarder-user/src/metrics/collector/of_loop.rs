//! What the agent's loop counts.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use underpass_common::settings::LAYOUT_VERSION;

use super::{gauge, gauges};
use crate::metrics::Health;

pub(super) fn encode_loop(
    encoder: &mut DescriptorEncoder<'_>,
    health: &Health,
) -> Result<(), fmt::Error> {
    let layout = LAYOUT_VERSION.to_string();
    let build = [("version", env!("CARGO_PKG_VERSION")), ("layout", &layout)];
    gauges(
        encoder,
        "underpass_build_info",
        "Always 1: the program's version, and that of its maps' layout",
        [(build, 1)],
    )?;
    for (name, help, count) in counters(health) {
        let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(count.load(Ordering::Relaxed)).encode(metric)?;
    }
    gauge(
        encoder,
        "underpass_reconciliation_failing",
        "1 while the newest reconciliation has failed",
        i64::from(health.failing.load(Ordering::Relaxed)),
    )?;
    let durations = encoder.encode_descriptor(
        "underpass_reconciliation_duration_seconds",
        "How long planning and applying took",
        None,
        MetricType::Histogram,
    )?;
    health.durations.encode(durations)?;
    gauge(
        encoder,
        "underpass_kernel_read_timestamp_seconds",
        "When links, addresses, routes and neighbours were last read whole, in seconds since 1970",
        health.kernel_read_unix_s.load(Ordering::Relaxed) as i64,
    )
}

fn counters(health: &Health) -> [(&'static str, &'static str, &AtomicU64); 5] {
    [
        (
            "underpass_reconciliations",
            "Times that the loop applied what it wanted",
            &health.reconciled,
        ),
        (
            "underpass_reconciliation_failures",
            "Times that the loop could not",
            &health.failed,
        ),
        (
            "underpass_netlink_overruns",
            "Times that the kernel dropped events because they were not taken in time; everything is read anew then",
            &health.overruns,
        ),
        (
            "underpass_neighbours_lost",
            "Times that another node, on the fast path before, no longer had a MAC",
            &health.neighbours_lost,
        ),
        (
            "underpass_node_event_failures",
            "Times that a Kubernetes Event about a Node could not be written",
            &health.event_failures,
        ),
    ]
}
