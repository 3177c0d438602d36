//! Which devices take frames from XDP: the generic netlink family `netdev` (Linux 6.3; the kernel's
//! Documentation/netlink/specs/netdev.yaml).
//!
//! A veth says so of its host's end exactly as long as the pod's end has NAPI, which GRO or an XDP program there
//! brings (`veth_set_features()` and `veth_set_xdp_features()` in drivers/net/veth.c); without, it drops what XDP
//! hands it.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::io;

use anyhow::{Context as _, Result};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC};
use tokio::io::unix::AsyncFd;

/// `GENL_ID_CTRL`, and what it is asked by (linux/genetlink.h).
mod control {
    pub const ID: u16 = 0x10;
    pub const GET_FAMILY: u8 = 3;
    pub const FAMILY_ID: u16 = 1;
    pub const FAMILY_NAME: u16 = 2;
    pub const GROUPS: u16 = 7;
    pub const GROUP_NAME: u16 = 1;
    pub const GROUP_ID: u16 = 2;
}

/// Of linux/netdev.h.
mod device {
    pub const NAME: &[u8] = b"netdev\0";
    /// The group that hears of devices that change.
    pub const GROUP: &[u8] = b"mgmt\0";
    pub const DEV_GET: u8 = 1;
    pub const IFINDEX: u16 = 1;
    pub const XDP_FEATURES: u16 = 3;
    /// `NETDEV_XDP_ACT_BASIC` and `NETDEV_XDP_ACT_REDIRECT`: its driver runs programs, and does as they say.
    pub const RUNS_PROGRAMS: u64 = 1 | 2;
    /// `NETDEV_XDP_ACT_NDO_XMIT` and `NETDEV_XDP_ACT_NDO_XMIT_SG`: it takes frames, in several buffers, too.
    pub const TAKES_FRAMES: u64 = 4 | 64;
}

/// Of linux/netlink.h.
const NLMSG_HEADER: usize = 16;
const GENL_HEADER: usize = 4;
pub(super) const NLM_F_REQUEST: u16 = 1;
pub(super) const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// The bits of an attribute's type that say something else.
const NLA_TYPE_MASK: u16 = 0x3fff;

/// Hears of devices that begin or cease to take frames, in the namespace where it was made.
pub struct XdpNews(Option<AsyncFd<Socket>>);

impl XdpNews {
    /// Hears nothing.
    pub fn none() -> Self {
        Self(None)
    }

    /// Hears, where the kernel tells. Needs a tokio runtime.
    ///
    /// # Errors
    /// Where a socket can't be opened or set up.
    pub fn subscribe() -> Result<Self> {
        let socket = open()?;
        let Some(Family { group, .. }) = family(&socket)? else {
            return Ok(Self::none());
        };
        let Some(group) = group else {
            return Ok(Self::none());
        };
        socket
            .add_membership(group)
            .and_then(|()| socket.set_non_blocking(true))
            .context("cannot listen to what the kernel tells of devices and XDP")?;
        // SAFETY: the socket owns its descriptor, and is nowhere closed or exchanged before it is dropped.
        Ok(Self(Some(unsafe { AsyncFd::register(socket) }?)))
    }

    /// Waits until something has changed, whatever it is. What was lost counts as a change. After an error it hears
    /// nothing any more.
    ///
    /// # Errors
    /// Where the kernel no longer tells.
    pub async fn next(&mut self) -> Result<()> {
        let Some(socket) = &self.0 else {
            return pending().await;
        };
        let heard = hear(socket).await;
        if heard.is_err() {
            self.0 = None;
        }
        heard
    }
}

/// Waits for something, and takes all of it.
async fn hear(socket: &AsyncFd<Socket>) -> Result<()> {
    let mut ready = socket.readable().await?;
    loop {
        match ready.get_inner().recv_from_full() {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            // More than fitted: all is looked at anyway.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
            Err(error) => return Err(error).context("cannot read what the kernel tells"),
        }
    }
    ready.clear_ready();
    Ok(())
}

fn open() -> Result<Socket> {
    let mut socket =
        Socket::new(NETLINK_GENERIC).context("cannot open a generic netlink socket")?;
    socket
        .bind_auto()
        .context("cannot bind a generic netlink socket")?;
    Ok(socket)
}

/// The family `netdev`, as this kernel has it.
struct Family {
    id: u16,
    group: Option<u32>,
}

/// `None`: this kernel has no such family.
fn family(socket: &Socket) -> Result<Option<Family>> {
    let name = attribute(control::FAMILY_NAME, device::NAME);
    let mut found = None;
    let flags = NLM_F_REQUEST | NLM_F_ACK;
    let answer = ask(
        socket,
        control::ID,
        [control::GET_FAMILY, 1, 0, 0],
        flags,
        &name,
        |attributes| {
            found = number(attributes, control::FAMILY_ID).map(|id| Family {
                id: id as u16,
                group: group(attributes),
            });
        },
    );
    match answer {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => {
            Err(error).context("cannot ask the kernel for the generic netlink family netdev")
        }
        _ => Ok(found),
    }
}

/// The number of the group that hears of devices.
fn group(attributes: &[u8]) -> Option<u32> {
    let mut groups = each(find(attributes, control::GROUPS)?);
    let (_, ours) =
        groups.find(|(_, one)| find(one, control::GROUP_NAME) == Some(device::GROUP))?;
    number(ours, control::GROUP_ID).map(|id| id as u32)
}

/// What a device can do with XDP, in its present settings (`enum netdev_xdp_act` of linux/netdev.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XdpFeatures(u64);

impl XdpFeatures {
    /// All of `enum netdev_xdp_act`.
    #[cfg(test)]
    pub(crate) const ALL: Self = Self(0x7f);

    /// True where its driver runs programs, so that native XDP can be had, and redirects what they say.
    pub fn runs_programs(self) -> bool {
        self.0 & device::RUNS_PROGRAMS == device::RUNS_PROGRAMS
    }

    /// True where it takes frames from XDP, those in several buffers, too.
    pub fn takes_frames(self) -> bool {
        self.0 & device::TAKES_FRAMES == device::TAKES_FRAMES
    }
}

/// The devices in the namespace of this thread that take frames from XDP, by interface index. None on kernels that
/// do not tell.
///
/// # Errors
/// Where the kernel does not answer.
pub fn xdp_targets() -> Result<BTreeSet<u32>> {
    let features = xdp_features()?.unwrap_or_default().into_iter();
    let targets = features.filter(|(_, features)| features.takes_frames());
    Ok(targets.map(|(ifindex, _)| ifindex).collect())
}

/// What each device in the namespace of this thread can do with XDP, by interface index. `None` on kernels that do not
/// tell.
///
/// # Errors
/// Where the kernel does not answer.
pub fn xdp_features() -> Result<Option<BTreeMap<u32, XdpFeatures>>> {
    let socket = open()?;
    let Some(family) = family(&socket)? else {
        return Ok(None);
    };
    let mut all = BTreeMap::new();
    ask(
        &socket,
        family.id,
        [device::DEV_GET, 1, 0, 0],
        NLM_F_REQUEST | NLM_F_DUMP,
        &[],
        |attributes| all.extend(features(attributes)),
    )
    .context("cannot ask what devices can do with XDP")?;
    Ok(Some(all))
}

/// The device that these attributes are of, and what it can do.
fn features(attributes: &[u8]) -> Option<(u32, XdpFeatures)> {
    let features = number(attributes, device::XDP_FEATURES)?;
    let ifindex = number(attributes, device::IFINDEX)?;
    Some((ifindex as u32, XdpFeatures(features)))
}

/// Asks with a message of this kind and header (of generic netlink: command and version), and hands over the attributes of each message of the answer.
pub(super) fn ask(
    socket: &Socket,
    kind: u16,
    header: [u8; GENL_HEADER],
    flags: u16,
    attributes: &[u8],
    mut take: impl FnMut(&[u8]),
) -> io::Result<()> {
    let length = NLMSG_HEADER + GENL_HEADER + attributes.len();
    let mut request = Vec::with_capacity(length);
    request.extend((length as u32).to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend(flags.to_ne_bytes());
    // Sequence number and port: one question at a time.
    request.extend([0; 8]);
    request.extend(header);
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
fn messages(mut datagram: &[u8], take: &mut impl FnMut(&[u8])) -> io::Result<bool> {
    while let Some((header, _)) = datagram.split_at_checked(NLMSG_HEADER) {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let Some(body) = datagram.get(NLMSG_HEADER..length) else {
            return Err(io::Error::other("a message of the kernel is cut off"));
        };
        match (
            kind,
            body.first_chunk::<4>()
                .map(|code| i32::from_ne_bytes(*code)),
        ) {
            (NLMSG_DONE | NLMSG_ERROR, Some(code)) if code < 0 => {
                return Err(io::Error::from_raw_os_error(-code));
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
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = 4 + value.len();
    let mut bytes = Vec::with_capacity(length.next_multiple_of(4));
    bytes.extend((length as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

/// The number of 16, 32 or 64 bits that an attribute holds.
pub(super) fn number(attributes: &[u8], wanted: u16) -> Option<u64> {
    match *find(attributes, wanted)? {
        [a, b] => Some(u16::from_ne_bytes([a, b]).into()),
        [a, b, c, d] => Some(u32::from_ne_bytes([a, b, c, d]).into()),
        ref more => more.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes)),
    }
}

fn find(attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    each(attributes)
        .find(|(kind, _)| *kind == wanted)
        .map(|(_, value)| value)
}

/// Each attribute's type and value, as far as they are whole.
fn each(mut attributes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (header, _) = attributes.split_at_checked(4)?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & NLA_TYPE_MASK;
        let value = attributes.get(4..length)?;
        attributes = attributes
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
        Some((kind, value))
    })
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
        let of = |features| self::features(&device(7, features)).unwrap();
        let takes = |features| of(features).1.takes_frames();
        assert_eq!(of(0x7f).0, 7);
        assert!(takes(0x7f) && takes(device::TAKES_FRAMES));
        // Not in several buffers; none at all.
        assert!(!takes(4) && !takes(0x23));
        let runs = |features| of(features).1.runs_programs();
        assert!(runs(0x23) && !runs(1) && !runs(0x44));
        let without = attribute(device::IFINDEX, &7u32.to_ne_bytes());
        assert_eq!(self::features(&without), None);
    }

    #[test]
    fn an_answer_that_is_cut_off_is_no_answer() {
        let whole = device(7, 0x7f);
        for len in 0..whole.len() {
            assert_eq!(features(&whole[..len]), None, "{len}");
        }
        let mut datagram = (100u32).to_ne_bytes().to_vec();
        datagram.extend([0; 16]);
        assert!(messages(&datagram, &mut |_: &[u8]| {}).is_err());
        assert!(!messages(&[1, 2, 3], &mut |_: &[u8]| {}).unwrap());
    }

    #[test]
    fn the_kernel_answers() {
        // Which devices there are is the machine's affair; that it can be asked is ours.
        xdp_features().unwrap();
    }
}
