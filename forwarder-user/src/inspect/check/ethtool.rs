//! Offloads of an interface, asked for as ethtool does.

use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::facts::Offloads;

/// Questions of include/uapi/linux/ethtool.h that everybody may ask.
const ETHTOOL_GTSO: u32 = 0x1e;
const ETHTOOL_GGSO: u32 = 0x23;
const ETHTOOL_GGRO: u32 = 0x2b;

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// What the interface of this name does for the kernel, in the namespace of this thread.
pub fn offloads(name: &str) -> Offloads {
    let kind = SockType::Datagram;
    let Ok(socket) = socket(AddressFamily::Inet, kind, SockFlag::SOCK_CLOEXEC, None) else {
        return Offloads::default();
    };
    Offloads {
        gro: ask(&socket, name, ETHTOOL_GGRO),
        tso: ask(&socket, name, ETHTOOL_GTSO),
        gso: ask(&socket, name, ETHTOOL_GGSO),
    }
}

/// `None`: the driver does not tell, or there is no such interface.
fn ask(socket: &OwnedFd, name: &str, command: u32) -> Option<bool> {
    let mut value = Value { command, data: 0 };
    // SAFETY: a structure of integers and a union of such, for which zeros are values.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays 0.
    if name.len() >= request.ifr_name.len() {
        return None;
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = std::ptr::from_mut(&mut value).cast();
    // SAFETY: the kernel reads the request and writes the value, and both live until it has.
    let result = unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCETHTOOL as _,
            std::ptr::from_mut(&mut request),
        )
    };
    (result == 0).then_some(value.data != 0)
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
