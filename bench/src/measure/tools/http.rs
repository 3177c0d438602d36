//! An HTTP server that answers everything alike and closes: less than any real one, so that the roads to it show.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::socket::{MsgFlags, send};

use crate::lab::Host;
use crate::measure::cpu::stay_on;
use crate::traffic::socket;

/// Threads: while one waits for a request, the others go on.
const THREADS: usize = 4;
/// How long a client may be silent.
const SILENCE: Duration = Duration::from_secs(5);
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

/// A server on one CPU. Dropping it stops it.
#[derive(Debug)]
pub(super) struct HttpServer {
    listener: Arc<TcpListener>,
    threads: Vec<JoinHandle<()>>,
}

impl HttpServer {
    /// Starts one on a host's port; it listens when this returns.
    pub fn start(host: &Host, port: u16, cpu: usize) -> Result<Self> {
        let mut server = Self {
            listener: Arc::new(socket::listen(host, port)?),
            threads: Vec::new(),
        };
        for _ in 0..THREADS {
            let listener = Arc::clone(&server.listener);
            let (pinned, is_pinned) = mpsc::channel();
            let thread = thread::Builder::new().name(format!("{} http", host.name()));
            let thread = thread.spawn(move || {
                let stays = stay_on(cpu);
                let goes_on = stays.is_ok();
                if pinned.send(stays).is_ok() && goes_on {
                    serve(&listener);
                }
            });
            server.threads.push(thread.context("no thread to serve")?);
            is_pinned.recv().context("a thread is gone")??;
        }
        Ok(server)
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        socket::stop_listening(&self.listener);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Answers one connection after the other until the listener is stopped.
fn serve(listener: &TcpListener) {
    while let Ok((stream, _)) = listener.accept() {
        // How a connection ended, the client tells.
        let _ = answer(stream);
    }
}

/// Reads a request, and sends the response in one packet with the FIN: MSG_MORE keeps it until the socket is closed.
fn answer(mut stream: TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(SILENCE))?;
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            len => request.extend_from_slice(&buffer[..len]),
        }
    }
    let kept = MsgFlags::from_bits_retain(libc::MSG_MORE) | MsgFlags::MSG_NOSIGNAL;
    send(stream.as_raw_fd(), RESPONSE, kept)?;
    Ok(())
}
