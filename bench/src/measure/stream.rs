//! One TCP stream.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde::Serialize;

use super::{connect, warm_up};
use crate::lab::Host;

/// Bytes per call of read and write.
const CHUNK: usize = 128 << 10;

/// What a TCP stream carried.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Throughput {
    /// Bytes that arrived while it was measured.
    pub bytes: u64,
    /// Seconds that it was measured for.
    pub seconds: f64,
    /// 10^9 bits of payload per second.
    pub gigabits_per_second: f64,
}

/// Sends one TCP stream from `client` to `server` at its `address` for this long.
///
/// # Errors
/// When the connection can't be made or breaks.
pub fn tcp_stream(
    client: &Host,
    server: &Host,
    address: IpAddr,
    duration: Duration,
) -> Result<Throughput> {
    let (near, far) = connect(client, server, address)?;
    let end = Instant::now() + warm_up(duration) + duration;
    let (sent, received) = thread::scope(|scope| {
        let sender = scope.spawn(|| send(near, end));
        let receiver = scope.spawn(|| receive(far, warm_up(duration)));
        (sender.join(), receiver.join())
    });
    sent.map_err(|_| anyhow!("the sender panicked"))??;
    let (bytes, elapsed) = received.map_err(|_| anyhow!("the receiver panicked"))??;
    let seconds = elapsed.as_secs_f64();
    Ok(Throughput {
        bytes,
        seconds,
        gigabits_per_second: bytes as f64 * 8.0 / seconds / 1e9,
    })
}

fn send(mut stream: TcpStream, end: Instant) -> Result<()> {
    let chunk = vec![0x55; CHUNK];
    while Instant::now() < end {
        stream.write_all(&chunk).context("a stream cannot send")?;
    }
    stream
        .shutdown(Shutdown::Write)
        .context("a stream cannot be closed")
}

/// Bytes that came after `warm_up`, and the time they took.
fn receive(mut stream: TcpStream, warm_up: Duration) -> Result<(u64, Duration)> {
    let mut buffer = vec![0; CHUNK];
    let begin = Instant::now() + warm_up;
    let mut counted: Option<(Instant, u64)> = None;
    loop {
        let len = stream
            .read(&mut buffer)
            .context("a stream cannot receive")?;
        let now = Instant::now();
        match &mut counted {
            Some((start, bytes)) if len == 0 => return Ok((*bytes, now - *start)),
            Some((_, bytes)) => *bytes += len as u64,
            None if len == 0 => return Err(anyhow!("a stream ended while it warmed up")),
            None if now >= begin => counted = Some((now, 0)),
            None => {}
        }
    }
}
