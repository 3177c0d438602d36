//! A packet socket (packet(7)) on an interface, of all protocols.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use anyhow::{Context, Result};
use nix::sys::socket::{setsockopt, sockopt};

use crate::lab::Host;

/// Sees what passes one interface, from the Ethernet header on, and sends there.
#[derive(Debug)]
pub struct PacketSocket {
    socket: OwnedFd,
    place: String,
}

impl PacketSocket {
    /// Opens one on a host's interface, with these options of `SOL_PACKET` switched on. Frames that wait
    /// to be looked at may take `receive_buffer` bytes.
    ///
    /// # Errors
    /// When there is no such interface, or the kernel does not know an option.
    pub fn open(
        host: &Host,
        interface: &str,
        receive_buffer: usize,
        options: &[libc::c_int],
    ) -> Result<Self> {
        let place = format!("{interface} of {}", host.name());
        let socket = host
            .enter(|| {
                let index = nix::net::if_::if_nametoindex(interface)?;
                let socket = unbound()?;
                for &option in options {
                    switch_on(&socket, option)?;
                }
                bind(&socket, i32::try_from(index)?)?;
                setsockopt(&socket, sockopt::RcvBufForce, &receive_buffer)?;
                Ok(socket)
            })
            .with_context(|| format!("cannot capture on {place}"))?;
        Ok(Self { socket, place })
    }

    /// Its interface and host, for messages.
    pub fn place(&self) -> &str {
        &self.place
    }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Protocol 0 until it is bound: otherwise it would see all interfaces for a moment.
fn unbound() -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn switch_on(socket: &OwnedFd, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option's value is as long as is said, and lives until the call returns.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    match answer {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// To all protocols on one interface.
fn bind(socket: &OwnedFd, ifindex: i32) -> io::Result<()> {
    // SAFETY: all zeros is a value of this plain struct.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = ifindex;
    // SAFETY: the address is as long as is said, and lives until the call returns.
    let answer = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
        )
    };
    match answer {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
