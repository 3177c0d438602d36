//! A host of the lab: a network namespace, and running things in it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::panic;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sched::{CloneFlags, setns};

use super::process::{self, Process};
use crate::wait::wait_for;

/// Where `ip netns` keeps its namespaces, and we ours.
pub(crate) const NETNS_DIR: &str = "/run/netns";

/// A host of the lab. Cheap to clone; the namespace belongs to the [`Lab`](super::Lab).
///
/// Everything runs in the host's *network* namespace only (as with `nsenter --net=…`). `ip netns exec`
/// would also mount another `/sys`, and hide bpffs.
#[derive(Clone, Debug)]
pub struct Host {
    name: String,
    namespace: String,
}

impl Host {
    /// The host `name` of lab `lab`.
    pub(crate) fn new(lab: &str, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            namespace: format!("{lab}-{name}"),
        }
    }

    /// What it is called in the lab: `node1`, `node1-pod1`, `switch`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of its namespace, as `ip netns` shows it.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its namespace as a file, for `nsenter --net=…`.
    pub fn netns_path(&self) -> PathBuf {
        Path::new(NETNS_DIR).join(&self.namespace)
    }

    /// Runs a command in this host to its end and returns its standard output.
    ///
    /// # Errors
    /// When it can't be started or doesn't exit with 0; the message holds what it said.
    pub fn run<S: AsRef<OsStr>>(&self, command: &[S]) -> Result<String> {
        self.run_with_input(command, "")
    }

    /// As [`run`](Self::run), with a text as standard input.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_with_input<S: AsRef<OsStr>>(&self, command: &[S], input: &str) -> Result<String> {
        let output = self.output_with_input(command, input)?;
        let said = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            bail!(
                "{}: {}: {}: {}{}",
                self.name,
                show(command),
                process::describe(output.status),
                String::from_utf8_lossy(&output.stderr).trim(),
                if said.trim().is_empty() {
                    String::new()
                } else {
                    format!("\n{}", said.trim())
                },
            );
        }
        Ok(said.into_owned())
    }

    /// Runs a command in this host to its end, however it ends.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn output<S: AsRef<OsStr>>(&self, command: &[S]) -> Result<Output> {
        self.output_with_input(command, "")
    }

    fn output_with_input<S: AsRef<OsStr>>(&self, command: &[S], input: &str) -> Result<Output> {
        let (program, arguments) = command.split_first().context("no command given")?;
        let mut prepared = Command::new(program);
        prepared.args(arguments);
        self.confine(&mut prepared)?;
        process::run(prepared, input)
            .with_context(|| format!("{}: cannot run {}", self.name, show(command)))
    }

    /// Starts a command in this host. The process is killed and reaped when the guard is dropped, and
    /// also when this process dies, however it dies.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn spawn(&self, mut command: Command) -> Result<Process> {
        let what = format!("{} on {}", command.get_program().display(), self.name);
        self.confine(&mut command)?;
        Process::start(command, what)
    }

    /// Makes `command` run in this host when it is started, by whichever means.
    ///
    /// # Errors
    /// When the namespace is gone.
    pub fn confine(&self, command: &mut Command) -> Result<()> {
        let namespace = self.open_namespace()?;
        // SAFETY: between fork and exec; one system call on an open file, nothing allocated.
        unsafe {
            command.pre_exec(move || Ok(setns(&namespace, CloneFlags::CLONE_NEWNET)?));
        }
        Ok(())
    }

    /// Runs a closure on a thread of its own inside this host and returns what it returns. Sockets
    /// made there stay in this host wherever they are used.
    ///
    /// # Errors
    /// The closure's own, or when the namespace is gone.
    ///
    /// # Panics
    /// When the closure does.
    pub fn enter<T, F>(&self, work: F) -> Result<T>
    where
        F: FnOnce() -> Result<T> + Send,
        T: Send,
    {
        let namespace = self.open_namespace()?;
        let inside = || {
            setns(&namespace, CloneFlags::CLONE_NEWNET)
                .with_context(|| format!("cannot enter {}", self.name))?;
            work()
        };
        thread::scope(|scope| {
            thread::Builder::new()
                .name(self.name.clone())
                .spawn_scoped(scope, inside)
                .with_context(|| format!("no thread for {}", self.name))?
                .join()
                .unwrap_or_else(|cause| panic::resume_unwind(cause))
        })
    }

    /// Sets a sysctl of this host: `net.ipv4.ip_forward`. Where a part of the key holds a dot write
    /// slashes instead: `net/ipv4/conf/eth0.5/forwarding`.
    ///
    /// # Errors
    /// When there is no such sysctl or the kernel refuses the value.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        self.sysctls(&[(key, value)])
    }

    /// Sets several sysctls of this host, in this order.
    ///
    /// # Errors
    /// As [`sysctl`](Self::sysctl).
    pub fn sysctls(&self, settings: &[(&str, &str)]) -> Result<()> {
        // /proc/sys/net shows the namespace of the thread that looks.
        self.enter(|| {
            for (key, value) in settings {
                fs::write(sysctl_path(key), value)
                    .with_context(|| format!("{}: cannot set {key} to {value}", self.name))?;
            }
            Ok(())
        })
    }

    /// The value of a sysctl of this host.
    ///
    /// # Errors
    /// When there is no such sysctl.
    pub fn read_sysctl(&self, key: &str) -> Result<String> {
        let text = self.enter(|| {
            fs::read_to_string(sysctl_path(key))
                .with_context(|| format!("{}: cannot read {key}", self.name))
        })?;
        Ok(text.trim().to_owned())
    }

    /// True where this host has such a sysctl.
    pub(crate) fn has_sysctl(&self, key: &str) -> Result<bool> {
        self.enter(|| Ok(sysctl_path(key).exists()))
    }

    /// Runs lines of `ip` commands (without the word `ip`), all in one process.
    ///
    /// # Errors
    /// At the first line that fails; the message holds it and what `ip` said.
    pub fn ip(&self, lines: &str) -> Result<()> {
        let output = self.output_with_input(&["ip", "-batch", "-"], lines)?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}", self.name, explain_batch(lines, said.trim()));
    }

    /// Waits until these interfaces carry packets. A link that has just been set up drops them until
    /// the kernel's link watch has come by, and a bridge's port forwards nothing before. With `ipv6`
    /// they must have their link-local addresses, too: a router asks for its neighbours from there.
    pub(crate) fn wait_for_links(&self, interfaces: &[&str], ipv6: bool) -> Result<()> {
        let running = || -> Result<bool> {
            let links = getifaddrs().context("cannot list the interfaces")?;
            let (mut running, mut link_local) = (BTreeSet::new(), BTreeSet::new());
            for link in links.filter(|link| link.flags.contains(InterfaceFlags::IFF_RUNNING)) {
                let address = link.address.as_ref().and_then(|one| one.as_sockaddr_in6());
                if address.is_some_and(|address| address.ip().is_unicast_link_local()) {
                    link_local.insert(link.interface_name.clone());
                }
                running.insert(link.interface_name);
            }
            let ready = if ipv6 { &link_local } else { &running };
            Ok(interfaces.iter().all(|&name| ready.contains(name)))
        };
        let what = format!("{} of {} carry packets", interfaces.join(", "), self.name);
        self.enter(|| {
            wait_for(Duration::from_secs(10), &what, || {
                running()?.then_some(()).context("not all of them do")
            })
        })
    }

    fn open_namespace(&self) -> Result<File> {
        let path = self.netns_path();
        File::open(&path).with_context(|| format!("no namespace {}", path.display()))
    }
}

/// `ip -batch` tells the number of the line that failed ("Command failed -:3"): show the line.
pub(crate) fn explain_batch(lines: &str, said: &str) -> String {
    let failed = said
        .rsplit_once("-:")
        .and_then(|(_, number)| number.trim().parse::<usize>().ok())
        .and_then(|number| lines.lines().nth(number.checked_sub(1)?));
    match failed {
        Some(line) => format!("ip {}: {said}", line.trim()),
        None => format!("ip -batch: {said}"),
    }
}

fn sysctl_path(key: &str) -> PathBuf {
    let key = if key.contains('/') {
        key.to_owned()
    } else {
        key.replace('.', "/")
    };
    Path::new("/proc/sys").join(key)
}

fn show<S: AsRef<OsStr>>(command: &[S]) -> String {
    let words: Vec<_> = command
        .iter()
        .map(|word| word.as_ref().to_string_lossy())
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_error_shows_the_line() {
        let lines = "link set lo up\nlink set eth9 up\n";
        let said = "Cannot find device \"eth9\"\nCommand failed -:2";
        assert!(explain_batch(lines, said).starts_with("ip link set eth9 up: Cannot find"));
        assert!(explain_batch(lines, "something else").starts_with("ip -batch: "));
    }

    #[test]
    fn a_sysctl_key_is_a_path() {
        let path = |key| sysctl_path(key).display().to_string();
        assert_eq!(path("net.ipv4.ip_forward"), "/proc/sys/net/ipv4/ip_forward");
        assert_eq!(path("net/ipv4/conf/e.5/x"), "/proc/sys/net/ipv4/conf/e.5/x");
    }
}
