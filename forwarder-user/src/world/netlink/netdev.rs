//! Which devices take frames from XDP: the generic netlink family `netdev` (Linux 6.3; the kernel's
//! Documentation/netlink/specs/netdev.yaml).
//!
//! A veth says so of its host's end exactly as long as the pod's end has NAPI, which GRO or an XDP program there
//! brings (`veth_set_features()` and `veth_set_xdp_features()` in drivers/net/veth.c); without, it drops what XDP
//! hands it.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC};

/// `GENL_ID_CTRL`, and what it is asked by (linux/genetlink.h).
mod control {
    pub const ID: u16 = 0x10;
    pub const GET_FAMILY: u8 = 3;
    pub const FAMILY_ID: u16 = 1;
    pub const FAMILY_NAME: u16 = 2;
}

/// Of linux/netdev.h.
mod device {
    pub const NAME: &[u8] = b"netdev\0";
    pub const DEV_GET: u8 = 1;
    pub const IFINDEX: u16 = 1;
    pub const XDP_FEATURES: u16 = 3;
    /// `NETDEV_XDP_ACT_NDO_XMIT` and `NETDEV_XDP_ACT_NDO_XMIT_SG`: it takes frames, in several buffers, too.
    pub const TAKES_FRAMES: u64 = 4 | 64;
}

/// Of linux/netlink.h.
const NLMSG_HEADER: usize = 16;
const GENL_HEADER: usize = 4;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// The bits of an attribute's type that say something else.
const NLA_TYPE_MASK: u16 = 0x3fff;

/// The devices in the namespace of this thread that take frames from XDP, by interface index. None on kernels that
/// do not tell.
///
/// # Errors
/// Where the kernel does not answer.
pub fn xdp_targets() -> Result<BTreeSet<u32>> {
    let mut socket =
        Socket::new(NETLINK_GENERIC).context("cannot open a generic netlink socket")?;
    socket
        .bind_auto()
        .context("cannot bind a generic netlink socket")?;
    let name = attribute(control::FAMILY_NAME, device::NAME);
    let mut family = None;
    let flags = NLM_F_REQUEST | NLM_F_ACK;
    let answer = ask(
        &socket,
        control::ID,
        control::GET_FAMILY,
        flags,
        &name,
        |attributes| {
            family = number(attributes, control::FAMILY_ID).map(|id| id as u16);
        },
    );
    if answer.is_err_and(|error| error.raw_os_error() != Some(libc::ENOENT)) {
        bail!("cannot ask the kernel for the generic netlink family netdev");
    }
    let Some(family) = family else {
        return Ok(BTreeSet::new());
    };
    let mut targets = BTreeSet::new();
    ask(
        &socket,
        family,
        device::DEV_GET,
        NLM_F_REQUEST | NLM_F_DUMP,
        &[],
        |attributes| targets.extend(target(attributes)),
    )
    .context("cannot ask which devices take frames from XDP")?;
    Ok(targets)
}

/// The device that these attributes are of, where it takes frames.
fn target(attributes: &[u8]) -> Option<u32> {
    let takes = number(attributes, device::XDP_FEATURES)? & device::TAKES_FRAMES;
    let ifindex = number(attributes, device::IFINDEX)?;
    (takes == device::TAKES_FRAMES).then_some(ifindex as u32)
}

/// Asks, and hands over the attributes of each message of the answer.
fn ask(
    socket: &Socket,
    family: u16,
    command: u8,
    flags: u16,
    attributes: &[u8],
    mut take: impl FnMut(&[u8]),
) -> std::io::Result<()> {
    let length = NLMSG_HEADER + GENL_HEADER + attributes.len();
    let mut request = Vec::with_capacity(length);
    request.extend((length as u32).to_ne_bytes());
    request.extend(family.to_ne_bytes());
    request.extend(flags.to_ne_bytes());
    // Sequence number and port: one question at a time.
    request.extend([0; 8]);
    // The family's version.
    request.extend([command, 1, 0, 0]);
    request.extend(attributes);
    socket.send_to(&request, &SocketAddr::new(0, 0), 0)?;
    loop {
        let (answer, _) = socket.recv_from_full()?;
        if messages(&answer, &mut take)? {
            return Ok(());
        }
    }
}

/// Takes what a datagram holds. True where the answer ends there.
fn messages(mut datagram: &[u8], take: &mut impl FnMut(&[u8])) -> std::io::Result<bool> {
    while let Some((header, _)) = datagram.split_at_checked(NLMSG_HEADER) {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let Some(body) = datagram.get(NLMSG_HEADER..length) else {
            return Err(std::io::Error::other("a message of the kernel is cut off"));
        };
        match (
            kind,
            body.first_chunk::<4>()
                .map(|code| i32::from_ne_bytes(*code)),
        ) {
            (NLMSG_DONE | NLMSG_ERROR, Some(code)) if code < 0 => {
                return Err(std::io::Error::from_raw_os_error(-code));
            }
            (NLMSG_DONE | NLMSG_ERROR, _) => return Ok(true),
            _ => take(body.get(GENL_HEADER..).unwrap_or_default()),
        }
        datagram = datagram
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
    }
    Ok(false)
}

/// An attribute, filled up to a multiple of four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = 4 + value.len();
    let mut bytes = Vec::with_capacity(length.next_multiple_of(4));
    bytes.extend((length as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

/// The number of 16, 32 or 64 bits that an attribute holds.
fn number(mut attributes: &[u8], wanted: u16) -> Option<u64> {
    loop {
        let (header, _) = attributes.split_at_checked(4)?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & NLA_TYPE_MASK;
        let value = attributes.get(4..length)?;
        if kind == wanted {
            return match *value {
                [a, b] => Some(u16::from_ne_bytes([a, b]).into()),
                [a, b, c, d] => Some(u32::from_ne_bytes([a, b, c, d]).into()),
                _ => value.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes)),
            };
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(ifindex: u32, features: u64) -> Vec<u8> {
        [
            attribute(device::IFINDEX, &ifindex.to_ne_bytes()),
            attribute(device::XDP_FEATURES, &features.to_ne_bytes()),
        ]
        .concat()
    }

    #[test]
    fn a_device_that_takes_frames_is_told_from_others() {
        assert_eq!(target(&device(7, 0x7f)), Some(7));
        assert_eq!(target(&device(7, device::TAKES_FRAMES)), Some(7));
        // Not in several buffers; none at all.
        assert_eq!(target(&device(7, 4)), None);
        assert_eq!(target(&device(7, 0x23)), None);
        assert_eq!(
            target(&attribute(device::IFINDEX, &7u32.to_ne_bytes())),
            None
        );
    }

    #[test]
    fn an_answer_that_is_cut_off_is_no_answer() {
        let whole = device(7, 0x7f);
        for len in 0..whole.len() {
            assert_eq!(target(&whole[..len]), None, "{len}");
        }
        let mut datagram = (100u32).to_ne_bytes().to_vec();
        datagram.extend([0; 16]);
        assert!(messages(&datagram, &mut |_: &[u8]| {}).is_err());
        assert!(!messages(&[1, 2, 3], &mut |_: &[u8]| {}).unwrap());
    }

    #[test]
    fn the_kernel_answers() {
        // Which devices there are is the machine's affair; that it can be asked is ours.
        xdp_targets().unwrap();
    }
}
