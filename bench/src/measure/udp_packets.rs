//! Small UDP packets, as many as one thread can send.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde::Serialize;

use super::warm_up;
use crate::lab::{Family, Host};
use crate::traffic::socket;

/// Bytes of UDP payload.
const PAYLOAD: usize = 64;
/// How long the receiver waits for a packet before it takes the stream for ended.
const SILENCE: Duration = Duration::from_millis(300);

/// What became of the packets.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct PacketRate {
    /// Packets sent, from the first to the last.
    pub sent: u64,
    /// Packets that arrived while it was measured.
    pub received: u64,
    /// Of these, how many per second.
    pub received_per_second: f64,
}

/// Sends UDP packets with 64 bytes of payload from `client` to `server` at its `address` for this long.
///
/// # Errors
/// When a socket can't be made, or nothing arrives.
pub fn udp_packets(
    client: &Host,
    server: &Host,
    address: IpAddr,
    duration: Duration,
) -> Result<PacketRate> {
    let receiver = socket::udp_server(server, 0)?;
    receiver.set_read_timeout(Some(SILENCE))?;
    let sender = socket::udp_client(client, 0, Family::of(address))?;
    let target = SocketAddr::new(address, receiver.local_addr()?.port());
    sender
        .connect(target)
        .with_context(|| format!("{}: no way to {target}", client.name()))?;
    let begin = Instant::now() + warm_up(duration);
    let end = begin + duration;
    let (sent, received) = thread::scope(|scope| {
        let receiving = scope.spawn(|| receive(&receiver, begin, end));
        let sending = scope.spawn(|| send(&sender, end));
        (sending.join(), receiving.join())
    });
    let sent = sent.map_err(|_| anyhow!("the sender panicked"))?;
    let received = received.map_err(|_| anyhow!("the receiver panicked"))?;
    if received == 0 {
        return Err(anyhow!(
            "{sent} UDP packets to {target} were sent, none arrived"
        ));
    }
    Ok(PacketRate {
        sent,
        received,
        received_per_second: received as f64 / duration.as_secs_f64(),
    })
}

fn send(socket: &UdpSocket, end: Instant) -> u64 {
    let payload = [0x55; PAYLOAD];
    let mut sent = 0;
    while Instant::now() < end {
        // A full queue refuses a packet now and then: it isn't sent, and so isn't counted.
        sent += u64::from(socket.send(&payload).is_ok());
    }
    sent
}

/// Packets that come between `begin` and `end`.
fn receive(socket: &UdpSocket, begin: Instant, end: Instant) -> u64 {
    let mut buffer = [0; PAYLOAD];
    let mut received = 0;
    loop {
        let came = socket.recv(&mut buffer).is_ok();
        let now = Instant::now();
        if now >= end {
            return received;
        }
        received += u64::from(came && now >= begin);
    }
}
