//! Underpass's agent and command line, run on a node.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::http::get;
use super::kubernetes::PodAccess;
use super::process::{self, Process};
use super::{Container, Host, Lab, Node};
use crate::wait::{patient, wait_for};

/// Where an agent serves its health and metrics, in its node's namespace.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9911);

/// How an agent is started. By default: the lab's program and nodes file, and the agent's own
/// defaults.
#[derive(Clone, Debug, Default)]
pub struct AgentOptions {
    binary: Option<PathBuf>,
    nodes_file: Option<PathBuf>,
    pod_access: Option<PodAccess>,
    kubeconfig: Option<PathBuf>,
    iface: Option<String>,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

impl AgentOptions {
    /// Another program than the lab's.
    #[must_use]
    pub fn binary(mut self, path: impl Into<PathBuf>) -> Self {
        self.binary = Some(path.into());
        self
    }

    /// Another nodes file than the lab's.
    #[must_use]
    pub fn nodes_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.nodes_file = Some(path.into());
        self
    }

    /// The Kubernetes API instead of a nodes file, reached as a pod reaches it.
    #[must_use]
    pub fn in_pod(mut self, access: &PodAccess) -> Self {
        self.pod_access = Some(access.clone());
        self
    }

    /// The nodes from the API server that this kubeconfig names, not from a file.
    #[must_use]
    pub fn kubeconfig(mut self, path: impl Into<PathBuf>) -> Self {
        self.kubeconfig = Some(path.into());
        self
    }

    /// Another interface than the node's uplink.
    #[must_use]
    pub fn iface(mut self, name: &str) -> Self {
        self.iface = Some(name.to_owned());
        self
    }

    /// `--offload MODE`.
    #[must_use]
    pub fn offload(self, mode: &str) -> Self {
        self.args(["--offload", mode])
    }

    /// Further arguments.
    #[must_use]
    pub fn args<S: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// An environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }
}

/// An agent on a node. Dropping it kills it, as a crash would: what it pinned stays.
#[derive(Debug)]
pub struct AgentProcess {
    process: Process,
    node: Host,
    log: PathBuf,
}

impl AgentProcess {
    /// Waits until it says it is ready: `GET /readyz` is answered by 200.
    ///
    /// # Errors
    /// When it isn't ready after `deadline`, or has ended; the message holds its log.
    pub fn wait_ready(&mut self, deadline: Duration) -> Result<()> {
        let what = format!("the agent on {} is ready", self.node.name());
        let end = Instant::now() + patient(deadline);
        let node = self.node.clone();
        wait_for(deadline, &what, || {
            if !self.process.is_running() {
                return Ok(Err(self.process.wait(Duration::ZERO)?));
            }
            let left = end.saturating_duration_since(Instant::now());
            let (status, body) = get(&node, LISTEN, "/readyz", left)?;
            if status != 200 {
                bail!("/readyz answers {status}: {}", body.trim());
            }
            Ok(Ok(()))
        })
        .and_then(|ready| {
            ready.map_err(|status| {
                let how = process::describe(status);
                anyhow::anyhow!("the agent on {} has ended: {how}", self.node.name())
            })
        })
        .with_context(|| format!("its log, {}:\n{}", self.log.display(), self.log()))
    }

    /// What it answers to `GET path`: status code and body.
    ///
    /// # Errors
    /// When it doesn't answer within five seconds.
    pub fn get(&self, path: &str) -> Result<(u16, String)> {
        get(&self.node, LISTEN, path, Duration::from_secs(5))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// True while it runs.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// The file that takes its standard output and standard error.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Waits for it to end by itself.
    ///
    /// # Errors
    /// When it still runs after `deadline`.
    pub fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        self.process.wait(deadline)
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        match fs::read(&self.log) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => format!("(no log: {error})"),
        }
    }

    /// Kills it (SIGKILL), as a crash would.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(mut self) -> Result<()> {
        self.process.kill().map(drop)
    }

    /// Asks it to end (SIGTERM) and waits for that.
    ///
    /// # Errors
    /// When it has ended already, or still runs after ten seconds.
    pub fn terminate(mut self) -> Result<ExitStatus> {
        self.process
            .terminate(Duration::from_secs(10))
            .with_context(|| format!("its log:\n{}", self.log()))
    }
}

impl Lab {
    /// Starts an agent on a node.
    ///
    /// # Errors
    /// When the program can't be started. What the agent itself has to say is in its log.
    pub fn start_agent(&self, node: &Node, options: &AgentOptions) -> Result<AgentProcess> {
        let binary = self.binary(options.binary.as_deref())?;
        let mut command = Command::new(binary);
        command
            .arg("agent")
            .args(["--node-name", node.name()])
            .args(["--iface", options.iface.as_deref().unwrap_or(node.uplink())])
            .args(["--listen", &LISTEN.to_string()])
            .arg("--bpffs")
            .arg(self.bpffs(node))
            .args(&options.arguments)
            .envs(
                options
                    .environment
                    .iter()
                    .map(|(name, value)| (name, value)),
            );
        match (&options.pod_access, &options.kubeconfig) {
            (Some(access), _) => access.give_to(&mut command)?,
            (None, Some(kubeconfig)) => {
                command.arg("--kubeconfig").arg(kubeconfig);
            }
            (None, None) => {
                let file = options.nodes_file.clone();
                let file = file.unwrap_or_else(|| self.nodes_file());
                command.arg("--nodes-file").arg(file);
            }
        }
        let (command, log) = self.with_log(node, command)?;
        Ok(AgentProcess {
            process: node.spawn(command)?,
            node: Host::clone(node),
            log,
        })
    }

    /// Starts an agent in a container on a node. All of its arguments are the caller's; it is to listen where agents
    /// of the lab do, on port 9911 of 127.0.0.1.
    ///
    /// # Errors
    /// As [`start_agent`](Self::start_agent).
    pub fn start_agent_in(
        &self,
        node: &Node,
        container: &Container,
        command: &[&str],
    ) -> Result<AgentProcess> {
        let (command, log) = self.with_log(node, container.command(node, command)?)?;
        Ok(AgentProcess {
            process: Process::start(
                command,
                format!("the agent in a container on {}", node.name()),
            )?,
            node: Host::clone(node),
            log,
        })
    }

    /// Has what `command` says go to a log of its own.
    fn with_log(&self, node: &Node, mut command: Command) -> Result<(Command, PathBuf)> {
        let number = self.agents_started.fetch_add(1, Ordering::Relaxed) + 1;
        let log = self.file(&format!("agent-{}-{number}.log", node.name()));
        let output =
            File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("cannot share the agent's log")?)
            .stderr(output)
            // Ctrl-C is for whoever made the lab.
            .process_group(0);
        Ok((command, log))
    }

    /// Starts an agent on every node and waits until all are ready.
    ///
    /// # Errors
    /// When one doesn't become ready within `deadline` after those before it.
    pub fn start_agents(
        &self,
        options: &AgentOptions,
        deadline: Duration,
    ) -> Result<Vec<AgentProcess>> {
        let started: Result<Vec<_>> = self
            .nodes
            .iter()
            .map(|node| self.start_agent(node, options))
            .collect();
        let mut agents = started?;
        for agent in &mut agents {
            agent.wait_ready(deadline)?;
        }
        Ok(agents)
    }

    /// Runs `underpass ARGUMENTS --bpffs DIR` on a node and returns what it prints.
    ///
    /// # Errors
    /// When it doesn't exit with 0; the message holds what it said.
    pub fn underpass(&self, node: &Node, arguments: &[&str]) -> Result<String> {
        let mut command = vec![self.binary(None)?.into_os_string()];
        command.extend(arguments.iter().map(OsString::from));
        command.extend(["--bpffs".into(), self.bpffs(node).into_os_string()]);
        node.run(&command)
    }

    /// As [`underpass`](Self::underpass) with `-o json`, decoded.
    ///
    /// # Errors
    /// As [`underpass`](Self::underpass), and when it prints something else than JSON.
    pub fn underpass_json(&self, node: &Node, arguments: &[&str]) -> Result<serde_json::Value> {
        let text = self.underpass(node, &[arguments, &["-o", "json"]].concat())?;
        serde_json::from_str(&text).with_context(|| {
            format!(
                "underpass {} didn't print JSON:\n{text}",
                arguments.join(" ")
            )
        })
    }

    fn binary(&self, chosen: Option<&Path>) -> Result<PathBuf> {
        chosen
            .or(self.underpass.as_deref())
            .map(Path::to_owned)
            .context("the lab was built without LabBuilder::underpass(PATH)")
    }
}
