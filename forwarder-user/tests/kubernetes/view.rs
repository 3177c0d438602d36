//! What the agent's loop sees of the nodes.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, timeout};
use underpass::world::Node;
use underpass::world::kubernetes::{Access, KubernetesNodes, Patience};
use underpass_bench::api_server::ApiServer;

/// Nothing here takes long; this machine may be busy.
const DEADLINE: Duration = Duration::from_secs(30);

/// A view of a server's nodes, kept as the agent's loop keeps it.
pub struct View {
    source: KubernetesNodes,
    /// The nodes, once there are any.
    pub nodes: Option<Vec<Node>>,
    pub warnings: Vec<String>,
    pub error: Option<String>,
    /// How often other nodes came.
    pub changes: usize,
    directory: TempDir,
}

/// Quick to repeat, and slow to give up.
pub fn patience() -> Patience {
    Patience {
        answer: Duration::from_secs(20),
        stream: Duration::from_secs(20),
        quiet: Duration::from_secs(20),
        first_pause: Duration::from_millis(20),
        longest_pause: Duration::from_millis(200),
    }
}

impl View {
    /// Of a server, with the token `first`.
    pub async fn of(server: &ApiServer, patience: Patience) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let kubeconfig = directory.path().join("kubeconfig");
        let token = directory.path().join("token");
        fs::write(&token, "first").unwrap();
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "agent"}}],
            "clusters": [{"name": "here", "cluster": {"server": server.url()}}],
            "users": [{"name": "agent", "user": {"tokenFile": token}}],
        });
        fs::write(&kubeconfig, text.to_string()).unwrap();
        let access = Access::Kubeconfig(Some(kubeconfig));
        Self {
            source: KubernetesNodes::follow(access, patience).await.unwrap(),
            nodes: None,
            warnings: Vec::new(),
            error: None,
            changes: 0,
            directory,
        }
    }

    /// As [`of`](Self::of), and waits for the nodes.
    pub async fn ready(server: &ApiServer, patience: Patience) -> Self {
        let mut view = Self::of(server, patience).await;
        view.until("there are nodes", |view| view.nodes.is_some())
            .await;
        view
    }

    /// Puts another token in the place of the first.
    pub fn renew_token(&self, token: &str) {
        fs::write(self.directory.path().join("token"), token).unwrap();
    }

    /// Follows the changes until something is so.
    pub async fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let end = Instant::now() + DEADLINE;
        loop {
            self.read();
            if is_so(self) {
                return;
            }
            let left = end.saturating_duration_since(Instant::now());
            if timeout(left, self.source.changed()).await.is_err() {
                panic!(
                    "never was: {what}\nnodes: {:?}\nerror: {:?}",
                    self.nodes, self.error
                );
            }
        }
    }

    /// Waits until these are the nodes, and nothing is wrong.
    pub async fn until_nodes(&mut self, names: &[&str]) {
        let what = format!("the nodes are {names:?}");
        self.until(&what, |view| view.error.is_none() && view.names() == names)
            .await;
    }

    /// Waits until a node has this podCIDR, and nothing is wrong.
    pub async fn until_pod_cidr(&mut self, name: &str, cidr: &str) {
        let what = format!("the podCIDR of {name} is {cidr}");
        self.until(&what, |view| {
            view.error.is_none() && view.node(name).is_some_and(|node| node.pod_cidrs == [cidr])
        })
        .await;
    }

    fn read(&mut self) {
        let reading = self.source.read();
        if reading.nodes.is_some() {
            self.nodes = reading.nodes;
            self.changes += 1;
        }
        self.warnings = reading.warnings;
        self.error = reading.error;
    }

    pub fn names(&self) -> Vec<&str> {
        let nodes = self.nodes.iter().flatten();
        nodes.map(|node| node.name.as_str()).collect()
    }

    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().flatten().find(|node| node.name == name)
    }

    pub fn heard_unix_s(&self) -> u64 {
        self.source.heard_unix_s()
    }
}

/// Waits until something is so that nobody tells of.
pub async fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < end, "never was: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A Node with much in it that nobody here uses.
pub fn node(name: &str, pod_cidr: &str, address: &str) -> Value {
    json!({
        "kind": "Node", "apiVersion": "v1",
        "metadata": {
            "name": name, "uid": "6e3c0f6e", "labels": {"kubernetes.io/hostname": name},
            "annotations": {"node.alpha.kubernetes.io/ttl": "0"},
            "managedFields": [{"manager": "kubelet", "operation": "Update", "fieldsV1": {"f:status": {}}}],
        },
        "spec": {"podCIDR": pod_cidr, "podCIDRs": [pod_cidr]},
        "status": {
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
            "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}],
        },
    })
}

/// `a`, `b` and so on.
pub fn nodes(count: u8) -> Vec<Value> {
    (0..count)
        .map(|n| {
            let name = char::from(b'a' + n).to_string();
            node(&name, &format!("10.244.{n}.0/24"), &format!("192.0.2.{n}"))
        })
        .collect()
}
