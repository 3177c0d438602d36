//! etcd and kube-apiserver, as processes on the switch.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::Assets;
use super::tokens::ISSUER;
use crate::lab::process::Process;
use crate::lab::{Families, Family, Host, http, names};
use crate::wait::wait_for;

/// Where etcd serves, in the switch's namespace alone.
const ETCD: &str = "127.0.0.1:2379";
/// Other members would be found here.
const ETCD_PEERS: &str = "http://127.0.0.1:2380";
/// How long a program may take to answer; two of them may start at once on a slow machine.
const DEADLINE: Duration = Duration::from_secs(60);
/// How much of a log is shown with an error, in lines.
const LOG_LINES: usize = 15;

/// A program, and where it writes its log.
pub(super) struct Server {
    pub process: Process,
    log: PathBuf,
}

impl Server {
    /// Starts it on a host.
    pub fn start(host: &Host, mut command: Command, log: &Path) -> Result<Self> {
        // Of a program that is started again, too, all is kept.
        let output = File::options().create(true).append(true).open(log);
        let output = output.with_context(|| format!("cannot make {}", log.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("cannot share a log")?)
            .stderr(output);
        Ok(Self {
            process: host.spawn(command)?,
            log: log.to_owned(),
        })
    }

    /// Waits until `attempt` succeeds; the end of its log stands in the error.
    pub fn wait_for(&mut self, what: &str, attempt: impl Fn() -> Result<()>) -> Result<()> {
        let waited = wait_for(DEADLINE, what, || match self.process.is_running() {
            true => attempt().map(Ok),
            false => Ok(Err(anyhow::anyhow!("it has ended before {what}"))),
        });
        let with_log = || {
            format!(
                "its log, {}:\n{}",
                self.log.display(),
                last_lines(&self.log)
            )
        };
        waited.and_then(|outcome| outcome).with_context(with_log)
    }
}

fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_else(|error| format!("(no log: {error})"));
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

/// Starts etcd, which keeps what it holds in `dir` and never waits for a disk.
pub(super) fn start_etcd(host: &Host, assets: &Assets, dir: &Path) -> Result<Server> {
    let mut command = Command::new(assets.program("etcd")?);
    let data = dir.join("etcd");
    let url = format!("http://{ETCD}");
    command
        .arg("--data-dir")
        .arg(&data)
        .args([
            "--listen-client-urls",
            &url,
            "--advertise-client-urls",
            &url,
        ])
        .args(["--listen-peer-urls", ETCD_PEERS])
        .args(["--unsafe-no-fsync", "--log-level", "warn"]);
    let mut etcd = Server::start(host, command, &dir.join("etcd.log"))?;
    etcd.wait_for("etcd is healthy", || {
        let (status, body) = http::get(host, ETCD.parse()?, "/health", DEADLINE)?;
        ensure!(status == 200, "it answers {status}: {body}");
        Ok(())
    })?;
    Ok(etcd)
}

/// Has etcd forget all but the present state: a watch from any earlier revision ends in 410.
pub(super) fn compact(host: &Host) -> Result<()> {
    let ask = |path: &str, body: &str| -> Result<serde_json::Value> {
        let (status, answer) = http::post(host, ETCD.parse()?, path, body, DEADLINE)?;
        ensure!(status == 200, "etcd answers {status} to {path}: {answer}");
        serde_json::from_str(&answer).with_context(|| format!("etcd answers {answer}"))
    };
    let status = ask("/v3/maintenance/status", "{}")?;
    let Some(revision) = status["header"]["revision"].as_str() else {
        bail!("etcd tells no revision: {status}");
    };
    let body = format!(r#"{{"revision": "{revision}", "physical": true}}"#);
    ask("/v3/kv/compaction", &body).map(drop)
}

/// How kube-apiserver is started.
pub(super) struct ApiServer<'a> {
    pub assets: &'a Assets,
    /// Where its certificates and keys are, and its log is to be.
    pub dir: &'a Path,
    pub at: SocketAddr,
    /// The families of Services.
    pub families: Families,
    pub has_watch_cache: bool,
}

impl ApiServer<'_> {
    /// Starts it. It is ready a while later.
    pub fn start(&self, host: &Host) -> Result<Server> {
        let mut command = Command::new(self.assets.program("kube-apiserver")?);
        let file = |name: &str| self.dir.join(name).display().to_string();
        let services: Vec<_> = self.families.each().map(service_range).collect();
        let options = [
            ("etcd-servers", format!("http://{ETCD}")),
            ("watch-cache", self.has_watch_cache.to_string()),
            ("bind-address", self.at.ip().to_string()),
            ("advertise-address", self.at.ip().to_string()),
            ("secure-port", self.at.port().to_string()),
            ("tls-cert-file", file("server.crt")),
            ("tls-private-key-file", file("server.key")),
            ("cert-dir", file("")),
            ("client-ca-file", file("ca.crt")),
            ("service-account-issuer", ISSUER.to_owned()),
            ("service-account-key-file", file("tokens.pub")),
            ("service-account-signing-key-file", file("tokens.key")),
            ("service-cluster-ip-range", services.join(",")),
            ("authorization-mode", "Node,RBAC".to_owned()),
            ("enable-admission-plugins", "NodeRestriction".to_owned()),
        ];
        command.args(options.map(|(name, value)| format!("--{name}={value}")));
        Server::start(host, command, &self.dir.join("kube-apiserver.log"))
    }
}

/// Where the ClusterIPs of a family come from.
fn service_range(family: Family) -> String {
    let prefix = match family {
        Family::V4 => 16,
        Family::V6 => 112,
    };
    format!("{}/{prefix}", names::service_address(family, 0))
}
