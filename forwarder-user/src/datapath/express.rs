//! The XDP program on the uplink: a link of its own, pinned like those of TC. aya would fall back to
//! netlink without a word where the kernel refuses a link, and what is attached so cannot be pinned.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use aya::Ebpf;
use aya::programs::Xdp;
use aya_obj::generated::{XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE, bpf_attach_type, bpf_cmd};
use tracing::debug;
use underpass_common::verdict::Hook;

use super::{bpf, clsact, link_info, pins, query};

/// Where in the kernel XDP runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpMode {
    /// In the device's driver, before the kernel makes a packet of a frame.
    #[default]
    Native,
    /// Behind the driver, on any device: it works, and saves little.
    Generic,
}

impl XdpMode {
    /// Its name, as `--xdp-mode` takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    const fn flags(self) -> u32 {
        match self {
            Self::Native => XDP_FLAGS_DRV_MODE,
            Self::Generic => XDP_FLAGS_SKB_MODE,
        }
    }
}

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
            && query::xdp(ifindex)?.is_some_and(|there| there.mode == Some(mode));
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
    attr.link_create.flags = mode.flags();
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
    let there = query::xdp(ifindex).ok().flatten();
    match (error.raw_os_error(), there) {
        (Some(libc::EBUSY | libc::EEXIST), Some(there)) => {
            let name = query::program_name(there.program);
            let name = name.map_or_else(String::new, |name| format!(" ({name})"));
            bail!(
                "the XDP program {}{name} of somebody else is there; it is left alone",
                there.program
            )
        }
        (Some(libc::EOPNOTSUPP), _) if mode == XdpMode::Native => {
            bail!(
                "the driver has no native XDP, or not in its present settings; \
                 --xdp-mode generic works everywhere, and saves little"
            )
        }
        _ => Err(error).with_context(|| format!("the kernel refuses {} XDP", mode.name())),
    }
}

/// What XDP runs on a device.
pub(super) fn ask(ifindex: u32) -> Result<Option<query::AttachedXdp>> {
    use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST};
    use netlink_packet_route::RouteNetlinkMessage;
    use netlink_packet_route::link::{LinkAttribute, LinkMessage, LinkXdp, XdpAttached};

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
            let parts = link
                .attributes
                .iter()
                .find_map(|attribute| match attribute {
                    LinkAttribute::Xdp(parts) => Some(parts),
                    _ => None,
                });
            let parts = parts.map(Vec::as_slice).unwrap_or_default();
            let program = parts.iter().find_map(|part| match part {
                LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) => Some(*id),
                _ => None,
            });
            let mode = parts.iter().find_map(|part| match part {
                LinkXdp::Attached(XdpAttached::Driver) => Some(XdpMode::Native),
                LinkXdp::Attached(XdpAttached::SocketBuffer) => Some(XdpMode::Generic),
                _ => None,
            });
            found = program.map(|program| query::AttachedXdp { program, mode });
            true
        },
    )?;
    Ok(found)
}
