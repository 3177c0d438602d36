//! Packets per second, from two readings.

use std::time::Duration;

use serde::Serialize;

use super::{Status, Traffic, VerdictReport};

/// What went by between two readings.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rates {
    /// How far apart the readings were, in seconds.
    pub interval_s: f64,
    /// Packets past the kernel, per second.
    pub fast_packets_per_s: f64,
    /// Their bytes, per second.
    pub fast_bytes_per_s: f64,
    /// Pod packets left to the kernel, per second.
    pub kernel_packets_per_s: f64,
    /// Their bytes, per second.
    pub kernel_bytes_per_s: f64,
    /// Fast packets of all in that time; absent while there are none.
    pub fast_share: Option<f64>,
}

/// Fills in what has gone by since `before`, which was read `passed` earlier.
pub(in crate::inspect) fn since(status: &mut Status, before: &[VerdictReport], passed: Duration) {
    let seconds = passed.as_secs_f64();
    if seconds <= 0.0 {
        return;
    }
    for count in &mut status.verdicts {
        let same = |it: &&VerdictReport| (it.hook, it.verdict) == (count.hook, count.verdict);
        let (packets, bytes) = before
            .iter()
            .find(same)
            .map_or((0, 0), |it| (it.packets, it.bytes));
        count.packets_per_s = Some(count.packets.saturating_sub(packets) as f64 / seconds);
        count.bytes_per_s = Some(count.bytes.saturating_sub(bytes) as f64 / seconds);
    }
    let (then, now) = (super::traffic(before), &status.traffic);
    let new = |of: fn(&Traffic) -> u64| of(now).saturating_sub(of(&then));
    let per_second = |of| new(of) as f64 / seconds;
    let (fast, kernel) = (
        new(|it: &Traffic| it.fast_packets),
        new(|it: &Traffic| it.kernel_packets),
    );
    let all = fast.saturating_add(kernel);
    status.rates = Some(Rates {
        interval_s: seconds,
        fast_packets_per_s: per_second(|it| it.fast_packets),
        fast_bytes_per_s: per_second(|it| it.fast_bytes),
        kernel_packets_per_s: per_second(|it| it.kernel_packets),
        kernel_bytes_per_s: per_second(|it| it.kernel_bytes),
        fast_share: (all > 0).then(|| fast as f64 / all as f64),
    });
}
