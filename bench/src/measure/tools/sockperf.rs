//! sockperf: TCP requests and responses, one at a time.

use anyhow::{Context, Result, ensure};

use super::pinned::{Pinned, command};
use super::{Ends, Measured};

/// Bytes of a request and of a response.
const MESSAGE: u16 = 64;

/// How requests and responses went.
#[derive(Clone, Debug, PartialEq)]
pub struct RoundTrips {
    /// Requests that were answered while it was measured.
    pub transactions: u64,
    /// Seconds in which they were.
    pub seconds: f64,
    /// Percentile (0: the least, 100: the most) and round trip in microseconds, ascending.
    pub latencies: Vec<(f64, f64)>,
}

impl RoundTrips {
    /// Within how many microseconds this share of the answers came: one of the percentiles that sockperf tells.
    pub fn within(&self, percentile: f64) -> Option<f64> {
        let mut latencies = self.latencies.iter();
        let found = latencies.find(|(told, _)| (told - percentile).abs() < 1e-6);
        found.map(|&(_, microseconds)| microseconds)
    }
}

/// Sends requests of 64 bytes over one connection for whole seconds, each after the answer to the one before.
/// sockperf leaves 0.4 s at the beginning and 0.05 s at the end out of its figures; and it sleeps for two seconds
/// before it begins, which no option spares.
///
/// # Errors
/// When sockperf isn't there, or fails; and for an address of IPv6, which Debian's sockperf 3.7 doesn't know.
pub fn round_trips(ends: &Ends, seconds: u64) -> Result<Measured<RoundTrips>> {
    let listen = ends.ports.listen;
    ensure!(ends.address.is_ipv4(), "sockperf 3.7 knows no IPv6");
    // Another tool's connections may still be in TIME_WAIT on this port.
    let words = format!("server --tcp --uc-reuseaddr -i 0.0.0.0 -p {listen}");
    let server = command("sockperf", &words);
    let mut server = Pinned::start(ends.server, ends.server_cpu, server)?;
    server.wait_until_listening(ends.server, listen)?;
    let (address, target) = (ends.address, ends.ports.target);
    // By itself it halves the round trip.
    let words =
        format!("ping-pong --tcp --full-rtt -m {MESSAGE} -t {seconds} -i {address} -p {target}");
    let client = command("sockperf", &words);
    let said = Pinned::measure(ends.client, ends.client_cpu, client, seconds)?;
    said.try_map(|said| parse(&said))
}

fn parse(said: &str) -> Result<RoundTrips> {
    let sense = || format!("cannot make out what sockperf says: {said}");
    let valid = said.lines().find(|line| line.contains("[Valid Duration]"));
    let valid = valid.with_context(sense)?;
    let number = |name| after(valid, name).with_context(sense);
    let (seconds, transactions) = (number("RunTime=")?, number("ReceivedMessages=")?);
    let mut latencies: Vec<_> = said.lines().filter_map(percentile).collect();
    latencies.sort_by(|a, b| a.0.total_cmp(&b.0));
    ensure!(
        transactions > 0.0 && seconds > 0.0 && latencies.len() > 2,
        sense()
    );
    Ok(RoundTrips {
        transactions: transactions as u64,
        seconds,
        latencies,
    })
}

/// The number behind `name`.
fn after(line: &str, name: &str) -> Option<f64> {
    let (_, rest) = line.split_once(name)?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
    rest[..end.unwrap_or(rest.len())].parse().ok()
}

/// From `sockperf: ---> percentile 99.900 =   67.135`, and likewise `<MAX> observation` and `<MIN> observation`.
fn percentile(line: &str) -> Option<(f64, f64)> {
    let (_, told) = line.split_once("---> ")?;
    let (name, microseconds) = told.split_once('=')?;
    let percentile = match name.trim() {
        "<MIN> observation" => 0.0,
        "<MAX> observation" => 100.0,
        other => other.strip_prefix("percentile ")?.parse().ok()?,
    };
    Some((percentile, microseconds.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_percentiles_are_read() {
        let trips = parse(include_str!("said/sockperf.txt")).unwrap();
        assert_eq!((trips.transactions, trips.seconds), (23_567, 0.55));
        let ends = (trips.latencies.first(), trips.latencies.last());
        assert_eq!(ends, (Some(&(0.0, 20.879)), Some(&(100.0, 2019.567))));
        assert_eq!(trips.latencies.len(), 10);
        let told = [50.0, 99.0, 99.9].map(|percentile| trips.within(percentile));
        assert_eq!(told, [Some(22.301), Some(40.816), Some(67.135)]);
        assert_eq!(trips.within(12.0), None);
    }

    #[test]
    fn other_words_are_shown() {
        let error = parse("sockperf: ERROR: Can`t connect socket").unwrap_err();
        assert!(error.to_string().ends_with("Can`t connect socket"));
    }
}
