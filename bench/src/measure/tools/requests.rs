//! TCP requests and responses, one at a time, by a client and a server of our own.
//!
//! sockperf does the same, and no more; but it sleeps for two seconds before each run and leaves 0.45 s of each second
//! out of its figures, so that a run of it takes as long as ten of these. How long a round trip takes is another thing from
//! one run to the next, by half at times, and the same within a run: many short runs tell more than a few long ones.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use super::{Ends, Measured};
use crate::measure::accept;
use crate::measure::cpu::{Account, stay_on};
use crate::traffic::socket;

/// Bytes of a request and of a response.
const MESSAGE: usize = 64;

/// How long connecting may take, and a response.
const PATIENCE: Duration = Duration::from_secs(10);

/// The percentiles that are told.
pub const PERCENTILES: [f64; 8] = [0.0, 25.0, 50.0, 75.0, 90.0, 99.0, 99.9, 100.0];

/// How requests and responses went.
#[derive(Clone, Debug, PartialEq)]
pub struct RoundTrips {
    /// Requests that were answered while it was measured.
    pub transactions: u64,
    /// Seconds in which they were.
    pub seconds: f64,
    /// Each of [`PERCENTILES`] (0: the least, 100: the most) and round trip in microseconds.
    pub latencies: Vec<(f64, f64)>,
}

impl RoundTrips {
    /// Within how many microseconds this share of the answers came: one of [`PERCENTILES`].
    pub fn within(&self, percentile: f64) -> Option<f64> {
        let mut latencies = self.latencies.iter();
        let found = latencies.find(|(told, _)| (told - percentile).abs() < 1e-6);
        found.map(|&(_, microseconds)| microseconds)
    }

    fn of(mut times: Vec<Duration>, seconds: f64) -> Option<Self> {
        times.sort_unstable();
        let last = times.len().checked_sub(1)?;
        let within = |percentile: f64| {
            let place = (percentile / 100.0 * last as f64).round() as usize;
            Some((percentile, times.get(place)?.as_secs_f64() * 1e6))
        };
        Some(Self {
            transactions: times.len() as u64,
            seconds,
            latencies: PERCENTILES.into_iter().filter_map(within).collect(),
        })
    }
}

/// Sends requests of 64 bytes over one connection, each after the answer to the one before: for a tenth of the time
/// without counting, and then for so long.
///
/// # Errors
/// When the connection can't be made or breaks.
pub fn round_trips(ends: &Ends, duration: Duration) -> Result<Measured<RoundTrips>> {
    let listener = socket::listen(ends.server, ends.ports.listen)?;
    let target = SocketAddr::new(ends.address, ends.ports.target);
    let near = socket::connect(ends.client, 0, target, PATIENCE)?;
    let far = accept(&listener, ends.server)?;
    for end in [&near, &far] {
        end.set_nodelay(true)?;
        end.set_read_timeout(Some(PATIENCE))?;
        end.set_write_timeout(Some(PATIENCE))?;
    }
    let (asked, answered) = thread::scope(|scope| {
        let answering = scope.spawn(|| answer(far, ends.server_cpu));
        let asking = scope.spawn(|| ask(near, duration, ends.client_cpu));
        (asking.join(), answering.join())
    });
    let measured = asked.map_err(|_| anyhow!("the client panicked"))?;
    answered.map_err(|_| anyhow!("the server panicked"))??;
    measured
}

fn answer(mut stream: TcpStream, cpu: usize) -> Result<()> {
    stay_on(cpu)?;
    let mut message = [0; MESSAGE];
    loop {
        let read = stream.read(&mut message).context("no request came")?;
        if read == 0 {
            return Ok(());
        }
        let rest = &mut message[read..];
        stream.read_exact(rest).context("half a request came")?;
        stream.write_all(&message).context("cannot answer")?;
    }
}

fn ask(mut stream: TcpStream, duration: Duration, cpu: usize) -> Result<Measured<RoundTrips>> {
    stay_on(cpu)?;
    exchange(&mut stream, duration / 10)?;
    let before = Account::read()?;
    let (times, took) = exchange(&mut stream, duration)?;
    let usage = Account::read()?.since(before);
    stream.shutdown(Shutdown::Write)?;
    Ok(Measured {
        value: RoundTrips::of(times, took.as_secs_f64()).context("not one answer came")?,
        cpu_seconds: usage.busy_seconds,
        stolen: usage.stolen,
    })
}

/// Asks for so long; how long each answer took, and how long all took.
fn exchange(stream: &mut TcpStream, duration: Duration) -> Result<(Vec<Duration>, Duration)> {
    let mut message = [0x55; MESSAGE];
    let mut times = Vec::with_capacity(1 << 17);
    let begin = Instant::now();
    let mut now = begin;
    while now - begin < duration {
        stream.write_all(&message).context("cannot ask")?;
        stream.read_exact(&mut message).context("no answer came")?;
        let answered = Instant::now();
        times.push(answered - now);
        now = answered;
    }
    ensure!(!times.is_empty(), "no time to ask in");
    Ok((times, now - begin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_taken_from_sorted_times() {
        let times = (1..=1001).rev().map(Duration::from_micros).collect();
        let trips = RoundTrips::of(times, 2.0).unwrap();
        let told = [0.0, 50.0, 99.0, 99.9, 100.0].map(|it| trips.within(it).unwrap().round());
        assert_eq!(told, [1.0, 501.0, 991.0, 1000.0, 1001.0]);
        assert_eq!((trips.transactions, trips.within(12.0)), (1001, None));
        assert_eq!(RoundTrips::of(Vec::new(), 1.0), None);
    }
}
