//! Offloads of an interface, asked for and set as ethtool does.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::inspect::check::facts::Offloads;

/// Questions of include/uapi/linux/ethtool.h that everybody may ask.
const ETHTOOL_GTSO: u32 = 0x1e;
const ETHTOOL_GGSO: u32 = 0x23;
const ETHTOOL_GGRO: u32 = 0x2b;
/// What takes CAP_NET_ADMIN.
const ETHTOOL_SGRO: u32 = 0x2c;

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// What the interface of this name does for the kernel, in the namespace of this thread.
pub fn offloads(name: &str) -> Offloads {
    let Ok(socket) = open() else {
        return Offloads::default();
    };
    let ask = |command| {
        say(&socket, name, command, 0)
            .ok()
            .map(|answer| answer != 0)
    };
    Offloads {
        gro: ask(ETHTOOL_GGRO),
        tso: ask(ETHTOOL_GTSO),
        gso: ask(ETHTOOL_GGSO),
    }
}

/// Has the interface of this name, in the namespace of this thread, join what it receives (GRO).
///
/// # Errors
/// The kernel's.
pub fn switch_gro_on(name: &str) -> io::Result<()> {
    say(&open()?, name, ETHTOOL_SGRO, 1).map(drop)
}

fn open() -> io::Result<OwnedFd> {
    let (kind, flags) = (SockType::Datagram, SockFlag::SOCK_CLOEXEC);
    Ok(socket(AddressFamily::Inet, kind, flags, None)?)
}

/// Says a command with a value, and returns the value that it leaves.
fn say(socket: &OwnedFd, name: &str, command: u32, data: u32) -> io::Result<u32> {
    let mut value = Value { command, data };
    // SAFETY: a structure of integers and a union of such, for which zeros are values.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays 0.
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = std::ptr::from_mut(&mut value).cast();
    // SAFETY: the kernel reads the request and reads or writes the value, and both live until it has.
    let result = unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCETHTOOL as _,
            std::ptr::from_mut(&mut request),
        )
    };
    match result {
        0 => Ok(value.data),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_namespace_has_lo_and_none_has_that() {
        assert!(offloads("lo").gso.is_some());
        assert_eq!(offloads("no-such-device"), Offloads::default());
        assert_eq!(offloads("a-name-longer-than-any"), Offloads::default());
    }
}
