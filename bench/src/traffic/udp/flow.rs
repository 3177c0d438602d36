//! Numbered packets at a steady rate.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};

use super::receiver::{HEADER, UdpReceiver};
use crate::lab::{Family, Host};
use crate::traffic::{lock, socket};
use crate::wait::wait_until;

/// How long the last packets of a flow may be under way.
const LAST_ARRIVALS: Duration = Duration::from_secs(1);

/// Tells the packets of one flow from those of all others that this process ever sent.
static NEXT_FLOW: AtomicU64 = AtomicU64::new(1);

/// Numbered packets in one direction, to be sent.
#[derive(Clone, Copy, Debug)]
pub struct UdpFlow {
    target: SocketAddr,
    listen_port: u16,
    local_port: u16,
    rate: u32,
    burst: u32,
    size: usize,
    limit: u64,
}

impl UdpFlow {
    /// To this address, with a receiver on the same port: 1,000 packets/s of 64 bytes, until stopped.
    pub fn to(target: SocketAddr) -> Self {
        Self {
            target,
            listen_port: target.port(),
            local_port: 0,
            rate: 1000,
            burst: 1,
            size: 64,
            limit: u64::MAX,
        }
    }

    /// At this rate, in packets per second; at least 1.
    #[must_use]
    pub fn rate(mut self, packets_per_second: u32) -> Self {
        self.rate = packets_per_second.max(1);
        self
    }

    /// This many at a time without a pause between them; the rate stays what it is on average.
    #[must_use]
    pub fn burst(mut self, packets: u32) -> Self {
        self.burst = packets.max(1);
        self
    }

    /// With this many bytes of UDP payload; at least 16.
    #[must_use]
    pub fn size(mut self, bytes: usize) -> Self {
        self.size = bytes.max(HEADER);
        self
    }

    /// This many packets and no more.
    #[must_use]
    pub fn packets(mut self, packets: u64) -> Self {
        self.limit = packets;
        self
    }

    /// To a receiver on another port than the target's, as behind a service.
    #[must_use]
    pub fn listen_port(mut self, port: u16) -> Self {
        self.listen_port = port;
        self
    }

    /// From this port of the sender.
    #[must_use]
    pub fn local_port(mut self, port: u16) -> Self {
        self.local_port = port;
        self
    }

    /// Starts it in the background.
    ///
    /// # Errors
    /// When a port is taken.
    pub fn start(self, sender: &Host, receiver: &Host) -> Result<UdpStream> {
        let id = NEXT_FLOW.fetch_add(1, Ordering::Relaxed) << 32 | u64::from(std::process::id());
        let receiver = UdpReceiver::start(receiver, self.listen_port, id)?;
        let family = Family::of(self.target.ip());
        let socket = socket::udp_client(sender, self.local_port, family)?;
        let sending = Arc::new(Sending::default());
        let thread = {
            let sending = Arc::clone(&sending);
            thread::Builder::new()
                .name(format!("{} udp", sender.name()))
                .spawn(move || self.send(&socket, id, &sending))?
        };
        Ok(UdpStream {
            receiver,
            sending,
            thread: Some(thread),
        })
    }

    /// Sends all packets and tells what became of them.
    ///
    /// # Errors
    /// As [`start`](Self::start); and when no number of packets was given.
    pub fn run(self, sender: &Host, receiver: &Host) -> Result<UdpReport> {
        ensure!(
            self.limit != u64::MAX,
            "a flow without a number of packets never ends"
        );
        let mut stream = self.start(sender, receiver)?;
        if let Some(thread) = stream.thread.take() {
            thread.join().map_err(|_| anyhow!("the sender panicked"))?;
        }
        stream.stop()
    }

    /// Sends until told to stop; behind its time it catches up.
    fn send(self, socket: &UdpSocket, id: u64, sending: &Sending) {
        let interval = Duration::from_secs(1) * self.burst / self.rate;
        let mut payload = vec![0; self.size];
        payload[..8].copy_from_slice(&id.to_be_bytes());
        let mut due = Instant::now();
        for sequence in 0..self.limit {
            if sequence.is_multiple_of(self.burst.into()) {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                due += interval;
            }
            if sending.stop.load(Ordering::Relaxed) {
                return;
            }
            payload[8..HEADER].copy_from_slice(&sequence.to_be_bytes());
            // What the kernel refuses to send counts as sent, and so as lost.
            if let Err(error) = socket.send_to(&payload, self.target) {
                lock(&sending.errors).get_or_insert(error);
            }
            sending.sent.store(sequence + 1, Ordering::Relaxed);
        }
    }
}

#[derive(Debug, Default)]
struct Sending {
    sent: AtomicU64,
    stop: AtomicBool,
    errors: Mutex<Option<io::Error>>,
}

/// A flow under way. Dropping it stops it.
#[derive(Debug)]
pub struct UdpStream {
    receiver: UdpReceiver,
    sending: Arc<Sending>,
    thread: Option<JoinHandle<()>>,
}

/// What became of a flow's packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpReport {
    /// Packets sent.
    pub sent: u64,
    /// Of these, how many arrived at least once.
    pub received: u64,
    /// Of these, how many never arrived.
    pub lost: u64,
    /// How often one arrived again.
    pub duplicated: u64,
    /// How often one arrived after a later one.
    pub out_of_order: u64,
    /// The first that was lost, counted from 0.
    pub first_lost: Option<u64>,
    /// Which were lost, in order, counted from 0.
    pub lost_ones: Vec<u64>,
    /// Of the lost ones, how many came to a receiver whose buffer was full.
    pub overflowed: u64,
    /// The first thing that the sender's kernel said against sending.
    pub send_error: Option<String>,
}

impl UdpStream {
    /// Packets sent so far.
    pub fn sent(&self) -> u64 {
        self.sending.sent.load(Ordering::Relaxed)
    }

    /// Packets that have arrived so far.
    pub fn received(&self) -> u64 {
        self.receiver.received()
    }

    /// Waits until this many packets more have arrived.
    ///
    /// # Errors
    /// When they haven't after `deadline`.
    pub fn wait_for_more(&self, packets: u64, deadline: Duration) -> Result<()> {
        let goal = self.received() + packets;
        let what = format!("{packets} more packets of a UDP flow arrive");
        wait_until(deadline, &what, || self.received() >= goal)
    }

    /// Stops sending, waits for what is under way, and tells what became of all.
    ///
    /// # Errors
    /// When a thread panicked.
    pub fn stop(mut self) -> Result<UdpReport> {
        self.stop_sending()?;
        let sent = self.sent();
        // In vain where some were lost: the report tells.
        let _ = wait_until(LAST_ARRIVALS, "all packets arrive", || {
            self.received() >= sent
        });
        let arrivals = self.receiver.stop()?;
        let send_error = lock(&self.sending.errors).take();
        let lost_ones: Vec<_> = (0..sent)
            .filter(|&sequence| !arrivals.seen.contains(sequence))
            .collect();
        Ok(UdpReport {
            sent,
            received: arrivals.seen.len(),
            lost: sent.saturating_sub(arrivals.seen.len()),
            duplicated: arrivals.duplicated,
            out_of_order: arrivals.out_of_order,
            first_lost: lost_ones.first().copied(),
            lost_ones,
            overflowed: arrivals.overflowed,
            send_error: send_error.map(|error| error.to_string()),
        })
    }

    fn stop_sending(&mut self) -> Result<()> {
        self.sending.stop.store(true, Ordering::Relaxed);
        match self.thread.take() {
            Some(thread) => thread.join().map_err(|_| anyhow!("the sender panicked")),
            None => Ok(()),
        }
    }
}

impl Drop for UdpStream {
    fn drop(&mut self) {
        let _ = self.stop_sending();
    }
}
