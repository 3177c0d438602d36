//! A packet socket (packet(7)) on an interface: frames go in as they are, with what a network card
//! would be told beside them; and everything that arrives is seen, likewise.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, RawFd};

use anyhow::{Context, Result, ensure};
use underpass_bench::lab::Host;
use underpass_bench::traffic::PacketSocket;

use super::frames::{Offload, Seen};

/// A batch of the longest segment trains fits.
const RECEIVE_BUFFER: usize = 128 << 20;
/// The longest frame: a segment train with its headers.
const LONGEST: usize = 1 << 17;

/// One place of a world.
#[derive(Debug)]
pub struct Port {
    socket: PacketSocket,
    buffer: Vec<u8>,
}

impl Port {
    /// # Errors
    /// Where there is no such interface.
    pub fn open(host: &Host, interface: &str) -> Result<Self> {
        let options = [
            libc::PACKET_VNET_HDR,
            libc::PACKET_AUXDATA,
            libc::PACKET_IGNORE_OUTGOING,
        ];
        let socket = PacketSocket::open(host, interface, RECEIVE_BUFFER, &options)?;
        Ok(Self {
            socket,
            buffer: vec![0; LONGEST],
        })
    }

    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Sends a frame; `Err` holds the error number by which the socket refused it.
    pub fn send(&self, offload: &Offload, frame: &[u8]) -> Result<(), i32> {
        let mut header = offload.to_bytes();
        let parts = [
            libc::iovec {
                iov_base: header.as_mut_ptr().cast(),
                iov_len: header.len(),
            },
            libc::iovec {
                iov_base: frame.as_ptr().cast_mut().cast(),
                iov_len: frame.len(),
            },
        ];
        // SAFETY: both parts are as long as is said, live until the call returns, and are only read.
        let sent = unsafe { libc::writev(self.fd(), parts.as_ptr(), parts.len() as i32) };
        if sent < 0 {
            return Err(io::Error::last_os_error().raw_os_error().unwrap_or(-1));
        }
        Ok(())
    }

    /// The next frame that has arrived; `None` where there is none.
    ///
    /// # Errors
    /// Where the interface went down or away.
    pub fn receive(&mut self) -> Result<Option<Seen>> {
        // SAFETY: all zeros is a value of these plain structs.
        let (mut from, mut control): (libc::sockaddr_ll, Control) =
            unsafe { (mem::zeroed(), mem::zeroed()) };
        let mut part = libc::iovec {
            iov_base: self.buffer.as_mut_ptr().cast(),
            iov_len: self.buffer.len(),
        };
        // SAFETY: as above.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_name = (&raw mut from).cast();
        message.msg_namelen = size_of_val(&from) as u32;
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = size_of_val(&control);
        // SAFETY: all that the header points to lives until the call returns.
        let len = unsafe { libc::recvmsg(self.fd(), &raw mut message, libc::MSG_DONTWAIT) };
        let Ok(len) = usize::try_from(len) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock => Ok(None),
                _ => Err(error).with_context(|| format!("on {}", self.socket.place())),
            };
        };
        ensure!(
            message.msg_flags & libc::MSG_TRUNC == 0,
            "{}: a frame of more than {LONGEST} bytes",
            self.socket.place()
        );
        let (offload, bytes) = self.buffer[..len]
            .split_first_chunk()
            .context("a frame without a vnet header")?;
        Ok(Some(Seen {
            offload: Offload::from_bytes(offload),
            tag: control.vlan_tag(&message),
            packet_type: from.sll_pkttype,
            bytes: bytes.to_vec(),
        }))
    }

    /// Frames that did not fit into the socket's buffer since the last call.
    ///
    /// # Errors
    /// Where the kernel does not tell.
    pub fn lost(&self) -> Result<u32> {
        // SAFETY: all zeros is a value of this plain struct.
        let mut statistics: libc::tpacket_stats = unsafe { mem::zeroed() };
        let mut len = size_of_val(&statistics) as libc::socklen_t;
        // SAFETY: the option's value is as long as is said, and lives until the call returns.
        let answer = unsafe {
            libc::getsockopt(
                self.fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut statistics).cast(),
                &raw mut len,
            )
        };
        ensure!(
            answer == 0,
            "{}: {}",
            self.socket.place(),
            io::Error::last_os_error()
        );
        Ok(statistics.tp_drops)
    }
}

/// Room for one control message with a `tpacket_auxdata`, aligned as such a message must be.
#[repr(C, align(8))]
struct Control([u8; 64]);

impl Control {
    /// The VLAN tag that the kernel has taken out of the frame.
    fn vlan_tag(&self, message: &libc::msghdr) -> Option<[u16; 2]> {
        // SAFETY: the kernel has filled the control messages of this header, which live in `self`.
        let first = unsafe { libc::CMSG_FIRSTHDR(message).as_ref()? };
        if (first.cmsg_level, first.cmsg_type) != (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
            return None;
        }
        // SAFETY: a message of this type holds this struct (packet(7)).
        let data: libc::tpacket_auxdata = unsafe {
            libc::CMSG_DATA(first)
                .cast::<libc::tpacket_auxdata>()
                .read_unaligned()
        };
        (data.tp_status & libc::TP_STATUS_VLAN_VALID != 0)
            .then_some([data.tp_vlan_tpid, data.tp_vlan_tci])
    }
}
