//! iperf3: TCP streams, and UDP packets at a fixed rate or as many as go.
//!
//! For the flood, sockperf's `throughput` and a bare loop around `send` were tried, too. CPU time of the sender for
//! a packet of 64 bytes over plain routes, three short runs each on a machine busy with other work, so roughly: loop
//! 7.9 µs, sockperf 8.9, iperf3 8.5, of each at most 0.5 outside the kernel. So a standard tool will do, and iperf3
//! doesn't sleep for two seconds first, as sockperf does.

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::pinned::{Pinned, command};
use super::{Ends, Measured};

/// Bytes that a UDP socket shall hold, if the machine allows it.
const BUFFER: u64 = 4 << 20;

/// What TCP streams carried, all together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Streams {
    /// Bytes of payload that the server received.
    pub bytes: u64,
    /// Seconds in which it did, by its clock.
    pub seconds: f64,
}

/// What became of UDP packets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Packets {
    /// Packets that the client sent.
    pub sent: u64,
    /// Packets that the server received.
    pub received: u64,
    /// Packets that were missing before the last one that arrived.
    pub lost: u64,
    /// Seconds in which they came, by the server's clock.
    pub seconds: f64,
}

impl Packets {
    /// The share that was lost, 0 to 1.
    pub fn loss(self) -> f64 {
        self.lost as f64 / (self.received + self.lost) as f64
    }
}

/// Sends this many TCP streams at once, for whole seconds.
///
/// # Errors
/// When iperf3 isn't there, or fails.
pub fn streams(ends: &Ends, count: u8, seconds: u64) -> Result<Measured<Streams>> {
    run(ends, seconds, &format!("-P {count}"))?.try_map(|said| parse_streams(&said))
}

/// Sends UDP packets with `size` bytes of payload (at least 16) in one stream, for whole seconds: at this many a
/// second, or as many as go.
///
/// # Errors
/// As [`streams`], and when nothing arrives.
pub fn packets(
    ends: &Ends,
    size: u16,
    rate: Option<u32>,
    seconds: u64,
) -> Result<Measured<Packets>> {
    let bits = rate.map_or(0, |rate| u64::from(rate) * u64::from(size) * 8);
    let words = format!("-u -b {bits} -l {size} -w {}", buffer());
    run(ends, seconds, &words)?.try_map(|said| parse_packets(&said, size))
}

/// Runs server and client; the client's JSON holds what the server told it.
fn run(ends: &Ends, seconds: u64, words: &str) -> Result<Measured<String>> {
    let listen = ends.ports.listen;
    // For one test, then it ends.
    let server = command("iperf3", &format!("-s -1 -p {listen}"));
    let mut server = Pinned::start(ends.server, ends.server_cpu, server)?;
    server.wait_until_listening(ends.server, listen)?;
    let (address, target) = (ends.address, ends.ports.target);
    let words = format!("-J -c {address} -p {target} -t {seconds} {words}");
    let client = command("iperf3", &words);
    Pinned::measure(ends.client, ends.client_cpu, client, seconds)
}

/// What to ask for with `-w`, at both ends. A socket of the default size loses packets whenever its owner waits for
/// the CPU a few milliseconds. iperf3 fails if it gets less than it asks for, and the kernel gives twice the limit at
/// most (socket(7)).
fn buffer() -> u64 {
    let limit = |name| -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/sys/net/core/{name}")).ok()?;
        text.trim().parse().ok()
    };
    let limits = [limit("rmem_max"), limit("wmem_max")];
    // Each is there for whoever sees the machine's own /proc/sys; otherwise what Linux has by itself.
    let least = limits.map(|limit| limit.unwrap_or(212_992)).into_iter();
    least.min().map_or(BUFFER, |least| (2 * least).min(BUFFER))
}

#[derive(Deserialize)]
struct Report {
    error: Option<String>,
    #[serde(default)]
    end: End,
}

#[derive(Default, Deserialize)]
struct End {
    sum: Option<Sum>,
    sum_sent: Option<Sum>,
    sum_received: Option<Sum>,
}

#[derive(Clone, Copy, Deserialize)]
struct Sum {
    seconds: f64,
    bytes: u64,
    packets: Option<u64>,
    lost_packets: Option<i64>,
}

fn parse_streams(said: &str) -> Result<Streams> {
    let sum = end(said)?.sum_received;
    let sum = sum.context("iperf3 doesn't tell what was received")?;
    ensure!(
        sum.bytes > 0 && sum.seconds > 0.0,
        "nothing arrived of iperf3's streams"
    );
    Ok(Streams {
        bytes: sum.bytes,
        seconds: sum.seconds,
    })
}

/// The server's counts stand in `sum_received` since 3.10, before that in `sum` alone; there `packets` may be what
/// the client sent, while `lost_packets` is always the server's.
fn parse_packets(said: &str, size: u16) -> Result<Packets> {
    let end = end(said)?;
    let there = end.sum_received.filter(|sum| sum.packets.is_some());
    let there = there.or(end.sum);
    let there = there.context("iperf3 doesn't tell what was received")?;
    let expected = there
        .packets
        .context("iperf3 doesn't tell how many packets")?;
    // A packet that comes late is subtracted again, and one that comes twice, once too often.
    let lost = there.lost_packets.unwrap_or_default().max(0) as u64;
    let received = expected.checked_sub(lost);
    let received =
        received.with_context(|| format!("iperf3 lost {lost} packets of {expected}: {said}"))?;
    let sent = end.sum_sent.or(end.sum).and_then(|sum| sum.packets);
    let sent = sent.unwrap_or(expected);
    ensure!(
        received > 0 && there.seconds > 0.0,
        "of {sent} UDP packets of {size} bytes none arrived"
    );
    // What is missing at the end, the server doesn't miss. Some of it may still lie in a queue.
    ensure!(
        expected <= sent && expected > sent / 20 * 19,
        "iperf3 sent {sent} packets, and the last that came was number {expected}"
    );
    Ok(Packets {
        sent,
        received,
        lost,
        seconds: there.seconds,
    })
}

/// The end of a report, which may stand behind warnings.
fn end(said: &str) -> Result<End> {
    let begin = said
        .find('{')
        .with_context(|| format!("iperf3 says: {}", said.trim()))?;
    let mut values = serde_json::Deserializer::from_str(&said[begin..]).into_iter();
    let report: Report = values
        .next()
        .context("iperf3 says nothing")?
        .context("cannot make out iperf3's report")?;
    if let Some(error) = report.error {
        bail!("iperf3: {error}");
    }
    Ok(report.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_what_the_server_received() {
        let streams = parse_streams(include_str!("said/iperf3-tcp.json")).unwrap();
        let expected = Streams {
            bytes: 793_443_976,
            seconds: 1.001312,
        };
        assert_eq!(streams, expected);
    }

    #[test]
    fn packets_are_what_the_server_received() {
        let packets = parse_packets(include_str!("said/iperf3-udp.json"), 64).unwrap();
        // 3,505,280 bytes, as the same report says.
        assert_eq!(packets.received, 3_505_280 / 64);
        assert_eq!((packets.sent, packets.lost), (67_850, 12_924));
        assert!((packets.loss() - 12_924.0 / 67_694.0).abs() < 1e-12);
    }

    #[test]
    fn older_versions_have_one_sum() {
        let said = r#"{"end": {"sum": {"start": 0, "seconds": 1.0, "bytes": 6400, "packets": 100, "lost_packets": 3}}}"#;
        let packets = parse_packets(said, 64).unwrap();
        assert_eq!((packets.sent, packets.received, packets.lost), (100, 97, 3));
    }

    #[test]
    fn counts_that_cannot_be_are_refused() {
        let said = |packets, lost| {
            format!(
                r#"{{"end": {{"sum": {{"seconds": 1.0, "bytes": 1, "packets": {packets}, "lost_packets": {lost}}}}}}}"#
            )
        };
        for (packets, lost) in [(3, 4), (4, 4)] {
            assert!(parse_packets(&said(packets, lost), 64).is_err());
        }
    }

    #[test]
    fn its_own_words_tell_what_failed() {
        let said = "warning: something\n{\"start\": {}, \"error\": \"unable to connect to server: Connection refused\"}\n";
        let error = parse_streams(said).unwrap_err().to_string();
        assert_eq!(
            error,
            "iperf3: unable to connect to server: Connection refused"
        );
    }
}
