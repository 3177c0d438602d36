//! A tool that runs in a host, on one CPU.

use std::fs;
use std::io::{self, PipeReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sched::sched_setaffinity;
use nix::unistd::Pid;

use super::Measured;
use crate::lab::{Host, Process};
use crate::measure::cpu::{Account, only};
use crate::wait::{patient, wait_for};

/// How long a server may take until it listens, and a process to end that has closed its output.
const SOON: Duration = Duration::from_secs(10);

/// How long a tool may take beyond the seconds that it measures.
const PATIENCE: Duration = Duration::from_secs(20);

/// A tool under way. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Pinned {
    process: Process,
    /// What it says, on standard output and standard error.
    output: PipeReader,
    what: String,
}

impl Pinned {
    /// Starts a command on a CPU of `host`.
    pub fn start(host: &Host, cpu: usize, mut command: Command) -> Result<Self> {
        let one = only(cpu)?;
        // SAFETY: between fork and exec; one system call, nothing allocated.
        unsafe {
            command.pre_exec(move || Ok(sched_setaffinity(Pid::from_raw(0), &one)?));
        }
        let (output, said) = io::pipe().context("no pipe for a tool's output")?;
        command.stdin(Stdio::null());
        command.stdout(said.try_clone()?).stderr(said);
        let program = command.get_program().display().to_string();
        let process = host.spawn(command).with_context(|| {
            format!("is {program} installed, and may it run on CPU {cpu}? `cargo xtask bench` installs it on Debian and Ubuntu")
        })?;
        let what = format!("{program} on {}", host.name());
        Ok(Self {
            process,
            output,
            what,
        })
    }

    /// Runs a client that measures for so many seconds to its end, and counts what the machine works meanwhile.
    pub fn measure(
        host: &Host,
        cpu: usize,
        command: Command,
        seconds: u64,
    ) -> Result<Measured<String>> {
        let before = Account::read()?;
        let client = Self::start(host, cpu, command)?;
        let said = client.finish(Duration::from_secs(seconds) + PATIENCE)?;
        let usage = Account::read()?.since(before);
        Ok(Measured {
            value: said,
            cpu_seconds: usage.busy_seconds,
            stolen: usage.stolen,
        })
    }

    /// Waits until somebody listens on this TCP port of `host`, where this runs. Asking by connecting would be
    /// taken for the client.
    pub fn wait_until_listening(&mut self, host: &Host, port: u16) -> Result<()> {
        let what = format!("{} listens on TCP port {port}", self.what);
        let listens = host.enter(|| {
            wait_for(SOON, &what, || {
                if !self.process.is_running() {
                    return Ok(false);
                }
                ensure!(is_listening(port)?, "nobody listens there");
                Ok(true)
            })
        });
        if matches!(listens, Ok(true)) {
            return Ok(());
        }
        self.process.kill()?;
        let mut said = String::new();
        self.output.read_to_string(&mut said)?;
        bail!("{what}: it doesn't, and says: {}", said.trim())
    }

    /// Waits for it to end by itself, at most `limit`, and tells what it said.
    ///
    /// # Errors
    /// When it doesn't end, or not with 0; the message holds what it said.
    fn finish(self, limit: Duration) -> Result<String> {
        let Self {
            mut process,
            mut output,
            what,
        } = self;
        let (done, finished) = mpsc::channel();
        let reading = thread::spawn(move || {
            let mut said = Vec::new();
            let read = output.read_to_end(&mut said).map(|_| said);
            let _ = done.send(());
            read
        });
        let in_time = finished.recv_timeout(patient(limit)).is_ok();
        let status = if in_time {
            process.wait(SOON)?
        } else {
            process.kill()?
        };
        let said = reading
            .join()
            .ok()
            .with_context(|| format!("reading from {what} panicked"))?;
        let said = said.with_context(|| format!("cannot read from {what}"))?;
        let said = String::from_utf8_lossy(&said);
        ensure!(
            in_time,
            "{what} hasn't ended after {limit:?}: {}",
            said.trim()
        );
        ensure!(status.success(), "{what}: {status}: {}", said.trim());
        Ok(said.into_owned())
    }
}

/// A command of words.
pub(super) fn command(program: &str, words: &str) -> Command {
    let mut command = Command::new(program);
    command.args(words.split_whitespace());
    command
}

/// Whether somebody listens on this TCP port, in the namespace of this thread.
fn is_listening(port: u16) -> Result<bool> {
    for table in ["tcp", "tcp6"] {
        let path = format!("/proc/thread-self/net/{table}");
        match fs::read_to_string(&path) {
            Ok(sockets) if listens(&sockets, port) => return Ok(true),
            Ok(_) => {}
            // A kernel without IPv6 has no such file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {path}")),
        }
    }
    Ok(false)
}

/// From lines of `sl local_address rem_address st ...` (proc_net_tcp in the kernel's documentation): state 0A
/// is LISTEN.
fn listens(sockets: &str, port: u16) -> bool {
    let ending = format!(":{port:04X}");
    sockets.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let local = fields.next().unwrap_or_default();
        local.ends_with(&ending) && fields.nth(1) == Some("0A")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_listening_socket_listens() {
        let sockets = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt\n\
            0: 00000000:1451 00000000:0000 0A 00000000:00000000 00:00000000 00000000\n\
            1: 0202010A:2B67 0201010A:D431 01 00000000:00000000 00:00000000 00000000\n";
        assert!(listens(sockets, 5201));
        assert!(!listens(sockets, 11111), "that one is connected");
        assert!(!listens(sockets, 0), "those are remote ports");
    }
}
