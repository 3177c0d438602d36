//! A TCP transfer whose every byte is checked.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use super::socket;
use crate::lab::Host;
use crate::wait::wait_until;

/// Bytes per call of read and write.
const CHUNK: usize = 128 << 10;
/// Bytes after which the content repeats: prime, so that no block or packet size divides it.
const PERIOD: usize = 1_048_583;
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(10);

/// The content of every transfer, once around, and on by a chunk so that any chunk is one slice.
static CONTENT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        // xorshift64 (Marsaglia)
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    let mut content: Vec<u8> = (0..PERIOD).map(|_| next()).collect();
    content.extend_from_within(..CHUNK);
    content
});

/// What stands at `offset` of every transfer, `len` bytes of it.
fn content(offset: u64, len: usize) -> &'static [u8] {
    // The remainder is less than PERIOD.
    let start = (offset % PERIOD as u64) as usize;
    &CONTENT[start..start + len]
}

/// A transfer to be made.
#[derive(Clone, Copy, Debug)]
pub struct Bulk {
    target: SocketAddr,
    listen_port: u16,
    local_port: u16,
    size: u64,
    pace: u32,
}

impl Bulk {
    /// To this address, with a server on the same port, until it is stopped.
    pub fn to(target: SocketAddr) -> Self {
        Self {
            target,
            listen_port: target.port(),
            local_port: 0,
            size: u64::MAX,
            pace: u32::MAX,
        }
    }

    /// Of this many bytes.
    #[must_use]
    pub fn size(mut self, bytes: u64) -> Self {
        self.size = bytes;
        self
    }

    /// No faster than this, in bytes per second.
    #[must_use]
    pub fn pace(mut self, bytes_per_second: u32) -> Self {
        self.pace = bytes_per_second;
        self
    }

    /// To a server on another port than the target's, as behind a service.
    #[must_use]
    pub fn listen_port(mut self, port: u16) -> Self {
        self.listen_port = port;
        self
    }

    /// From this port of the client.
    #[must_use]
    pub fn local_port(mut self, port: u16) -> Self {
        self.local_port = port;
        self
    }

    /// Starts it in the background.
    ///
    /// # Errors
    /// When the server's port is taken, or the client can't connect.
    pub fn start(self, client: &Host, server: &Host) -> Result<BulkTransfer> {
        let listener = Arc::new(socket::listen(server, self.listen_port)?);
        let progress = Arc::new(Progress::default());
        let receiver = {
            let (listener, progress) = (Arc::clone(&listener), Arc::clone(&progress));
            thread::Builder::new()
                .name(format!("{} bulk", server.name()))
                .spawn(move || receive(&listener, &progress))?
        };
        let connected = socket::connect(client, self.local_port, self.target, CONNECT);
        let stream = match connected {
            Ok(stream) => stream,
            Err(error) => {
                socket::stop_listening(&listener);
                let _ = receiver.join();
                return Err(error);
            }
        };
        if self.pace != u32::MAX {
            socket::pace(&stream, self.pace)?;
        }
        let sender = {
            let (stream, progress) = (stream.try_clone()?, Arc::clone(&progress));
            thread::Builder::new()
                .name(format!("{} bulk", client.name()))
                .spawn(move || send(stream, &progress, self.size))?
        };
        Ok(BulkTransfer {
            listener,
            stream,
            progress,
            started: Instant::now(),
            ends: Some((sender, receiver)),
        })
    }

    /// Makes the transfer and waits for its end.
    ///
    /// # Errors
    /// As [`start`](Self::start) and [`BulkTransfer::finish`].
    pub fn run(self, client: &Host, server: &Host, deadline: Duration) -> Result<BulkReport> {
        ensure!(
            self.size != u64::MAX,
            "a transfer without a size never ends"
        );
        self.start(client, server)?.finish(deadline)
    }
}

#[derive(Debug, Default)]
struct Progress {
    sent: AtomicU64,
    received: AtomicU64,
    /// The sender shall end in good order.
    stop: AtomicBool,
    /// Nobody waits for the end any more.
    abandoned: AtomicBool,
}

/// The thread at one end of a transfer.
type End = JoinHandle<Result<()>>;

/// A transfer under way. Dropping it breaks it off.
#[derive(Debug)]
pub struct BulkTransfer {
    listener: Arc<TcpListener>,
    stream: TcpStream,
    progress: Arc<Progress>,
    started: Instant,
    /// Sender and receiver.
    ends: Option<(End, End)>,
}

/// A transfer that is complete: every byte arrived, in order and as it was sent.
#[derive(Clone, Copy, Debug)]
pub struct BulkReport {
    /// Bytes.
    pub bytes: u64,
    /// From connecting to the server's word that all has arrived.
    pub elapsed: Duration,
}

impl BulkTransfer {
    /// Bytes that have arrived and been checked so far.
    pub fn received(&self) -> u64 {
        self.progress.received.load(Ordering::Relaxed)
    }

    /// Waits until this many bytes more have arrived.
    ///
    /// # Errors
    /// When they haven't after `deadline`.
    pub fn wait_for_more(&self, bytes: u64, deadline: Duration) -> Result<()> {
        let goal = self.received() + bytes;
        let what = format!("{bytes} more bytes of a transfer arrive");
        wait_until(deadline, &what, || self.received() >= goal)
    }

    /// The port it was made from.
    ///
    /// # Errors
    /// When the kernel doesn't tell.
    pub fn local_port(&self) -> Result<u16> {
        Ok(self.stream.local_addr()?.port())
    }

    /// Ends the transfer in good order, where it has no size, and waits for that.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn stop(self, deadline: Duration) -> Result<BulkReport> {
        self.progress.stop.store(true, Ordering::Relaxed);
        self.finish(deadline)
    }

    /// Waits until all has arrived.
    ///
    /// # Errors
    /// When it hasn't after `deadline`, the connection broke, or the content is wrong.
    pub fn finish(mut self, deadline: Duration) -> Result<BulkReport> {
        let ended = self.ends.as_ref().is_none_or(|(sender, receiver)| {
            let ended = || sender.is_finished() && receiver.is_finished();
            wait_until(deadline, "a transfer ends", ended).is_ok()
        });
        let elapsed = self.started.elapsed();
        let sent = self.progress.sent.load(Ordering::Relaxed);
        let received = self.received();
        ensure!(
            ended,
            "a transfer hasn't ended after {deadline:?}: {sent} bytes sent, {received} received"
        );
        // A process that is being started may hold the listener on, and with it the port.
        socket::stop_listening(&self.listener);
        if let Some((sender, receiver)) = self.ends.take() {
            let told = || format!("{sent} bytes sent, {received} received");
            // The receiver first: where it saw wrong content, the sender only sees a broken pipe.
            join(receiver).with_context(told)?;
            join(sender).with_context(told)?;
        }
        ensure!(
            sent == received,
            "{sent} bytes were sent, {received} arrived"
        );
        Ok(BulkReport {
            bytes: received,
            elapsed,
        })
    }
}

impl Drop for BulkTransfer {
    fn drop(&mut self) {
        let Some((sender, receiver)) = self.ends.take() else {
            return;
        };
        self.progress.stop.store(true, Ordering::Relaxed);
        self.progress.abandoned.store(true, Ordering::Relaxed);
        socket::stop_listening(&self.listener);
        // Some kernels refuse to reset what a thread waits for; a shutdown wakes it all the same.
        let _ = socket::reset(&self.stream);
        let _ = self.stream.shutdown(Shutdown::Both);
        // Whatever they end with: it was broken off.
        let _ = (sender.join(), receiver.join());
    }
}

fn join(thread: End) -> Result<()> {
    thread
        .join()
        .unwrap_or_else(|_| Err(anyhow!("a transfer's thread panicked")))
}

/// The client's end: sends, closes its direction, and hears how much arrived.
fn send(mut stream: TcpStream, progress: &Progress, size: u64) -> Result<()> {
    let mut sent = 0;
    while sent < size && !progress.stop.load(Ordering::Relaxed) {
        let len = usize::try_from(size - sent).unwrap_or(CHUNK).min(CHUNK);
        let written = stream.write(content(sent, len)).context("cannot send")?;
        sent += written as u64;
        progress.sent.store(sent, Ordering::Relaxed);
    }
    stream.shutdown(Shutdown::Write)?;
    let mut answer = [0; 8];
    stream
        .read_exact(&mut answer)
        .context("the server doesn't confirm what it received")?;
    let received = u64::from_be_bytes(answer);
    ensure!(
        received == sent,
        "{sent} bytes sent, the server tells of {received}"
    );
    Ok(())
}

/// The server's end: takes one connection, checks what comes, and tells how much it was.
fn receive(listener: &TcpListener, progress: &Progress) -> Result<()> {
    let (mut stream, _) = listener.accept().context("nobody connected")?;
    // Only to look at `abandoned` where nothing comes any more.
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut buffer = vec![0; CHUNK];
    let mut received = 0;
    loop {
        let len = match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => len,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                ensure!(!progress.abandoned.load(Ordering::Relaxed), "broken off");
                continue;
            }
            Err(error) => return Err(error).context("cannot receive"),
        };
        ensure!(
            buffer[..len] == *content(received, len),
            "wrong content after {received} bytes"
        );
        received += len as u64;
        progress.received.store(received, Ordering::Relaxed);
    }
    stream
        .write_all(&received.to_be_bytes())
        .context("cannot confirm what was received")
}
