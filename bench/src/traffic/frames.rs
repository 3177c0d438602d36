//! Raw frames on an interface, by AF_PACKET (packet(7)): seen as they pass, and sent as they are.

use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::packet_socket::PacketSocket;
use crate::lab::Host;

/// Frames that wait to be looked at may take this many bytes.
const RECEIVE_BUFFER: usize = 16 << 20;
/// The longest frame: a GSO packet with its headers.
const LONGEST: usize = 1 << 17;

/// A frame on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
    /// Which way it went, and whom it was for.
    pub packet_type: PacketType,
}

/// Which way a frame went, and whom it was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketType {
    /// It came in, for this host's MAC.
    Host,
    /// It came in, for all.
    Broadcast,
    /// It came in, for a group.
    Multicast,
    /// It came in, for another MAC.
    OtherHost,
    /// It went out.
    Outgoing,
    /// Something else.
    Other(u8),
}

impl PacketType {
    fn new(kind: u8) -> Self {
        match kind {
            libc::PACKET_HOST => Self::Host,
            libc::PACKET_BROADCAST => Self::Broadcast,
            libc::PACKET_MULTICAST => Self::Multicast,
            libc::PACKET_OTHERHOST => Self::OtherHost,
            libc::PACKET_OUTGOING => Self::Outgoing,
            other => Self::Other(other),
        }
    }
}

/// Sees every frame on an interface, both ways, from when it is opened; and sends frames out of it.
///
/// Out-going frames are seen last, after TC egress and the queueing discipline; incoming ones first,
/// before TC ingress (net/core/dev.c), so what TC redirects away has been seen all the same.
#[derive(Debug)]
pub struct FrameSocket {
    socket: PacketSocket,
}

impl FrameSocket {
    /// Opens one on a host's interface.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn open(host: &Host, interface: &str) -> Result<Self> {
        let socket = PacketSocket::open(host, interface, RECEIVE_BUFFER, &[])?;
        Ok(Self { socket })
    }

    /// Sends a frame, from the Ethernet header on, out of the interface.
    ///
    /// # Errors
    /// When the interface is down or the frame is longer than its MTU allows.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        let fd = self.socket.as_raw_fd();
        // SAFETY: the pointer and the length are those of one slice.
        let sent = unsafe { libc::send(fd, frame.as_ptr().cast(), frame.len(), 0) };
        ensure!(
            usize::try_from(sent) == Ok(frame.len()),
            "cannot send a frame of {} bytes on {}: {}",
            frame.len(),
            self.socket.place(),
            io::Error::last_os_error()
        );
        Ok(())
    }

    /// The next frame that `wanted` accepts; `None` where none came within `limit`.
    ///
    /// # Errors
    /// When the interface went down or away.
    pub fn next(
        &self,
        limit: Duration,
        mut wanted: impl FnMut(&Frame) -> bool,
    ) -> Result<Option<Frame>> {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self
                .receive(left)
                .with_context(|| format!("on {}", self.socket.place()))?
            {
                Some(frame) if wanted(&frame) => return Ok(Some(frame)),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    /// As [`next`](Self::next); an error that names `what` where none came.
    ///
    /// # Errors
    /// When none came within `limit`.
    pub fn expect(
        &self,
        limit: Duration,
        what: &str,
        wanted: impl FnMut(&Frame) -> bool,
    ) -> Result<Frame> {
        self.next(limit, wanted)?.with_context(|| {
            format!(
                "no frame on {} within {limit:?}: {what}",
                self.socket.place()
            )
        })
    }

    /// All frames that have been seen and not yet been looked at, and that `wanted` accepts.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn drain(&self, mut wanted: impl FnMut(&Frame) -> bool) -> Result<Vec<Frame>> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next(Duration::ZERO, &mut wanted)? {
            frames.push(frame);
        }
        Ok(frames)
    }

    /// One frame, waited for at most `limit`.
    fn receive(&self, limit: Duration) -> io::Result<Option<Frame>> {
        let fd = self.socket.as_raw_fd();
        let mut poll = libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        // Rounded up, or the last millisecond would be spent spinning.
        let milliseconds = limit.as_micros().div_ceil(1000);
        let milliseconds = i32::try_from(milliseconds).unwrap_or(i32::MAX);
        // SAFETY: one pollfd, and it lives until the call returns.
        match unsafe { libc::poll(&raw mut poll, 1, milliseconds) } {
            0 => return Ok(None),
            1 => {}
            _ => return Err(io::Error::last_os_error()),
        }
        let mut bytes = vec![0; LONGEST];
        // SAFETY: all zeros is a value of this plain struct.
        let mut from: libc::sockaddr_ll = unsafe { mem::zeroed() };
        let mut from_len = SOCKADDR_LEN;
        // SAFETY: the buffer and the address are as long as is said, and live until the call returns.
        let len = unsafe {
            libc::recvfrom(
                fd,
                bytes.as_mut_ptr().cast(),
                bytes.len(),
                0,
                (&raw mut from).cast(),
                &raw mut from_len,
            )
        };
        let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
        bytes.truncate(len);
        Ok(Some(Frame {
            bytes,
            packet_type: PacketType::new(from.sll_pkttype),
        }))
    }
}

const SOCKADDR_LEN: libc::socklen_t = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
