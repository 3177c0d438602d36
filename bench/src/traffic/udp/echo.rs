//! A server that sends packets back, and a client that asks it.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::LOOK;
use crate::lab::{Family, Host};
use crate::traffic::{lock, socket};

/// A server that sends each packet back to where it came from. Dropping it stops it.
#[derive(Debug)]
pub struct UdpEcho {
    port: u16,
    stop: Arc<AtomicBool>,
    peers: Arc<Mutex<Vec<SocketAddr>>>,
    thread: Option<JoinHandle<()>>,
}

impl UdpEcho {
    /// Starts one on a host's port; 0 takes any that is free.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn start(host: &Host, port: u16) -> Result<Self> {
        let socket = socket::udp_server(host, port)?;
        socket.set_read_timeout(Some(LOOK))?;
        let port = socket.local_addr()?.port();
        let (stop, peers) = (
            Arc::<AtomicBool>::default(),
            Arc::<Mutex<Vec<_>>>::default(),
        );
        let thread = {
            let (stop, peers) = (Arc::clone(&stop), Arc::clone(&peers));
            thread::Builder::new()
                .name(format!("{} echo", host.name()))
                .spawn(move || send_back(&socket, &peers, &stop))?
        };
        Ok(Self {
            port,
            stop,
            peers,
            thread: Some(thread),
        })
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where packets came from so far, as this server saw it, each sender once, in order.
    pub fn peers(&self) -> Vec<SocketAddr> {
        lock(&self.peers).clone()
    }
}

impl Drop for UdpEcho {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn send_back(socket: &UdpSocket, peers: &Mutex<Vec<SocketAddr>>, stop: &AtomicBool) {
    let mut buffer = vec![0; 1 << 16];
    while !stop.load(Ordering::Relaxed) {
        let Ok((len, peer)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let mut peers = lock(peers);
        let name = socket::plain(peer);
        if !peers.contains(&name) {
            peers.push(name);
        }
        drop(peers);
        // Where it can't be sent the client misses it.
        let _ = socket.send_to(&buffer[..len], peer);
    }
}

/// A socket that asks a [`UdpEcho`].
#[derive(Debug)]
pub struct UdpClient {
    socket: UdpSocket,
}

impl UdpClient {
    /// With any local port, connected to `target`: only from there it takes answers.
    ///
    /// # Errors
    /// When there is no route.
    pub fn connect(host: &Host, target: SocketAddr) -> Result<Self> {
        Self::connect_from(host, 0, target)
    }

    /// As [`connect`](Self::connect), from this port of one's own.
    ///
    /// # Errors
    /// When the port is taken, or there is no route.
    pub fn connect_from(host: &Host, local_port: u16, target: SocketAddr) -> Result<Self> {
        let socket = socket::udp_client(host, local_port, Family::of(target.ip()))?;
        socket
            .connect(target)
            .with_context(|| format!("{}: cannot connect to {target}", host.name()))?;
        Ok(Self { socket })
    }

    /// The port it sends from.
    ///
    /// # Errors
    /// When the kernel doesn't tell.
    pub fn local_port(&self) -> Result<u16> {
        Ok(self.socket.local_addr()?.port())
    }

    /// Sends one packet, waits for the same to come back, and tells how long that took.
    ///
    /// # Errors
    /// When nothing comes back within `limit`, or something else.
    pub fn echo(&self, payload: &[u8], limit: Duration) -> Result<Duration> {
        self.socket.set_read_timeout(Some(limit))?;
        let start = Instant::now();
        self.socket.send(payload).context("cannot send")?;
        let mut answer = vec![0; 1 << 16];
        let len = self.socket.recv(&mut answer).context("no echo")?;
        ensure!(answer[..len] == *payload, "the echo isn't what was sent");
        Ok(start.elapsed())
    }

    /// Sends one packet and waits for nothing.
    ///
    /// # Errors
    /// When the kernel refuses to send it.
    pub fn send(&self, payload: &[u8]) -> Result<()> {
        self.socket.send(payload).map(drop).context("cannot send")
    }
}
