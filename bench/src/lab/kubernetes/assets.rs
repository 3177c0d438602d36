//! Where the programs of Kubernetes are.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::skip::{root_or_skip, skip};

/// The folders that hold them, as a list like PATH: `cargo xtask kube-assets` prints it.
const FOLDERS: &str = "UNDERPASS_KUBE_ASSETS";
/// What is missing there and why, in the words of `cargo xtask test`.
const LACKING: &str = "UNDERPASS_KUBE_ASSETS_LACKING";
/// Where people who test controllers have them.
const KUBEBUILDER: &str = "KUBEBUILDER_ASSETS";

/// The folders with the programs of Kubernetes.
#[derive(Clone, Debug)]
pub struct Assets {
    folders: Vec<PathBuf>,
}

impl Assets {
    /// Those that the environment names; `None` where this isn't root, or one of `programs` is missing: the test
    /// is reported as skipped then.
    #[must_use]
    pub fn or_skip(test: &str, programs: &[&str]) -> Option<Self> {
        if !root_or_skip(test) {
            return None;
        }
        let folders = env::var_os(FOLDERS).or_else(|| env::var_os(KUBEBUILDER));
        let folders = folders.unwrap_or_default();
        let assets = Self {
            folders: env::split_paths(&folders).collect(),
        };
        let missing = programs.iter().find(|name| assets.find(name).is_none());
        let Some(missing) = missing else {
            return Some(assets);
        };
        let why = env::var(LACKING).unwrap_or_else(|_| {
            format!("no {missing}: set {FOLDERS} to what `cargo xtask kube-assets` prints")
        });
        skip(test, &why);
        None
    }

    /// The path of a program.
    ///
    /// # Errors
    /// When it isn't there.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        self.find(name)
            .with_context(|| format!("no program {name} in the folders of {FOLDERS}"))
    }

    fn find(&self, name: &str) -> Option<PathBuf> {
        let mut paths = self.folders.iter().map(|folder| folder.join(name));
        paths.find(|path| path.is_file())
    }
}
