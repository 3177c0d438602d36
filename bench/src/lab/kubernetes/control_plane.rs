//! The control plane: started, stopped, slowed down.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::json;

use super::Assets;
use super::certificates::{Authority, Pair};
use super::places::Place;
use super::pod_access::api_service;
use super::server::{self, Server};
use super::tokens::TokenKey;
use crate::lab::{Families, Host, Lab, names, registry};
use crate::wait::wait_for;

/// Where the API server serves, at the switch's address.
pub(super) const PORT: u16 = 6443;
/// Where it serves those that know of it, while it is away for everybody else.
const OTHER_PORT: u16 = 6444;
/// How long anything of the API may take to come about.
const DEADLINE: Duration = Duration::from_secs(30);

/// etcd and kube-apiserver, on the switch. Dropping it kills them.
pub struct ControlPlane {
    pub(super) host: Host,
    pub(super) dir: PathBuf,
    address: IpAddr,
    families: Families,
    has_watch_cache: bool,
    pub(super) assets: Assets,
    pub(super) authority: Authority,
    pub(super) token_key: TokenKey,
    // In this order: who asks goes before who is asked.
    api_server: Option<Server>,
    _etcd: Server,
    _place: Place,
}

impl ControlPlane {
    /// The programs that it consists of, and that it is asked with.
    pub const PROGRAMS: [&str; 3] = ["etcd", "kube-apiserver", "kubectl"];

    /// Starts it, with an empty cluster, and waits until it is ready. Waits first while this process has as many
    /// others as a machine should have to bear.
    ///
    /// # Errors
    /// When a program doesn't get ready; the message holds the end of its log.
    pub fn start(lab: &Lab, assets: &Assets) -> Result<Self> {
        let place = Place::take();
        let host = lab.switch().clone();
        let dir = lab.file("kubernetes");
        fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let address = names::api_server_address();
        let (bridge, prefix) = (names::SWITCH_BRIDGE, names::wire_prefix(names::API_FAMILY));
        host.ip(&format!("addr add {address}/{prefix} dev {bridge}\n"))?;
        let mut cluster = Self {
            _place: place,
            _etcd: server::start_etcd(&host, assets, &dir)?,
            api_server: None,
            authority: Authority::new()?,
            token_key: TokenKey::new()?,
            assets: assets.clone(),
            families: lab.families(),
            has_watch_cache: true,
            host,
            dir,
            address,
        };
        cluster.write_certificates()?;
        cluster.start_api_server()?;
        wait_for(DEADLINE, "there is a namespace kube-system", || {
            cluster.kubectl(&["get", "namespace", "kube-system"])
        })?;
        Ok(cluster)
    }

    fn write_certificates(&self) -> Result<()> {
        let names = ["kubernetes", "kubernetes.default.svc", "127.0.0.1"].map(str::to_owned);
        let names = names
            .into_iter()
            .chain([self.address, api_service().ip()].map(|it| it.to_string()));
        let Pair { certificate, key } = self.authority.server(names.collect())?;
        for (name, text) in [
            ("ca.crt", &self.authority.pem),
            ("server.crt", &certificate),
            ("server.key", &key),
            ("tokens.key", &self.token_key.private_pem),
            ("tokens.pub", &self.token_key.public_pem),
        ] {
            registry::write_whole(&self.dir.join(name), text)?;
        }
        self.kubeconfig("admin", &["system:masters"]).map(drop)
    }

    /// Writes a kubeconfig for a user of these groups, known by a certificate; its path.
    pub(super) fn kubeconfig(&self, user: &str, groups: &[&str]) -> Result<PathBuf> {
        let Pair { certificate, key } = self.authority.client(user, groups)?;
        let data = |name: &str, text: &str| -> Result<PathBuf> {
            let path = self.dir.join(format!("{user}.{name}"));
            registry::write_whole(&path, text)?;
            Ok(path)
        };
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "lab",
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": user}}],
            "clusters": [{"name": "lab", "cluster": {
                "server": format!("https://{}", self.at(PORT)),
                "certificate-authority": self.dir.join("ca.crt"),
            }}],
            "users": [{"name": user, "user": {
                "client-certificate": data("crt", &certificate)?,
                "client-key": data("key", &key)?,
            }}],
        });
        data("kubeconfig", &text.to_string())
    }

    pub(super) fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address, port)
    }

    /// Starts the API server, after a [stop](Self::stop_api_server) again, and waits until it is ready.
    ///
    /// # Errors
    /// When it doesn't get ready; the message holds the end of its log.
    pub fn start_api_server(&mut self) -> Result<()> {
        self.start_api_server_at(PORT)
    }

    fn start_api_server_at(&mut self, port: u16) -> Result<()> {
        ensure!(self.api_server.is_none(), "the API server runs already");
        let order = server::ApiServer {
            assets: &self.assets,
            dir: &self.dir,
            at: self.at(port),
            families: self.families,
            has_watch_cache: self.has_watch_cache,
        };
        let mut server = order.start(&self.host)?;
        server.wait_for("the API server is ready", || {
            // kubectl is a heavy thing to start in vain.
            self.host.enter(|| Ok(TcpStream::connect(self.at(port))?))?;
            let ready = self.kubectl_at(port, &["get", "--raw", "/readyz"], "")?;
            ensure!(ready == "ok", "it says {ready:?}");
            Ok(())
        })?;
        self.api_server = Some(server);
        Ok(())
    }

    /// Has an API server that is started from now on ask etcd each time, and remember nothing itself.
    pub fn forgo_watch_cache(&mut self) {
        self.has_watch_cache = false;
    }

    /// Kills the API server; what etcd holds stays.
    ///
    /// # Errors
    /// When it doesn't run, or the kernel refuses.
    pub fn stop_api_server(&mut self) -> Result<()> {
        let server = self.api_server.take();
        let mut server = server.context("the API server doesn't run")?;
        server.process.kill().map(drop)
    }

    /// While the API server is stopped: has one serve at another port, so that nobody but `work` finds it, and
    /// stops it again. `work` is given what stands for [`kubectl`](Self::kubectl).
    ///
    /// # Errors
    /// When it doesn't get ready, and those of `work`.
    pub fn behind_the_back(
        &mut self,
        work: impl FnOnce(&dyn Fn(&[&str], &str) -> Result<String>) -> Result<()>,
    ) -> Result<()> {
        self.start_api_server_at(OTHER_PORT)?;
        work(&|arguments, input| self.kubectl_at(OTHER_PORT, arguments, input))?;
        self.stop_api_server()
    }

    /// Has the API server stand still: connections stay, and nobody gets an answer.
    ///
    /// # Errors
    /// When it doesn't run.
    pub fn pause_api_server(&mut self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Has it go on after a [pause](Self::pause_api_server).
    ///
    /// # Errors
    /// When it doesn't run.
    pub fn resume_api_server(&mut self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&mut self, signal: Signal) -> Result<()> {
        let server = self.api_server.as_mut();
        let server = server.context("the API server doesn't run")?;
        server.process.signal(signal)
    }

    /// Has what the API server sends to the nodes pass a line as thin as this, in kilobits a second.
    ///
    /// # Errors
    /// When `tc` refuses.
    pub fn throttle_answers(&self, kilobits: u32) -> Result<()> {
        let (bridge, rate) = (names::SWITCH_BRIDGE, format!("{kilobits}kbit"));
        let line = ["tbf", "rate", &rate, "burst", "4kb", "latency", "60s"];
        let command = ["tc", "qdisc", "replace", "dev", bridge, "root"];
        self.host.run(&[&command[..], &line].concat()).map(drop)
    }

    /// True where that line has held something back.
    ///
    /// # Errors
    /// When `tc` refuses.
    pub fn has_throttled(&self) -> Result<bool> {
        let show = [
            "tc",
            "-statistics",
            "-json",
            "qdisc",
            "show",
            "dev",
            names::SWITCH_BRIDGE,
        ];
        let lines: serde_json::Value = serde_json::from_str(&self.host.run(&show)?)?;
        Ok(lines[0]["kind"] == "tbf" && lines[0]["overlimits"].as_u64() > Some(0))
    }

    /// Has etcd forget all but the present state: a watch from any earlier version cannot go on.
    ///
    /// # Errors
    /// When etcd refuses.
    pub fn compact(&self) -> Result<()> {
        server::compact(&self.host)
    }

    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.log"))
    }
}
