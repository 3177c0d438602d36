//! Programs on devices: TCX links from Linux 6.6 on, filters of a clsact qdisc before; and XDP links.
//!
//! What is attached is read from the kernel each time, never remembered: a device that went and came
//! again under the same index has none of our links, whatever its pin is called.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use aya::Ebpf;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType};
use aya::sys::SyscallError;
use aya::util::KernelVersion;
use tracing::debug;
use underpass_common::verdict::Hook;

use super::link_info::Place;
use super::load::program;
use super::{Pins, clsact, express, filter, link_info, pins, query};
use crate::xdp::XdpMode;

/// How programs are attached on this kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// TCX links (Linux 6.6): pinned, replaced atomically, ordered among those of others.
    Tcx,
    /// Filters of a clsact qdisc, in direct-action mode. The pin in `links/` is the program's.
    Clsact,
}

impl Mechanism {
    /// What this kernel offers.
    pub fn of_this_kernel() -> Self {
        if KernelVersion::current().is_ok_and(|running| running >= KernelVersion::new(6, 6, 0)) {
            Self::Tcx
        } else {
            Self::Clsact
        }
    }
}

/// Attaches and detaches our programs.
pub struct Attachments {
    pins: Pins,
    mechanism: Mechanism,
    xdp_mode: XdpMode,
}

/// A device by index and by name: aya wants the name, and a name can have moved to another device.
#[derive(Clone, Copy, Debug)]
pub struct Device<'a> {
    /// Interface index.
    pub ifindex: u32,
    /// Interface name.
    pub name: &'a str,
}

impl Attachments {
    /// Works on the pins of one node.
    pub fn new(pins: Pins, mechanism: Mechanism) -> Self {
        Self {
            pins,
            mechanism,
            xdp_mode: XdpMode::default(),
        }
    }

    /// XDP in this mode.
    #[must_use]
    pub fn xdp_mode(mut self, mode: XdpMode) -> Self {
        self.xdp_mode = mode;
        self
    }

    /// What is attached now. Pins whose device is gone are removed on the way.
    ///
    /// # Errors
    /// Where the pins cannot be read.
    pub fn attached(&self) -> Result<BTreeSet<(Hook, u32)>> {
        let attached = self.alive()?;
        for (hook, ifindex) in self.pinned()? {
            if !attached.contains(&(hook, ifindex)) {
                debug!(
                    hook = hook.name(),
                    ifindex, "its device is gone, or the pin is not ours"
                );
                pins::remove_file(&self.pins.link(hook, ifindex))?;
            }
        }
        Ok(attached)
    }

    /// What is attached now. Changes nothing: for who only looks.
    ///
    /// # Errors
    /// Where the pins cannot be read.
    pub fn alive(&self) -> Result<BTreeSet<(Hook, u32)>> {
        let mut alive = BTreeSet::new();
        for (hook, ifindex) in self.pinned()? {
            if self.is_alive(hook, ifindex)? {
                alive.insert((hook, ifindex));
            }
        }
        Ok(alive)
    }

    fn is_alive(&self, hook: Hook, ifindex: u32) -> Result<bool> {
        let pin = self.pins.link(hook, ifindex);
        match self.mechanism {
            _ if hook.is_xdp() => link_info::xdp_device(&pin)
                .map(|device| device == Some(ifindex))
                .with_context(|| format!("cannot look at the link {}", pin.display())),
            Mechanism::Tcx => is_at(&pin, hook, ifindex)
                .with_context(|| format!("cannot look at the link {}", pin.display())),
            Mechanism::Clsact => filter::is_there(hook, ifindex)
                .with_context(|| format!("cannot look at the filters of interface {ifindex}")),
        }
    }

    /// Everything that has a pin, alive or not.
    fn pinned(&self) -> Result<Vec<(Hook, u32)>> {
        let dir = self.pins.links();
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(|| format!("cannot read {}", dir.display()))?,
        };
        let mut pinned = Vec::new();
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot read {}", dir.display()))?;
            if let Some(parsed) = parse_pin(&entry.file_name().to_string_lossy()) {
                pinned.push(parsed);
            }
        }
        Ok(pinned)
    }

    /// Attaches the program of a hook, or swaps it in place where an older one is attached. No
    /// packet passes without one or the other.
    ///
    /// # Errors
    /// Where the device is gone or the kernel refuses.
    pub fn attach(&self, ebpf: &mut Ebpf, hook: Hook, device: Device<'_>) -> Result<()> {
        let attached = match self.mechanism {
            _ if hook.is_xdp() => {
                let pin = self.pins.link(hook, device.ifindex);
                express::attach(ebpf, device.ifindex, &pin, self.xdp_mode)
            }
            Mechanism::Tcx => self.attach_tcx(program(ebpf, hook)?, hook, device),
            Mechanism::Clsact => self.attach_clsact(program(ebpf, hook)?, hook, device),
        };
        attached.with_context(|| format!("cannot attach {} to {}", hook.name(), device.name))
    }

    fn attach_tcx(
        &self,
        program: &mut SchedClassifier,
        hook: Hook,
        device: Device<'_>,
    ) -> Result<()> {
        let pin = self.pins.link(hook, device.ifindex);
        if fs::symlink_metadata(&pin).is_ok() {
            // What we would update must be where we think; anything else at our name is given up.
            if is_at(&pin, hook, device.ifindex)? && swap(program, &pin)? {
                return Ok(());
            }
            pins::remove_file(&pin)?;
        }
        check_name(device)?;
        // Last in the chain: the programs of others have had their say, on what comes in and on
        // what goes out.
        let order = TcAttachOptions::TcxOrder(LinkOrder::last());
        let id = program.attach_with_options(device.name, attach_type(hook), order)?;
        let link: FdLink = program.take_link(id)?.try_into()?;
        link.pin(&pin)?;
        // A device renamed in between: the link is on another one, which `attached` would find out.
        if !is_at(&pin, hook, device.ifindex)? {
            pins::remove_file(&pin)?;
            bail!("the device was renamed meanwhile");
        }
        Ok(())
    }

    fn attach_clsact(
        &self,
        program: &mut SchedClassifier,
        hook: Hook,
        device: Device<'_>,
    ) -> Result<()> {
        check_name(device)?;
        let pin = self.pins.link(hook, device.ifindex);
        let has_ours = self.has_filter(device.ifindex);
        clsact::ensure(&self.pins, device, has_ours)?;
        // Pinned first: should we be killed before the filter is there, who comes next finds the pin and takes out
        // whatever there is.
        let is_new = fs::symlink_metadata(&pin).is_err();
        pin_in_place(program, &pin)?;
        match filter::put(program, hook, device) {
            Ok(()) => Ok(()),
            Err(error) => {
                if is_new {
                    pins::remove_file(&pin)?;
                }
                Err(error)
            }
        }
    }

    /// TCX programs of others on a hook's side of a device, by name. None where there is no TCX.
    ///
    /// # Errors
    /// Where the kernel does not tell.
    pub fn onlookers(&self, hook: Hook, ifindex: u32) -> Result<Vec<String>> {
        if self.mechanism != Mechanism::Tcx {
            return Ok(Vec::new());
        }
        let ours = link_info::id(&self.pins.link(hook, ifindex)).ok().flatten();
        let attached = match query::tcx(hook, ifindex) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(Vec::new()),
            attached => attached.context("cannot ask for the TCX programs on an uplink")?,
        };
        let others = attached.iter().filter(|one| Some(one.link) != ours);
        let name = |one: &query::Attached| {
            query::program_name(one.program).unwrap_or_else(|| format!("program {}", one.program))
        };
        Ok(others.map(name).collect())
    }

    /// Whether a filter with this kind and priority is ours.
    pub fn is_ours(&self, kind: &str, priority: u16) -> bool {
        self.mechanism == Mechanism::Clsact && filter::is_ours(kind, priority)
    }

    /// Detaches the program of a hook; none there is as good.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn detach(&self, hook: Hook, ifindex: u32) -> Result<()> {
        let pin = self.pins.link(hook, ifindex);
        if hook.is_xdp() {
            return express::detach(&pin);
        }
        let is_of_clsact = self.mechanism == Mechanism::Clsact;
        let is_filter = is_of_clsact && pin.exists();
        if is_filter && let Some(name) = interface_name(ifindex) {
            filter::take_out(hook, &name)
                .with_context(|| format!("cannot detach {} from {name}", hook.name()))?;
        }
        pins::remove_file(&pin)?;
        if is_of_clsact && !self.has_filter(ifindex) {
            clsact::release(&self.pins, ifindex)?;
        }
        Ok(())
    }

    /// Whether a filter of ours is, or was, on that device.
    fn has_filter(&self, ifindex: u32) -> bool {
        let mut hooks = Hook::TC.iter();
        hooks.any(|hook| self.pins.link(*hook, ifindex).exists())
    }

    /// Detaches everything of ours.
    ///
    /// # Errors
    /// The first that would not go.
    pub fn detach_all(&self) -> Result<usize> {
        let pinned = self.pinned()?;
        for &(hook, ifindex) in &pinned {
            self.detach(hook, ifindex)?;
        }
        if self.mechanism == Mechanism::Clsact {
            clsact::release_all(&self.pins)?;
        }
        Ok(pinned.len())
    }
}

/// The side of a device that a hook is on: entrances look at what it receives, exits at what it sends.
pub(super) const fn attach_type(hook: Hook) -> TcAttachType {
    match hook.is_entrance() {
        true => TcAttachType::Ingress,
        false => TcAttachType::Egress,
    }
}

/// Whether a pin is a link on the hook's side of that device.
fn is_at(pin: &Path, hook: Hook, ifindex: u32) -> io::Result<bool> {
    let is_ingress = attach_type(hook) == TcAttachType::Ingress;
    let wanted = Place {
        ifindex,
        is_ingress,
    };
    Ok(link_info::tcx_place(pin)? == Some(wanted))
}

/// Has a pinned link run this program. False where its device has gone.
fn swap(program: &mut SchedClassifier, pin: &Path) -> Result<bool> {
    let old = SchedClassifierLink::try_from(FdLink::from(PinnedLink::from_pin(pin)?))?;
    match program.attach_to_link(old) {
        Ok(id) => {
            // The pin keeps the link; our descriptor of it may go.
            drop(program.take_link(id)?);
            Ok(true)
        }
        Err(error) if is_no_link(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Pins a program in place of what was pinned there, if anything.
fn pin_in_place(program: &mut SchedClassifier, pin: &Path) -> Result<()> {
    if fs::symlink_metadata(pin).is_err() {
        return Ok(program.pin(pin)?);
    }
    // A name that no hook has.
    let mut beside = pin.as_os_str().to_owned();
    beside.push("-new");
    let beside = Path::new(&beside);
    pins::remove_file(beside)?;
    program.pin(beside)?;
    fs::rename(beside, pin).with_context(|| format!("cannot replace {}", pin.display()))
}

/// `ENOLINK`: what `BPF_LINK_UPDATE` answers where the device of a link is gone.
fn is_no_link(error: &ProgramError) -> bool {
    matches!(error, ProgramError::SyscallError(SyscallError { io_error, .. })
        if io_error.raw_os_error() == Some(libc::ENOLINK))
}

fn check_name(device: Device<'_>) -> Result<()> {
    let ifindex = nix::net::if_::if_nametoindex(device.name)
        .with_context(|| format!("the device {} is gone", device.name))?;
    if ifindex != device.ifindex {
        bail!("{} is another device by now", device.name);
    }
    Ok(())
}

fn interface_name(ifindex: u32) -> Option<String> {
    nix::net::if_::if_indextoname(ifindex)
        .ok()
        .and_then(|name| name.into_string().ok())
}

/// `from_pod-12` -> (`from_pod`, 12).
fn parse_pin(name: &str) -> Option<(Hook, u32)> {
    let (hook, ifindex) = name.rsplit_once('-')?;
    let hook = Hook::ALL.into_iter().find(|one| one.name() == hook)?;
    Some((hook, ifindex.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_names_hook_and_device() {
        assert_eq!(parse_pin("from_pod-12"), Some((Hook::FromPod, 12)));
        assert_eq!(parse_pin("to_wire-2"), Some((Hook::ToWire, 2)));
        assert_eq!(parse_pin("from_wire_xdp-2"), Some((Hook::FromWireXdp, 2)));
        for not_ours in ["from_pod", "from_pod-", "from_pod-x", "elsewhere-3", "-3"] {
            assert_eq!(parse_pin(not_ours), None, "{not_ours}");
        }
    }
}
