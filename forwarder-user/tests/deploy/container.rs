//! The manifests' containers, on nodes of the lab.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use caps::Capability;
use serde_json::Value;
use underpass_bench::Lab;
use underpass_bench::lab::{AgentProcess, Container, Node};

use crate::manifest::{self, PodSpec};

/// The program in the image, which is also its entry point.
pub const PROGRAM: &str = "/underpass";
/// Where the lab's nodes file is to be seen.
const NODES: &str = "/nodes.yaml";

/// A container of a manifest, as a node's container runtime makes it.
pub struct OnNode<'lab> {
    lab: &'lab Lab,
    node: &'lab Node,
    made: Container,
    args: Vec<String>,
}

impl<'lab> OnNode<'lab> {
    /// With the program as cargo built it for the tests, and the libraries that it needs.
    pub fn new(
        lab: &'lab Lab,
        node: &'lab Node,
        pod: &PodSpec,
        container: &manifest::Container,
    ) -> Result<Self> {
        let root = lab.file(&format!("root-{}", node.name()));
        let bare = |root: &Path| -> Result<Container> {
            fs::create_dir_all(root)?;
            Container::new(root)?
                .with_libraries()?
                .mount_read_only(env!("CARGO_BIN_EXE_underpass"), PROGRAM)
        };
        let made = bare(&root).with_context(|| format!("cannot fill {}", root.display()))?;
        Self::with_root(lab, node, pod, container, made)
    }

    /// With a root file system that has the program already.
    pub fn with_root(
        lab: &'lab Lab,
        node: &'lab Node,
        pod: &PodSpec,
        container: &manifest::Container,
        root: Container,
    ) -> Result<Self> {
        let context = &container.security_context;
        for (field, value) in [
            ("runAsUser", Value::from(0)),
            ("privileged", false.into()),
            ("allowPrivilegeEscalation", false.into()),
            ("readOnlyRootFilesystem", true.into()),
        ] {
            ensure!(
                context[field] == value,
                "the lab plays no container with another {field}: {context}"
            );
        }
        let mut made = root
            .capabilities(&container.capabilities()?)
            .mount_read_only(lab.nodes_file(), NODES)?;
        for (source, target) in pod.mounts(container)? {
            made = made.mount(on_lab(lab, source), target)?;
        }
        for variable in &container.env {
            let value = match &variable.value {
                Some(value) => value.replace("/underpass", &format!("/{}", node.name())),
                None => node.name().to_owned(),
            };
            made = made.env(&variable.name, value);
        }
        Ok(Self {
            lab,
            node,
            made,
            args: container.args.clone(),
        })
    }

    /// With these capabilities instead of the manifest's.
    pub fn capabilities(mut self, capabilities: &[Capability]) -> Self {
        self.made = self.made.capabilities(capabilities);
        self
    }

    /// With the node's named network namespaces, as `--pod-gro set` needs them.
    pub fn with_namespaces(mut self) -> Result<Self> {
        self.made = self.made.mount_recursive("/run/netns", "/run/netns")?;
        Ok(self)
    }

    /// With another value of an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.made = self.made.env(name, value);
        self
    }

    /// Starts it as the agent that it is; where its nodes come from is all that is not the manifest's.
    pub fn start_agent(&self) -> Result<AgentProcess> {
        self.start_agent_with(&["--nodes-file", NODES])
    }

    /// Starts it as the agent that it is, with more arguments.
    pub fn start_agent_with(&self, more: &[&str]) -> Result<AgentProcess> {
        let words = [&self.words()[..], more].concat();
        self.lab.start_agent_in(self.node, &self.made, &words)
    }

    /// Runs it to its end and returns what it says on standard output.
    pub fn run(&self) -> Result<String> {
        self.run_words(&self.words())
    }

    /// Runs the program with other arguments beside it, as `kubectl exec` does.
    pub fn exec(&self, arguments: &[&str]) -> Result<String> {
        self.run_words(&[&[PROGRAM], arguments].concat())
    }

    fn run_words(&self, words: &[&str]) -> Result<String> {
        let output = self.made.output(self.node, words)?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let failed = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{words:?}: {failed}\n{said}");
        Ok(said)
    }

    fn words(&self) -> Vec<&str> {
        let args = self.args.iter().map(String::as_str);
        [PROGRAM].into_iter().chain(args).collect()
    }
}

/// The lab's counterpart of a node's folder. All nodes of the lab are one machine: of its BPF file system each has a
/// folder, and the lab has the one above.
fn on_lab(lab: &Lab, source: &str) -> PathBuf {
    match source {
        "/sys/fs/bpf" => lab.bpffs(lab.node(1)).with_file_name(""),
        other => other.into(),
    }
}
