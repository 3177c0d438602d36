//! The clsact qdisc that carries our programs where there is no TCX.
//!
//! Where there was none, attaching makes one; a note of that, an empty directory `qdiscs/<ifindex>` beside the
//! pins, outlives the agent. Who makes a qdisc takes it away: but only once nobody's filter is left on it.

use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use aya::programs::tc::qdisc_add_clsact;
use libc::{EINVAL, ENODEV, ENOENT, EOPNOTSUPP};
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcHandle, TcMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use tracing::debug;

use super::attach::Device;
use super::pins::{self, Pins};

/// The kernel's answer where the qdisc or its device has gone meanwhile.
const GONE: [i32; 4] = [ENODEV, ENOENT, EINVAL, EOPNOTSUPP];

/// Sees to it that the device has the qdisc. `is_ours_already`: a filter of ours hangs on it.
///
/// # Errors
/// Where the note cannot be written. A qdisc that cannot be made is told by what is attached to it.
pub fn ensure(pins: &Pins, device: Device<'_>, is_ours_already: bool) -> Result<()> {
    let note = note(pins, device.ifindex);
    if qdisc_add_clsact(device.name).is_ok() {
        fs::create_dir_all(&note).with_context(|| format!("cannot make {}", note.display()))
    } else if is_ours_already {
        Ok(())
    } else {
        // Somebody else's. A note is of another device, which had this index before.
        pins::remove_dir(&note)
    }
}

/// Takes the qdisc away if we have made it and nobody uses it. To be called when our last filter on the device is
/// gone.
///
/// # Errors
/// Where the kernel refuses. A device that has gone is as good.
pub fn release(pins: &Pins, ifindex: u32) -> Result<()> {
    let note = note(pins, ifindex);
    if !note.exists() {
        return Ok(());
    }
    let device = || format!("the clsact qdisc of interface {ifindex}");
    let index = i32::try_from(ifindex).context("an interface index is too large")?;
    if is_used(index).with_context(|| format!("cannot look at {}", device()))? {
        debug!(ifindex, "others have filters on our clsact qdisc: it stays");
    } else {
        remove(index).with_context(|| format!("cannot remove {}", device()))?;
    }
    pins::remove_dir(&note)
}

/// As [`release`], for every note: those are left whose device, and pins, have gone another way.
///
/// # Errors
/// As [`release`].
pub fn release_all(pins: &Pins) -> Result<()> {
    let dir = pins.qdiscs();
    let entries = match fs::read_dir(&dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| format!("cannot read {}", dir.display()))?,
    };
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", dir.display()))?;
        if let Ok(ifindex) = entry.file_name().to_string_lossy().parse() {
            release(pins, ifindex)?;
        }
    }
    Ok(())
}

fn note(pins: &Pins, ifindex: u32) -> PathBuf {
    pins.qdiscs().join(ifindex.to_string())
}

/// Whether anybody's filter hangs on it, on either side.
fn is_used(index: i32) -> Result<bool> {
    for side in [TcHandle::MIN_INGRESS, TcHandle::MIN_EGRESS] {
        if filters(index, side, |_| true)? > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a filter of this priority hangs on one side of a device, [`TcHandle::MIN_INGRESS`] or
/// [`TcHandle::MIN_EGRESS`]. A device that has gone has none.
///
/// # Errors
/// Where the kernel does not tell.
pub fn has_filter(ifindex: u32, side: u16, priority: u16) -> Result<bool> {
    let index = i32::try_from(ifindex).context("an interface index is too large")?;
    // `tcm_info` holds the priority above the protocol (`TC_H_MAKE`, linux/pkt_sched.h).
    let is_it = |filter: &TcMessage| filter.header.info >> 16 == u32::from(priority);
    Ok(filters(index, side, is_it)? > 0)
}

/// How many such filters there are on one side of a device.
fn filters(index: i32, side: u16, is_meant: impl Fn(&TcMessage) -> bool) -> Result<usize> {
    let mut request = TcMessage::with_index(index);
    request.header.parent = TcHandle {
        minor: side,
        ..TcHandle::CLSACT
    };
    ask(
        RouteNetlinkMessage::GetTrafficFilter(request),
        NLM_F_REQUEST | NLM_F_DUMP,
        |answer| matches!(answer, RouteNetlinkMessage::NewTrafficFilter(filter) if is_meant(filter)),
    )
}

fn remove(index: i32) -> Result<()> {
    let mut request = TcMessage::with_index(index);
    request.header.parent = TcHandle::CLSACT;
    request.header.handle = TcHandle {
        minor: 0,
        ..TcHandle::CLSACT
    };
    let message = RouteNetlinkMessage::DelQueueDiscipline(request);
    ask(message, NLM_F_REQUEST | NLM_F_ACK, |_| true).map(drop)
}

/// Asks the kernel, in the namespace of this thread: with how many messages that are meant it answers. None, where
/// what was asked about is gone.
pub(super) fn ask(
    message: RouteNetlinkMessage,
    flags: u16,
    mut is_meant: impl FnMut(&RouteNetlinkMessage) -> bool,
) -> Result<usize> {
    let mut request = NetlinkMessage::from(message);
    request.header.flags = flags;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);

    let mut socket = Socket::new(NETLINK_ROUTE).context("cannot open a netlink socket")?;
    socket.bind_auto().context("cannot bind a netlink socket")?;
    socket
        .send_to(&bytes, &SocketAddr::new(0, 0), 0)
        .context("cannot ask the kernel")?;
    let mut messages = 0;
    loop {
        let (answer, _) = socket
            .recv_from_full()
            .context("cannot read the kernel's answer")?;
        let mut rest = answer.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .context("cannot decode the kernel's answer")?;
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(messages),
                NetlinkPayload::Error(error) => return outcome(error.to_io(), messages),
                NetlinkPayload::InnerMessage(answer) => messages += usize::from(is_meant(&answer)),
                _ => {}
            }
            // Messages begin at multiples of four (NLMSG_ALIGN).
            let length = (message.header.length as usize).next_multiple_of(4);
            if length == 0 {
                bail!("an answer of the kernel has no length");
            }
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}

/// An error message without an error is an acknowledgement.
fn outcome(error: io::Error, messages: usize) -> Result<usize> {
    match error.raw_os_error() {
        Some(0) => Ok(messages),
        Some(code) if GONE.contains(&code) => Ok(0),
        _ => Err(error.into()),
    }
}
