//! The end that counts.

use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow};

use super::LOOK;
use crate::lab::Host;
use crate::traffic::socket;

/// Bytes of flow id and sequence number, big-endian, before the padding.
pub(super) const HEADER: usize = 16;

/// Which packets of a flow have arrived.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// Each sequence number, once.
    pub seen: Sequences,
    next: u64,
    /// How often one arrived again.
    pub duplicated: u64,
    /// How often one arrived after a later one.
    pub out_of_order: u64,
    /// How many found the socket's buffer full: no network has lost them.
    pub overflowed: u64,
}

/// A set of sequence numbers that begin at 0: a bit for each.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    bits: Vec<u64>,
    len: u64,
}

impl Sequences {
    /// True where it is new.
    fn insert(&mut self, sequence: u64) -> bool {
        let (word, bit) = ((sequence / 64) as usize, 1 << (sequence % 64));
        if word >= self.bits.len() {
            self.bits.resize(word + 1, 0);
        }
        let is_new = self.bits[word] & bit == 0;
        self.bits[word] |= bit;
        self.len += u64::from(is_new);
        is_new
    }

    pub fn contains(&self, sequence: u64) -> bool {
        let word = self.bits.get((sequence / 64) as usize);
        word.is_some_and(|word| word & 1 << (sequence % 64) != 0)
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.len
    }
}

impl Arrivals {
    fn note(&mut self, sequence: u64) {
        if !self.seen.insert(sequence) {
            self.duplicated += 1;
        } else if sequence < self.next {
            self.out_of_order += 1;
        }
        self.next = self.next.max(sequence + 1);
    }
}

/// Counts the packets of one flow. Dropping it stops it.
#[derive(Debug)]
pub(super) struct UdpReceiver {
    received: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Arrivals>>,
}

impl UdpReceiver {
    pub(super) fn start(host: &Host, port: u16, id: u64) -> Result<Self> {
        let socket = socket::udp_server(host, port)?;
        socket.set_read_timeout(Some(LOOK))?;
        let (received, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let thread = {
            let (received, stop) = (Arc::clone(&received), Arc::clone(&stop));
            thread::Builder::new()
                .name(format!("{} udp", host.name()))
                .spawn(move || count(&socket, id, &received, &stop))?
        };
        Ok(Self {
            received,
            stop,
            thread: Some(thread),
        })
    }

    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(super) fn stop(&mut self) -> Result<Arrivals> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self
            .thread
            .take()
            .context("the receiver was stopped before")?;
        thread.join().map_err(|_| anyhow!("the receiver panicked"))
    }
}

impl Drop for UdpReceiver {
    fn drop(&mut self) {
        if self.thread.is_some() {
            let _ = self.stop();
        }
    }
}

/// Receives until told to stop, and then what is left in the buffer.
fn count(socket: &UdpSocket, id: u64, received: &AtomicU64, stop: &AtomicBool) -> Arrivals {
    let mut arrivals = Arrivals::default();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let stopping = stop.load(Ordering::Relaxed);
        match socket.recv(&mut buffer) {
            Ok(len) => {
                if let Some(sequence) = sequence_of(&buffer[..len], id) {
                    arrivals.note(sequence);
                    received.store(arrivals.seen.len(), Ordering::Relaxed);
                }
            }
            Err(_) if stopping => {
                arrivals.overflowed = overflowed(socket);
                return arrivals;
            }
            // Nothing came for a while; or an ICMP error, which says nothing about what comes.
            Err(_) => {}
        }
    }
}

/// How many packets the socket had no room for. A kernel that doesn't tell has lost none.
fn overflowed(socket: &UdpSocket) -> u64 {
    /// `SK_MEMINFO_DROPS` (linux/sock_diag.h).
    const DROPS: usize = 8;
    let mut info = [0_u32; DROPS + 1];
    let mut len = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes there.
    let told = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    match told {
        0 => info[DROPS].into(),
        _ => 0,
    }
}

/// The sequence number of a packet of flow `id`.
fn sequence_of(payload: &[u8], id: u64) -> Option<u64> {
    let number = |range| {
        <[u8; 8]>::try_from(payload.get(range)?)
            .ok()
            .map(u64::from_be_bytes)
    };
    (number(0..8)? == id).then(|| number(8..HEADER))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_told_apart() {
        let mut arrivals = Arrivals::default();
        for sequence in [0, 1, 3, 2, 3, 5] {
            arrivals.note(sequence);
        }
        assert_eq!(arrivals.seen.len(), 5);
        assert!(arrivals.seen.contains(5) && !arrivals.seen.contains(4));
        assert!(!arrivals.seen.contains(64));
        assert_eq!(arrivals.duplicated, 1);
        assert_eq!(arrivals.out_of_order, 1);
    }

    #[test]
    fn a_full_socket_is_told_of() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let target = receiver.local_addr().unwrap();
        assert_eq!(overflowed(&receiver), 0);
        nix::sys::socket::setsockopt(&receiver, nix::sys::socket::sockopt::RcvBuf, &4096).unwrap();
        for _ in 0..100 {
            sender.send_to(&[0; 1000], target).unwrap();
        }
        assert!((1..100).contains(&overflowed(&receiver)));
    }

    #[test]
    fn only_packets_of_the_flow_count() {
        let mut payload = [0; 20];
        payload[7] = 9;
        payload[15] = 4;
        assert_eq!(sequence_of(&payload, 9), Some(4));
        assert_eq!(sequence_of(&payload, 8), None);
        assert_eq!(sequence_of(&payload[..15], 9), None);
    }
}
