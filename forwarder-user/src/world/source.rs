//! Where the agent has the cluster's nodes from. Its loop does not care which.

use std::path::PathBuf;

use anyhow::Result;
use underpass_common::agent::NodesSource;

pub use super::kubernetes::Reading;
use super::kubernetes::{Access, KubernetesNodes, Patience};
use super::nodes_file::{NodesFile, Watch, watch};
use crate::clock::unix_now;

/// Which source.
#[derive(Clone, Debug)]
pub enum Choice {
    /// A file.
    File(PathBuf),
    /// The Kubernetes API.
    Kubernetes(Access),
}

impl Choice {
    /// The source's name in messages.
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => format!("nodes file {}", path.display()),
            Self::Kubernetes(_) => "Kubernetes API".to_owned(),
        }
    }
}

/// A source, watched.
#[derive(Debug)]
pub enum Source {
    /// A file.
    File(NodesFile, Watch),
    /// The Kubernetes API.
    Kubernetes(KubernetesNodes),
}

impl Source {
    /// Begins to watch.
    ///
    /// # Errors
    /// Where the file's directory cannot be watched, or it is not clear which server to ask.
    pub async fn open(choice: Choice) -> Result<Self> {
        Ok(match choice {
            Choice::File(path) => {
                let watch = watch(&path)?;
                Self::File(NodesFile::new(path), watch)
            }
            Choice::Kubernetes(access) => {
                Self::Kubernetes(KubernetesNodes::follow(access, Patience::default()).await?)
            }
        })
    }

    /// Which one it is.
    pub fn kind(&self) -> NodesSource {
        match self {
            Self::File(..) => NodesSource::File,
            Self::Kubernetes(_) => NodesSource::Kubernetes,
        }
    }

    /// Returns once there is something to [read](Self::read). Cancel safe.
    pub async fn changed(&mut self) {
        match self {
            Self::File(_, watch) => watch.changed().await,
            Self::Kubernetes(nodes) => nodes.changed().await,
        }
    }

    /// Reads what there is now.
    pub async fn read(&mut self) -> Reading {
        match self {
            Self::File(file, _) => read_file(file.clone()).await,
            Self::Kubernetes(nodes) => nodes.read(),
        }
    }

    /// When the source was last heard without being read, in seconds since 1970; `None`: a file says
    /// nothing between its changes.
    pub fn heard_unix_s(&self) -> Option<u64> {
        match self {
            Self::File(..) => None,
            Self::Kubernetes(nodes) => Some(nodes.heard_unix_s()),
        }
    }
}

async fn read_file(file: NodesFile) -> Reading {
    let read = tokio::task::spawn_blocking(move || file.read()).await;
    match read {
        Ok(Ok(nodes)) => Reading {
            nodes: Some(nodes.nodes),
            warnings: nodes.warnings,
            error: None,
            heard_unix_s: unix_now(),
        },
        Ok(Err(error)) => Reading {
            error: Some(error.to_string()),
            ..Reading::default()
        },
        Err(error) => Reading {
            error: Some(format!("reading the nodes file ended badly: {error}")),
            ..Reading::default()
        },
    }
}
