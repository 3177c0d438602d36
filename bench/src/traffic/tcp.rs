//! TCP conversations: an echo server, and a client that checks what comes back.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{lock, socket};
use crate::lab::Host;

/// What is sent before its echo is read: less than any socket buffer holds.
const CHUNK: usize = 16 << 10;

/// A server that sends back what it gets. Dropping it closes all of its connections.
#[derive(Debug)]
pub struct TcpEcho {
    listener: Arc<TcpListener>,
    connections: Arc<Mutex<Vec<Connection>>>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Connection {
    peer: SocketAddr,
    stream: TcpStream,
}

impl TcpEcho {
    /// Starts one on a host's port; 0 takes any that is free.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn start(host: &Host, port: u16) -> Result<Self> {
        let listener = Arc::new(socket::listen(host, port)?);
        let connections = Arc::default();
        let acceptor = {
            let (listener, connections) = (Arc::clone(&listener), Arc::clone(&connections));
            thread::Builder::new()
                .name(format!("{} echo", host.name()))
                .spawn(move || serve(&listener, &connections))?
        };
        Ok(Self {
            listener,
            connections,
            acceptor: Some(acceptor),
        })
    }

    /// The port it listens on.
    ///
    /// # Errors
    /// When the kernel doesn't tell.
    pub fn port(&self) -> Result<u16> {
        Ok(self.listener.local_addr()?.port())
    }

    /// Who has connected so far, as this server saw them, in order.
    pub fn peers(&self) -> Vec<SocketAddr> {
        let connections = lock(&self.connections);
        connections
            .iter()
            .map(|connection| connection.peer)
            .collect()
    }
}

impl Drop for TcpEcho {
    fn drop(&mut self) {
        socket::stop_listening(&self.listener);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        for connection in lock(&self.connections).iter() {
            let _ = connection.stream.shutdown(Shutdown::Both);
        }
    }
}

/// Accepts until the listener is stopped; each connection has a thread that ends with it.
fn serve(listener: &TcpListener, connections: &Mutex<Vec<Connection>>) {
    while let Ok((stream, peer)) = listener.accept() {
        let (Ok(input), Ok(mut output)) = (stream.try_clone(), stream.try_clone()) else {
            continue;
        };
        let peer = socket::plain(peer);
        lock(connections).push(Connection { peer, stream });
        thread::spawn(move || {
            // Its end, however it came, is the client's business.
            let _ = io::copy(&mut &input, &mut output);
            let _ = output.shutdown(Shutdown::Write);
        });
    }
}

/// A connection to a server that sends back what it gets.
#[derive(Debug)]
pub struct TcpClient {
    stream: TcpStream,
}

impl TcpClient {
    /// Connects; `limit` holds for this and for every answer.
    ///
    /// # Errors
    /// When it is refused or nobody answers.
    pub fn connect(host: &Host, target: SocketAddr, limit: Duration) -> Result<Self> {
        Self::connect_from(host, 0, target, limit)
    }

    /// Connects from this port of one's own.
    ///
    /// # Errors
    /// As [`connect`](Self::connect), and when the port is taken.
    pub fn connect_from(
        host: &Host,
        local_port: u16,
        target: SocketAddr,
        limit: Duration,
    ) -> Result<Self> {
        let stream = socket::connect(host, local_port, target, limit)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        Ok(Self { stream })
    }

    /// The port it connected from.
    ///
    /// # Errors
    /// When the kernel doesn't tell.
    pub fn local_port(&self) -> Result<u16> {
        Ok(self.stream.local_addr()?.port())
    }

    /// Sends `payload`, checks that the same comes back, and tells how long that took.
    ///
    /// # Errors
    /// When nothing or something else comes back, or the connection breaks.
    pub fn echo(&mut self, payload: &[u8]) -> Result<Duration> {
        let start = Instant::now();
        for chunk in payload.chunks(CHUNK) {
            self.stream.write_all(chunk).context("cannot send")?;
            let mut answer = vec![0; chunk.len()];
            self.stream.read_exact(&mut answer).context("no echo")?;
            ensure!(answer == chunk, "the echo isn't what was sent");
        }
        Ok(start.elapsed())
    }

    /// Closes the connection with FIN and waits for the other side's.
    ///
    /// # Errors
    /// When the other side doesn't close, or has more to say.
    pub fn close(mut self) -> Result<()> {
        self.stream.shutdown(Shutdown::Write)?;
        let left = self
            .stream
            .read(&mut [0; 1])
            .context("the other side doesn't close")?;
        ensure!(left == 0, "more came than was sent");
        Ok(())
    }

    /// Breaks the connection off with RST; its ports can be used again at once.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn reset(self) -> Result<()> {
        socket::reset(&self.stream)
    }
}
