//! Network namespaces for one test each, gone with the thread that holds them.

use std::future::Future;
use std::process::Command;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;
use tokio::time::{Instant, timeout_at};
use underpass::world::kernel::Kernel;
use underpass::world::netlink::{Absorbed, Event, Events, Netlink};
use underpass_bench::root_or_skip;

/// What the kernel needs to tell of a change, at the very most.
const DEADLINE: Duration = Duration::from_secs(10);

/// Runs a test in a network namespace of its own, or says that it was skipped.
pub fn in_a_namespace<T, F>(name: &str, test: T)
where
    T: FnOnce() -> F + Send + 'static,
    F: Future<Output = Result<()>>,
{
    if !root_or_skip(name) {
        return;
    }
    let run = move || {
        enter_a_new_namespace()?;
        ip("link set lo up")?;
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(test())
    };
    match thread::spawn(run).join() {
        Ok(result) => result.unwrap(),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn enter_a_new_namespace() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")
}

/// `ip ARGUMENTS` in the namespace of the calling thread.
pub fn ip(arguments: &str) -> Result<()> {
    run("ip", arguments)
}

/// A command in the namespace of the calling thread; its arguments hold no spaces.
pub fn run(program: &str, arguments: &str) -> Result<()> {
    let output = Command::new(program)
        .args(arguments.split_whitespace())
        .output()
        .with_context(|| format!("run {program}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {arguments}: {}", stderr.trim());
    }
    Ok(())
}

/// Another network namespace: a pod, another node.
pub struct Elsewhere {
    tid: i32,
    stay: Option<mpsc::Sender<()>>,
    holder: Option<JoinHandle<()>>,
}

impl Elsewhere {
    /// Makes one, with its loopback up.
    pub fn new() -> Result<Self> {
        let (ready, tid) = mpsc::channel();
        let (stay, leave) = mpsc::channel::<()>();
        let holder = thread::spawn(move || {
            let up = enter_a_new_namespace().and_then(|()| ip("link set lo up"));
            ready.send(up.map(|()| gettid().as_raw())).unwrap();
            // Ends when the sender is dropped.
            let _ = leave.recv();
        });
        Ok(Self {
            tid: tid.recv()??,
            stay: Some(stay),
            holder: Some(holder),
        })
    }

    /// What `ip link … netns` takes.
    pub fn id(&self) -> i32 {
        self.tid
    }

    /// `ip ARGUMENTS` in there.
    pub fn ip(&self, arguments: &str) -> Result<()> {
        let path = format!("/proc/{}/task/{}/ns/net", std::process::id(), self.tid);
        run("nsenter", &format!("--net={path} ip {arguments}"))
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.stay.take();
        if let Some(holder) = self.holder.take() {
            let _ = holder.join();
        }
    }
}

/// A mirror of this namespace, and what keeps it true.
pub struct Mirror {
    pub netlink: Netlink,
    pub events: Events,
    pub kernel: Kernel,
}

impl Mirror {
    pub async fn new() -> Result<Self> {
        let (netlink, events) = Netlink::connect()?;
        let kernel = netlink.read_all().await?;
        Ok(Self {
            netlink,
            events,
            kernel,
        })
    }

    /// Absorbs events until the mirror shows what it should.
    pub async fn until(&mut self, shown: impl Fn(&Kernel) -> bool) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        while !shown(&self.kernel) {
            if self.absorb(deadline).await?.is_none() {
                bail!("the mirror does not show it: {:#?}", self.kernel);
            }
        }
        Ok(())
    }

    /// Absorbs events until the mirror is what a full read finds.
    pub async fn until_true(&mut self) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let kernel = self.netlink.read_all().await?;
            if self.kernel == kernel {
                return Ok(());
            }
            if self.absorb(deadline).await?.is_none() {
                assert_eq!(self.kernel, kernel, "the mirror stays wrong");
            }
        }
    }

    /// Waits for events and absorbs them; `None`: nothing came.
    pub async fn absorb(&mut self, deadline: Instant) -> Result<Option<(Vec<Event>, Absorbed)>> {
        let Ok(events) = timeout_at(deadline, self.events.next()).await else {
            return Ok(None);
        };
        let events = events?;
        let absorbed = self
            .netlink
            .absorb_batch(&mut self.kernel, events.clone())
            .await?;
        Ok(Some((events, absorbed)))
    }
}

/// The index of the link with this name, in the namespace of the calling thread.
pub fn ifindex(name: &str) -> Result<u32> {
    if_nametoindex(name).with_context(|| format!("no link {name}"))
}
