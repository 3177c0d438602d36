//! The cluster's nodes from a file, as `kubectl get nodes -o yaml` (or `-o json`) prints them.
//!
//! [`NodesFile::read`] reads all of it at once; [`watch`] tells when it is worth reading again. Whoever
//! reads keeps the nodes of the last good reading: an error says nothing about the cluster.

mod decode;
mod watch;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::cluster::Node;

pub(super) use decode::node_of;
pub use watch::{Watch, watch};

/// The largest file that is read, in bytes: room for 5,000 nodes with everything that kubectl
/// prints of them.
pub const MAX_BYTES: u64 = 128 * 1024 * 1024;

/// A file of nodes.
#[derive(Clone, Debug)]
pub struct NodesFile {
    path: PathBuf,
}

/// What a nodes file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nodes {
    /// In the file's order; nothing in them has been checked.
    pub nodes: Vec<Node>,
    /// Items that could not be read as a Node and are left out: one line each, naming the file, the
    /// item and the field.
    pub warnings: Vec<String>,
}

/// Why a nodes file could not be read. Each is one line and names the file.
#[derive(Debug, thiserror::Error)]
pub enum NodesFileError {
    /// The file is missing, or may not be read.
    #[error("nodes file {}: cannot read it: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A directory, a device, a pipe.
    #[error("nodes file {}: not a regular file", .path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// Larger than [`MAX_BYTES`].
    #[error(
        "nodes file {}: larger than {} MiB, the most that is read; \
         `kubectl get nodes -o yaml` without --show-managed-fields is smaller",
        .path.display(), MAX_BYTES >> 20
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Nothing in it, or nothing but comments.
    #[error(
        "nodes file {}: empty; expected what `kubectl get nodes -o yaml` prints",
        .path.display()
    )]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Neither YAML nor JSON, or not of the right shape.
    #[error("nodes file {}: {detail}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where in the file.
        detail: String,
    },
    /// The file's directory cannot be watched.
    #[error(
        "nodes file {}: cannot watch its directory {}: {detail}",
        .path.display(), .directory.display()
    )]
    Unwatchable {
        /// The file.
        path: PathBuf,
        /// Its directory.
        directory: PathBuf,
        /// What is wrong, and what to do.
        detail: String,
    },
}

impl NodesFile {
    /// Names the file; nothing is read yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The file's path, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file. It blocks: some 10 MB of YAML, or 150 MB of JSON, take a second.
    ///
    /// # Errors
    ///
    /// When the file as a whole is not a list of Nodes. A single item that is not a Node is a
    /// [warning](Nodes::warnings).
    pub fn read(&self) -> Result<Nodes, NodesFileError> {
        self.parse(self.bytes()?)
    }

    /// What the file holds, once it has been read.
    pub(in crate::world) fn parse(&self, bytes: Vec<u8>) -> Result<Nodes, NodesFileError> {
        let text = String::from_utf8(bytes).map_err(|error| NodesFileError::Content {
            path: self.path.clone(),
            detail: format!(
                "not text in UTF-8 (byte {})",
                error.utf8_error().valid_up_to()
            ),
        })?;
        if text.trim().is_empty() {
            return Err(NodesFileError::Empty {
                path: self.path.clone(),
            });
        }
        let decoded = decode::decode(&text).map_err(|detail| NodesFileError::Content {
            path: self.path.clone(),
            detail: fit_for_a_line(&detail),
        })?;
        let decoded = decoded.ok_or_else(|| NodesFileError::Empty {
            path: self.path.clone(),
        })?;
        let file = self.path.display();
        let warnings = decoded.warnings.iter();
        Ok(Nodes {
            nodes: decoded.nodes,
            warnings: warnings
                .map(|line| format!("nodes file {file}: {}", fit_for_a_line(line)))
                .collect(),
        })
    }

    fn bytes(&self) -> Result<Vec<u8>, NodesFileError> {
        let unreadable = |source| NodesFileError::Unreadable {
            path: self.path.clone(),
            source,
        };
        // Asked before it is opened: opening a pipe would wait for its writer.
        let metadata = std::fs::metadata(&self.path).map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(NodesFileError::NotAFile {
                path: self.path.clone(),
            });
        }
        let mut bytes = Vec::new();
        File::open(&self.path)
            .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
            .map_err(unreadable)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(NodesFileError::TooLarge {
                path: self.path.clone(),
            });
        }
        Ok(bytes)
    }
}

/// A message that quotes the file: cut where it is long, and with nothing in it that breaks a line or
/// steers a terminal.
pub(super) fn fit_for_a_line(text: &str) -> String {
    const LONGEST: usize = 400;
    match text.char_indices().nth(LONGEST) {
        None => text.replace(char::is_control, "\u{fffd}"),
        Some((end, _)) => text[..end].replace(char::is_control, "\u{fffd}") + "…",
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;
