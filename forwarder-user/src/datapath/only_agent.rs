//! One agent for each network namespace, wherever each would pin.
//!
//! Two of them on the same devices would take turns at attaching, and would keep the same routes and neighbours. Their
//! directories need not be the same, so the lock on a directory does not tell. A name of an abstract unix socket does:
//! such names belong to a network namespace (network_namespaces(7); `unix_bind_abstract()` of net/unix/af_unix.c looks
//! in the table of `sock_net(sk)`), can be bound once, and are gone with the process, however it ends (unix(7)).
//!
//! Anybody may bind such a name, as they have no permissions. So a holder counts only where it is root or our own user
//! (`SO_PEERCRED`, taken when it began to listen): nobody else can keep an agent from working.
//!
//! Who connects is told where the agent pins and how it fares, as one line of JSON.

use std::future::pending;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, sleep, timeout};

/// The name, without the NUL that makes it an abstract one.
const NAME: &str = "underpass-agent";
/// How long a holder may take to answer. It is at work, too.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long who only looks waits for it.
const SOON: Duration = Duration::from_millis(300);
/// No answer has more bytes.
const MOST: usize = 16 * 1024;
/// How often a name is tried again that is bound, and not listened at yet.
const AGAIN: Duration = Duration::from_millis(20);

/// Held while an agent runs, or somebody takes out what it left. Dropping it lets go.
#[derive(Debug)]
pub struct OnlyAgent {
    listener: Option<UnixListener>,
    directory: PathBuf,
    doubt: Option<String>,
}

/// Who has the name.
#[derive(Debug)]
struct Holder {
    /// `None`: it cannot be seen from here, as in another container.
    process: Option<i32>,
    user: u32,
    /// What it says. `None`: it did not answer.
    answer: Option<Answer>,
}

/// What an agent tells who asks.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Answer {
    /// Where it pins.
    bpffs: PathBuf,
    #[serde(flatten)]
    told: Told,
}

/// What an agent tells of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Told {
    /// How many reconciliations it goes by: the newest ones.
    pub reconciliations: u64,
    /// So many microseconds 99 of 100 of them took at the most, to plan and to apply.
    pub reconciliation_p99_us: u64,
}

/// Somebody who asks.
#[derive(Debug)]
pub struct Asking<'agent> {
    agent: &'agent OnlyAgent,
    stream: UnixStream,
}

impl Asking<'_> {
    /// Answers. Who has gone again needs no answer.
    pub fn answer(self, told: &Told) {
        let answer = Answer {
            bpffs: self.agent.directory.clone(),
            told: *told,
        };
        // A directory whose name is no text is not told.
        if let Ok(line) = serde_json::to_vec(&answer) {
            // A new connection has room for it.
            drop(self.stream.try_write(&line));
        }
    }
}

/// What the agent of this network namespace tells of itself. `None`: it does not run here, or does not answer soon.
pub async fn ask_agent() -> Option<Told> {
    let holder = ask(&format!("\0{NAME}"), SOON).await.ok()?;
    let answer = holder.may_be_an_agent().then_some(holder.answer)??;
    Some(answer.told)
}

impl OnlyAgent {
    /// Takes the place of the one agent of this network namespace, which pins in `directory`.
    ///
    /// # Errors
    /// Where another agent has it.
    pub async fn take(directory: &Path) -> Result<Self> {
        Self::take_name(NAME, directory).await
    }

    async fn take_name(name: &str, directory: &Path) -> Result<Self> {
        let address = format!("\0{name}");
        let end = Instant::now() + PATIENCE;
        let taken = |listener, doubt| Self {
            listener,
            directory: directory.to_owned(),
            doubt,
        };
        loop {
            match UnixListener::bind(&address) {
                Ok(listener) => return Ok(taken(Some(listener), None)),
                Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                    return Ok(taken(None, Some(doubt(name, &error.to_string()))));
                }
                Err(_) => {}
            }
            match ask(&address, PATIENCE).await {
                Ok(holder) if holder.may_be_an_agent() => bail!("{}", holder.describe()),
                Ok(holder) => {
                    let whose = format!("user {} has it, who is not root", holder.user);
                    return Ok(taken(None, Some(doubt(name, &whose))));
                }
                // It has just ended, or does not listen yet.
                Err(_) if Instant::now() < end => sleep(AGAIN).await,
                Err(error) => return Ok(taken(None, Some(doubt(name, &error.to_string())))),
            }
        }
    }

    /// Why it cannot be told whether another agent is at work, where that is so.
    pub fn doubt(&self) -> Option<&str> {
        self.doubt.as_deref()
    }

    /// The next one who asks.
    pub async fn asked(&self) -> Asking<'_> {
        let Some(listener) = &self.listener else {
            return pending().await;
        };
        match listener.accept().await {
            Ok((stream, _)) => Asking {
                agent: self,
                stream,
            },
            // No descriptor is free, say. The loop comes by again soon.
            Err(_) => pending().await,
        }
    }
}

fn doubt(name: &str, why: &str) -> String {
    format!(
        "whether another agent is at work in this network namespace cannot be told by the abstract socket {name}: {why}"
    )
}

/// # Errors
/// Where nobody listens, or so many ask that there is no room.
async fn ask(address: &str, patience: Duration) -> io::Result<Holder> {
    let stream = timeout(patience, UnixStream::connect(address)).await??;
    let credentials = stream.peer_cred()?;
    Ok(Holder {
        process: credentials.pid().filter(|&pid| pid > 0),
        user: credentials.uid(),
        answer: timeout(patience, read(&stream))
            .await
            .ok()
            .and_then(Result::ok)
            .and_then(|line| serde_json::from_slice(&line).ok()),
    })
}

/// What was written at once.
async fn read(stream: &UnixStream) -> io::Result<Vec<u8>> {
    let mut line = vec![0; MOST];
    loop {
        stream.readable().await?;
        match stream.try_read(&mut line) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => {
                line.truncate(read?);
                return Ok(line);
            }
        }
    }
}

impl Holder {
    fn may_be_an_agent(&self) -> bool {
        self.user == 0 || self.user == geteuid().as_raw()
    }

    fn describe(&self) -> String {
        let place = self.answer.as_ref().map_or_else(
            || "a directory that it does not tell".to_owned(),
            |answer| answer.bpffs.display().to_string(),
        );
        let process = self.process.map_or_else(
            || " (a process that cannot be seen from here, as in another container)".to_owned(),
            |pid| format!(" (process {pid})"),
        );
        format!(
            "another agent is at work on {place}{process}, in this very network namespace: stop it first"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixListener as Blocking};
    use std::process;
    use std::thread;

    use super::*;

    /// A name of this test's own.
    fn name(test: &str) -> String {
        format!("underpass-test-{}-{test}", process::id())
    }

    #[tokio::test]
    async fn the_second_is_told_who_is_there_and_where() {
        let name = name("second");
        let first = OnlyAgent::take_name(&name, Path::new("/one")).await;
        let first = first.unwrap();
        assert_eq!(first.doubt(), None);
        let (second, ()) = tokio::join!(OnlyAgent::take_name(&name, Path::new("/other")), async {
            first.asked().await.answer(&Told::default())
        });
        let expected = format!(
            "another agent is at work on /one (process {}), in this",
            process::id()
        );
        let error = second.unwrap_err().to_string();
        assert!(error.starts_with(&expected), "{error}");

        drop(first);
        let third = OnlyAgent::take_name(&name, Path::new("/other")).await;
        assert_eq!(third.unwrap().doubt(), None);
    }

    /// It may be busy for longer than one likes to wait: taking out something, say.
    #[tokio::test]
    async fn one_that_does_not_answer_is_there_all_the_same() {
        let name = name("silent");
        let _first = OnlyAgent::take_name(&name, Path::new("/one")).await;
        let second = OnlyAgent::take_name(&name, Path::new("/other")).await;
        let error = second.unwrap_err().to_string();
        assert!(
            error.contains("a directory that it does not tell (process"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_user_without_rights_keeps_nobody_out() {
        if !underpass_bench::root_or_skip("a_user_without_rights_keeps_nobody_out") {
            return;
        }
        let name = name("impostor");
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        // The system call alone, unlike setresuid(3), changes the calling thread and no other.
        let impostor = thread::spawn(move || {
            // SAFETY: it takes three numbers, and touches no memory of ours.
            let changed = unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) };
            assert_eq!(changed, 0);
            Blocking::bind_addr(&address).unwrap()
        });
        let _listener = impostor.join().unwrap();
        let agent = OnlyAgent::take_name(&name, Path::new("/one")).await;
        let agent = agent.unwrap();
        let doubt = agent.doubt().unwrap();
        assert!(doubt.contains("user 65534 has it"), "{doubt}");
    }

    #[tokio::test]
    async fn a_name_that_nobody_listens_at_keeps_nobody_out() {
        let name = name("deaf");
        let socket = tokio::net::UnixSocket::new_stream().unwrap();
        socket.bind(format!("\0{name}")).unwrap();
        let agent = OnlyAgent::take_name(&name, Path::new("/one")).await;
        drop(socket);
        assert!(agent.unwrap().doubt().is_some());
    }
}
