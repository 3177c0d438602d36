//! A virtual machine, from its start to its end.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long a guest may take for everything.
const DEADLINE: Duration = Duration::from_secs(20 * 60);

/// How much of the kernel's last words is shown when it did not end as it should.
const TAIL_LINES: usize = 30;

/// How the guest's instructions are carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// By the processor.
    Kvm,
    /// By qemu, ten times slower or more.
    Emulation,
}

impl Accelerator {
    /// The best that works here. A device file alone proves nothing: where the processor's own help is missing a
    /// guest may stand still for ever.
    pub fn of_this_machine() -> Self {
        let opens = OpenOptions::new().read(true).write(true).open("/dev/kvm");
        let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        if opens.is_ok() && has_virtualisation(&processor) {
            Self::Kvm
        } else {
            Self::Emulation
        }
    }

    /// For people.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Kvm => "by KVM",
            Self::Emulation => "emulated: no KVM here",
        }
    }

    /// How many times longer things may take.
    pub fn patience(self) -> u32 {
        match self {
            Self::Kvm => 1,
            Self::Emulation => 4,
        }
    }

    fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Self::Emulation => ["-accel", "tcg,thread=multi", "-cpu", "max"],
        }
    }
}

/// Whether the processor can run guests, by the flags in `/proc/cpuinfo`.
fn has_virtualisation(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|flags| {
        flags
            .split_whitespace()
            .any(|flag| flag == "vmx" || flag == "svm")
    })
}

/// Boots a kernel and hands over each line of the guest's second serial line, until the virtual machine is gone.
/// `absorb` is true for the line with which the guest is done. What the kernel says on the first serial line is
/// shown only where that went wrong.
///
/// # Errors
/// qemu cannot be started, the guest was gone before it was done, or it had to be stopped.
pub fn run(
    emulator: &Path,
    image: &Path,
    initramfs: &Path,
    accelerator: Accelerator,
    absorb: impl FnMut(&str) -> bool,
) -> Result<()> {
    let console = initramfs.with_file_name("console.log");
    let mut command = Command::new(emulator);
    command
        .args(accelerator.arguments())
        .args(["-smp", "2", "-m", "2048"])
        .args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
        ])
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(initramfs)
        // A panic is a reboot, and a reboot is qemu's end.
        .args(["-append", "console=ttyS0 loglevel=4 panic=-1"])
        .arg("-serial")
        .arg(format!("file:{}", option(&console)))
        .args(["-serial", "stdio"])
        .args([
            "-virtfs",
            "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("starting {}", emulator.display()))?;
    let ended = follow(&mut child, absorb);
    if ended.is_err() {
        // It may have ended this very moment.
        let _ = child.kill();
    }
    let status = child.wait().context("waiting for qemu")?;
    match ended {
        Ok(_) if !status.success() => bail!("qemu failed: {status}{}", tail(&console)),
        Ok(true) => Ok(()),
        Ok(false) => bail!("the guest was gone before it was done{}", tail(&console)),
        Err(error) => bail!("{error:#}{}", tail(&console)),
    }
}

/// In an option of qemu a comma stands for itself only if it is doubled.
fn option(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// Reads what the guest says until it says no more: whether it said that it was done.
fn follow(child: &mut Child, mut absorb: impl FnMut(&str) -> bool) -> Result<bool> {
    let end = Instant::now() + DEADLINE;
    let stdout = child.stdout.take().context("reading what the guest says")?;
    let (lines, received) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            // A serial line ends its lines as terminals do.
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if lines.send(line).is_err() {
                return;
            }
        }
    });
    let mut done = false;
    loop {
        match received.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => done |= absorb(&line),
            Err(RecvTimeoutError::Disconnected) => return Ok(done),
            Err(RecvTimeoutError::Timeout) => {
                bail!("the guest was not done after {} s", DEADLINE.as_secs())
            }
        }
    }
}

/// The end of the kernel's log, to be shown in an error.
fn tail(console: &Path) -> String {
    let text = fs::read(console).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    let mut shown = String::from("; the kernel's last words:");
    for line in &lines[from..] {
        shown.push_str("\n    ");
        shown.push_str(line);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_without_the_flag_runs_no_guests() {
        let cpuinfo =
            |flags| format!("processor\t: 0\nflags\t\t: fpu {flags} sse\nbugs\t: vmxish\n");
        assert!(has_virtualisation(&cpuinfo("vmx")));
        assert!(has_virtualisation(&cpuinfo("svm")));
        assert!(!has_virtualisation(&cpuinfo("vme")));
        assert!(!has_virtualisation(""));
    }
}
