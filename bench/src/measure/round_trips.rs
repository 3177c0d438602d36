//! TCP request and response, one at a time.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde::Serialize;

use super::{connect, warm_up};
use crate::lab::Host;

/// Bytes of a request and of a response.
const MESSAGE: usize = 64;

/// How requests and responses went.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct RoundTrips {
    /// Requests that were answered while it was measured.
    pub transactions: u64,
    /// Of these, how many per second.
    pub per_second: f64,
    /// Half of the answers came within this many microseconds.
    pub p50_microseconds: f64,
    /// 99 of 100 answers came within this many microseconds.
    pub p99_microseconds: f64,
}

/// Sends requests of 64 bytes from `client` to `server` at its `address` for this long, each after the
/// answer to the one before.
///
/// # Errors
/// When the connection can't be made or breaks.
pub fn tcp_round_trips(
    client: &Host,
    server: &Host,
    address: IpAddr,
    duration: Duration,
) -> Result<RoundTrips> {
    let (near, far) = connect(client, server, address)?;
    let (asked, answered) = thread::scope(|scope| {
        let answering = scope.spawn(|| answer(far));
        let asking = scope.spawn(|| ask(near, duration));
        (asking.join(), answering.join())
    });
    let times = asked.map_err(|_| anyhow!("the client panicked"))??;
    answered.map_err(|_| anyhow!("the server panicked"))??;
    summary(times).context("not one answer came")
}

fn answer(mut stream: TcpStream) -> Result<()> {
    let mut message = [0; MESSAGE];
    loop {
        match stream.read(&mut message[..1]).context("no request")? {
            0 => return Ok(()),
            _ => stream
                .read_exact(&mut message[1..])
                .context("half a request")?,
        }
        stream.write_all(&message).context("cannot answer")?;
    }
}

fn ask(mut stream: TcpStream, duration: Duration) -> Result<Vec<Duration>> {
    let mut message = [0x55; MESSAGE];
    let begin = Instant::now() + warm_up(duration);
    let end = begin + duration;
    let mut times = Vec::new();
    loop {
        let start = Instant::now();
        if start >= end {
            stream.shutdown(Shutdown::Write)?;
            return Ok(times);
        }
        stream.write_all(&message).context("cannot ask")?;
        stream.read_exact(&mut message).context("no answer")?;
        if start >= begin {
            times.push(start.elapsed());
        }
    }
}

fn summary(mut times: Vec<Duration>) -> Option<RoundTrips> {
    times.sort_unstable();
    let total: Duration = times.iter().sum();
    let within = |percent: usize| {
        let index = (times.len() * percent / 100).min(times.len().checked_sub(1)?);
        Some(times[index].as_secs_f64() * 1e6)
    };
    Some(RoundTrips {
        transactions: times.len() as u64,
        per_second: times.len() as f64 / total.as_secs_f64(),
        p50_microseconds: within(50)?,
        p99_microseconds: within(99)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_taken_from_sorted_times() {
        let times = (1..=100).rev().map(Duration::from_micros).collect();
        let summary = summary(times).unwrap();
        assert_eq!(summary.transactions, 100);
        assert!((summary.p50_microseconds - 51.0).abs() < 1e-6);
        assert!((summary.p99_microseconds - 100.0).abs() < 1e-6);
        assert!((summary.per_second - 100.0 / 5050e-6).abs() < 1e-3);
    }

    #[test]
    fn no_answers_make_no_summary() {
        assert!(summary(Vec::new()).is_none());
    }
}
