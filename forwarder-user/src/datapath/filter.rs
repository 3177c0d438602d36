//! Our filters of a clsact qdisc, where there is no TCX.

use anyhow::{Context as _, Result};
use aya::programs::links::Link as _;
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle as Handle};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType, TcError};
use netlink_packet_route::tc::TcHandle;
use underpass_common::verdict::Hook;

use super::attach::{Device, attach_type};
use super::clsact;

/// Priority of our filters where there is no TCX. One of its own, so that no other filter is
/// replaced; high, so that those of others run first and we see what they leave.
pub const FILTER_PRIORITY: u16 = 0xc0de;
/// Whether a filter of this kind and priority is ours, where there is no TCX.
pub fn is_ours(kind: &str, priority: u16) -> bool {
    kind == "bpf" && priority == FILTER_PRIORITY
}

/// Handle of our filters.
const FILTER_HANDLE: Handle = Handle::new(0, 1);

/// Swaps the filter, or makes it where there is none: what the pins say of it may be half done.
///
/// # Errors
/// Where the device is gone or the kernel refuses.
pub fn put(program: &mut SchedClassifier, hook: Hook, device: Device<'_>) -> Result<()> {
    let options = TcAttachOptions::Netlink(NlOptions {
        priority: FILTER_PRIORITY,
        handle: FILTER_HANDLE,
        ..NlOptions::default()
    });
    let id = match program.attach_with_options(device.name, attach_type(hook), options) {
        Err(error) if os_error(&error) == Some(libc::EEXIST) => {
            program.attach_to_link(of(hook, device.name)?)?
        }
        attached => attached?,
    };
    // Dropping the link would take the filter away; it is to outlive us.
    std::mem::forget(program.take_link(id)?);
    Ok(())
}

/// Whether the filter is there: the pin alone does not tell. Another device can have got the index, somebody can have
/// deleted the filter.
///
/// # Errors
/// Where the kernel does not tell.
pub fn is_there(hook: Hook, ifindex: u32) -> Result<bool> {
    let side = match attach_type(hook) {
        TcAttachType::Ingress => TcHandle::MIN_INGRESS,
        _ => TcHandle::MIN_EGRESS,
    };
    clsact::has_filter(ifindex, side, FILTER_PRIORITY)
}

/// Takes the filter out; none there is as good: somebody has taken it out, or it never came to be.
///
/// # Errors
/// Where the device is gone or the kernel refuses.
pub fn take_out(hook: Hook, name: &str) -> Result<()> {
    match of(hook, name)?.detach() {
        Err(error) if is_gone(&error) => Ok(()),
        detached => Ok(detached?),
    }
}

fn of(hook: Hook, name: &str) -> Result<SchedClassifierLink> {
    SchedClassifierLink::attached(
        name,
        attach_type(hook),
        FILTER_PRIORITY,
        FILTER_HANDLE,
        None,
    )
    .with_context(|| format!("the device {name} is gone"))
}

/// What the kernel answered by netlink.
fn os_error(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::TcError(TcError::NetlinkError(error)) | ProgramError::NetlinkError(error) => {
            error.raw_os_error()
        }
        _ => None,
    }
}

/// `ENOENT`: there is no such filter. `EINVAL`: there is no qdisc for it.
fn is_gone(error: &ProgramError) -> bool {
    matches!(os_error(error), Some(libc::ENOENT | libc::EINVAL))
}
