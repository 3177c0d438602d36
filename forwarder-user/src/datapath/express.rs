//! The XDP program on the uplink: a link of its own, pinned like those of TC. aya would fall back to
//! netlink without a word where the kernel refuses a link, and what is attached so cannot be pinned.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use aya::Ebpf;
use aya::programs::Xdp;
use aya_obj::generated::{XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE, bpf_attach_type, bpf_cmd};
use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkMessage;
use tracing::debug;
use underpass_common::verdict::Hook;

use super::{bpf, clsact, link_info, pins, query};
use crate::xdp::{AttachedXdp, NOT_NATIVE, XdpMode, programs, why_not_native};

/// The XDP program of the object.
///
/// # Errors
/// Where the object has none: a defect of the build.
pub fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp> {
    let name = Hook::FromWireXdp.name();
    ebpf.program_mut(name)
        .with_context(|| format!("the BPF object has no program {name}"))?
        .try_into()
        .with_context(|| format!("{name} is not an XDP program"))
}

/// Attaches the program, or swaps it in place of an earlier agent's.
///
/// # Errors
/// Says in words why XDP cannot be had on this device: another program is there, the driver has no native
/// XDP, the device is gone.
pub(super) fn attach(ebpf: &mut Ebpf, ifindex: u32, pin: &Path, mode: XdpMode) -> Result<()> {
    let program = program(ebpf)?;
    let descriptor = program.fd().context("the XDP program is not loaded")?;
    if std::fs::symlink_metadata(pin).is_ok() {
        // In another mode it has to be taken off first; TC carries everything meanwhile.
        let is_alike = link_info::xdp_device(pin)? == Some(ifindex)
            && query::xdp(ifindex)?
                .iter()
                .any(|there| there.mode == Some(mode));
        if is_alike && update(pin, descriptor.as_fd())? {
            return Ok(());
        }
        detach(pin)?;
    }
    let link =
        create(descriptor.as_fd(), ifindex, mode).or_else(|error| refused(error, ifindex, mode))?;
    bpf::pin(link.as_fd(), pin).with_context(|| format!("cannot pin the link at {}", pin.display()))
}

/// Takes the program off, and removes the pin. At once: by the pin alone the kernel would do it when it has time, and
/// who comes next would find the place taken.
pub(super) fn detach(pin: &Path) -> Result<()> {
    if link_info::xdp_device(pin).is_ok_and(|device| device.is_some()) {
        let link = bpf::open_pin(pin).with_context(|| format!("cannot open {}", pin.display()))?;
        let mut attr = bpf::nothing_said();
        attr.link_detach.link_fd = link.as_raw_fd() as u32;
        // SAFETY: the member that this command reads.
        if let Err(error) = unsafe { bpf::call(bpf_cmd::BPF_LINK_DETACH, &mut attr) } {
            debug!("{}: {error}; the link goes with its pin", pin.display());
        }
    }
    pins::remove_file(pin)
}

fn create(program: BorrowedFd<'_>, ifindex: u32, mode: XdpMode) -> io::Result<OwnedFd> {
    let mut attr = bpf::nothing_said();
    attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    attr.link_create.__bindgen_anon_2.target_ifindex = ifindex;
    attr.link_create.attach_type = bpf_attach_type::BPF_XDP as u32;
    attr.link_create.flags = flags(mode);
    // SAFETY: the members that this command reads, and no pointer; it answers with a descriptor.
    unsafe { bpf::descriptor(bpf_cmd::BPF_LINK_CREATE, &mut attr) }
}

/// Has a pinned link run this program. False where its device has gone.
fn update(pin: &Path, program: BorrowedFd<'_>) -> Result<bool> {
    let link = bpf::open_pin(pin).with_context(|| format!("cannot open {}", pin.display()))?;
    let mut attr = bpf::nothing_said();
    attr.link_update.link_fd = link.as_raw_fd() as u32;
    attr.link_update.__bindgen_anon_1.new_prog_fd = program.as_raw_fd() as u32;
    // SAFETY: the members that this command reads, and no pointer.
    match unsafe { bpf::call(bpf_cmd::BPF_LINK_UPDATE, &mut attr) } {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => Ok(false),
        Err(error) => Err(error).context("cannot swap the XDP program in place"),
    }
}

/// Says in words why there is no XDP.
fn refused<T>(error: io::Error, ifindex: u32, mode: XdpMode) -> Result<T> {
    let there = query::xdp(ifindex).unwrap_or_default();
    match (error.raw_os_error(), there.first()) {
        (Some(libc::EBUSY | libc::EEXIST), Some(there)) => {
            let name = query::program_name(there.program);
            let name = name.map_or_else(String::new, |name| format!(" ({name})"));
            bail!(
                "the XDP program {}{name} of somebody else is there; it is left alone",
                there.program
            )
        }
        (Some(libc::EOPNOTSUPP), _) if mode == XdpMode::Native => {
            let why = link(ifindex).ok().flatten().as_ref().map(why_not_native);
            let why = why.unwrap_or_else(|| NOT_NATIVE.to_owned());
            bail!("{why}; --xdp-mode generic works everywhere, and saves little")
        }
        _ => Err(error).with_context(|| format!("the kernel refuses {} XDP", mode.name())),
    }
}

/// The XDP programs of a device; none where it has none, or is gone.
pub(super) fn ask(ifindex: u32) -> Result<Vec<AttachedXdp>> {
    Ok(link(ifindex)?.iter().flat_map(programs).collect())
}

/// What the kernel tells of a device, in the namespace of this thread; `None`: there is no such device.
fn link(ifindex: u32) -> Result<Option<LinkMessage>> {
    let mut request = LinkMessage::default();
    request.header.index = ifindex;
    let mut found = None;
    clsact::ask(
        RouteNetlinkMessage::GetLink(request),
        NLM_F_REQUEST | NLM_F_ACK,
        |answer| {
            let RouteNetlinkMessage::NewLink(link) = answer else {
                return false;
            };
            found = Some(link.clone());
            true
        },
    )?;
    Ok(found)
}

const fn flags(mode: XdpMode) -> u32 {
    match mode {
        XdpMode::Native => XDP_FLAGS_DRV_MODE,
        XdpMode::Generic => XDP_FLAGS_SKB_MODE,
    }
}
