//! Child processes that die with us, whatever ends us.
//!
//! `PR_SET_PDEATHSIG` follows the *thread* that made the child (prctl(2)), and a test's threads come
//! and go. So one thread that lives as long as the process makes all children.

use std::io::{self, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{LazyLock, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use crate::wait::wait_until;

/// A child process. Dropping it kills it and reaps it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    what: String,
}

impl Process {
    /// Starts `command`; `what` names it in errors.
    pub(crate) fn start(command: Command, what: String) -> Result<Self> {
        let child = spawn(command).with_context(|| format!("cannot start {what}"))?;
        Ok(Self { child, what })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child itself, to take its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// True while it runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        // A child that has been reaped has given its process id back: never signal a stranger.
        if let Some(status) = self.child.try_wait()? {
            bail!("{} has ended already: {}", self.what, describe(status));
        }
        let pid = i32::try_from(self.child.id()).context("process id out of range")?;
        signal::kill(Pid::from_raw(pid), signal)
            .with_context(|| format!("cannot send {signal} to {}", self.what))
    }

    /// Waits for it to end by itself.
    ///
    /// # Errors
    /// When it still runs after `deadline`.
    pub fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let mut status = None;
        wait_until(deadline, &format!("{} ends", self.what), || {
            status = self.child.try_wait().transpose();
            status.is_some()
        })?;
        status
            .with_context(|| format!("{} has no exit status", self.what))?
            .with_context(|| format!("cannot wait for {}", self.what))
    }

    /// Kills it (SIGKILL) and reaps it; harmless where it has ended already.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.child
            .kill()
            .and_then(|()| self.child.wait())
            .with_context(|| format!("cannot kill {}", self.what))
    }

    /// Asks it to end (SIGTERM) and waits for that.
    ///
    /// # Errors
    /// When it has ended already, or still runs after `deadline`.
    pub fn terminate(&mut self, deadline: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait(deadline)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("{error:#}");
        }
    }
}

/// Runs `command` to its end and returns what it said; `input` becomes its standard input.
pub(crate) fn run(mut command: Command, input: &str) -> io::Result<Output> {
    command
        .stdin(if input.is_empty() {
            Stdio::null()
        } else {
            Stdio::piped()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = spawn(command)?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input.as_bytes()) {
            // It gave up before it had read everything: its own message tells why.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                child.kill()?;
                child.wait()?;
                return Err(error);
            }
            _ => {}
        }
    }
    child.wait_with_output()
}

/// An exit status in words.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// A command and where to send what came of it.
type Order = (Command, mpsc::Sender<io::Result<Child>>);

static SPAWNER: LazyLock<mpsc::Sender<Order>> = LazyLock::new(|| {
    let (sender, orders) = mpsc::channel::<Order>();
    // Where this thread can't be made its end of the channel is gone, and `spawn` says so.
    let thread = thread::Builder::new().name("spawner".into());
    if let Err(error) = thread.spawn(move || {
        for (mut command, answer) in orders {
            // Nobody waits for the answer any more: then nobody needs the child either.
            if let Err(mpsc::SendError(Ok(mut child))) = answer.send(command.spawn()) {
                let _ = child.kill().and_then(|()| child.wait());
            }
        }
    }) {
        eprintln!("cannot make the thread that starts processes: {error}");
    }
    sender
});

/// Starts a child that the kernel kills when this process ends.
fn spawn(mut command: Command) -> io::Result<Child> {
    let parent = nix::unistd::getpid();
    // SAFETY: between fork and exec; makes system calls only, allocates nothing.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have ended before the line above.
            if nix::unistd::getppid() == parent {
                Ok(())
            } else {
                Err(io::ErrorKind::Interrupted.into())
            }
        });
    }
    let gone = || io::Error::other("the thread that starts processes is gone");
    let (sender, answer) = mpsc::channel();
    SPAWNER.send((command, sender)).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_outlives_the_thread_that_asked_for_it() {
        let start = || {
            let mut command = Command::new("cat");
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            Process::start(command, "cat".into()).unwrap()
        };
        let mut cat = thread::spawn(start).join().unwrap();
        assert!(cat.is_running());
        // It answers, so no signal is on its way.
        let mut stdin = cat.child().stdin.take().unwrap();
        stdin.write_all(b"still here\n").unwrap();
        drop(stdin);
        let said = io::read_to_string(cat.child().stdout.take().unwrap()).unwrap();
        assert_eq!(said, "still here\n");
        assert!(cat.wait(Duration::from_secs(5)).unwrap().success());
    }

    #[test]
    fn dropping_kills_and_reaps() {
        let mut command = Command::new("sleep");
        command.arg("600");
        let sleep = Process::start(command, "sleep".into()).unwrap();
        let pid = Pid::from_raw(i32::try_from(sleep.pid()).unwrap());
        drop(sleep);
        assert_eq!(signal::kill(pid, None), Err(nix::errno::Errno::ESRCH));
    }

    #[test]
    fn a_failure_to_start_is_told() {
        let command = Command::new("/nonexistent/tool");
        let error = Process::start(command, "the tool".into()).unwrap_err();
        assert!(format!("{error:#}").contains("cannot start the tool: No such file"));
    }
}
