//! The manifests, as far as the tests go by them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use caps::Capability;
use serde::Deserialize;
use serde_json::Value;

/// The agent's manifest.
pub const AGENT: &str = "kubernetes/base/daemonset.yaml";
/// The manifest of what takes everything out.
pub const DETACH: &str = "kubernetes/detach/daemonset.yaml";
/// The manifest of what looks at every node before.
pub const PREFLIGHT: &str = "kubernetes/preflight/daemonset.yaml";

/// A file or folder below `deploy/`.
pub fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(path)
}

/// The objects of a text with several, each decoded whole.
pub fn objects(text: &str) -> Result<Vec<Value>> {
    serde_saphyr::from_multiple(text).context("these are no objects in YAML")
}

/// The pods of a DaemonSet.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSpec {
    #[serde(default)]
    pub init_containers: Vec<Container>,
    pub containers: Vec<Container>,
    volumes: Vec<Volume>,
}

/// A container of a pod.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    pub image: String,
    pub args: Vec<String>,
    pub env: Vec<Variable>,
    pub security_context: Value,
    volume_mounts: Vec<VolumeMount>,
}

#[derive(Debug, Deserialize)]
pub struct Variable {
    pub name: String,
    /// None: the downward API gives it.
    pub value: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct VolumeMount {
    name: String,
    mount_path: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Volume {
    name: String,
    host_path: HostPath,
}

#[derive(Debug, Deserialize)]
struct HostPath {
    path: String,
}

impl PodSpec {
    /// Of a file with one DaemonSet.
    pub fn of_file(path: &str) -> Result<Self> {
        let path = deploy(path);
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let read = || Self::of(objects(&text)?.first().context("there is no object")?);
        read().with_context(|| format!("{}", path.display()))
    }

    /// Of a DaemonSet.
    pub fn of(daemon_set: &Value) -> Result<Self> {
        let spec = &daemon_set["spec"]["template"]["spec"];
        Ok(Self::deserialize(spec)?)
    }

    /// What one of its containers sees of its node: the node's path and the container's.
    pub fn mounts(&self, container: &Container) -> Result<Vec<(&str, String)>> {
        let source = |name: &str| {
            let volume = self.volumes.iter().find(|volume| volume.name == name);
            volume.with_context(|| format!("no volume {name}"))
        };
        let mounts = container.volume_mounts.iter();
        mounts
            .map(|mount| {
                let volume = source(&mount.name)?;
                Ok((volume.host_path.path.as_str(), mount.mount_path.clone()))
            })
            .collect()
    }
}

impl Container {
    /// The capabilities that it adds to none.
    pub fn capabilities(&self) -> Result<Vec<Capability>> {
        let names = &self.security_context["capabilities"];
        anyhow::ensure!(names["drop"] == serde_json::json!(["ALL"]), "{names}");
        let added = names["add"].as_array().context("no capabilities")?;
        let parse = |name: &Value| {
            let name = format!("CAP_{}", name.as_str().unwrap_or_default());
            let parsed: Result<Capability, _> = name.parse();
            parsed.with_context(|| format!("there is no {name}"))
        };
        added.iter().map(parse).collect()
    }
}
