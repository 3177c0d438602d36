//! A shell on a node of the lab, as the reader of a document has one.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use underpass_bench::Lab;
use underpass_bench::lab::Node;

/// Where documents say that everything is pinned.
const PINS: &str = "/sys/fs/bpf/underpass";

/// A shell on node 1.
pub struct Shell<'lab> {
    lab: &'lab Lab,
    path: String,
}

impl<'lab> Shell<'lab> {
    /// With `underpass` on the PATH, and a `kubectl` that knows the lab's nodes.
    pub fn new(lab: &'lab Lab) -> Self {
        let dir = lab.file("bin");
        fs::create_dir_all(&dir).unwrap();
        symlink(env!("CARGO_BIN_EXE_underpass"), dir.join("underpass")).unwrap();
        let kubectl = dir.join("kubectl");
        let nodes = lab.nodes_file();
        let script = format!(
            "#!/bin/sh\n[ \"$*\" = 'get nodes -o yaml' ] && exec cat {}\n",
            nodes.display()
        );
        fs::write(&kubectl, script).unwrap();
        fs::set_permissions(&kubectl, fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", dir.display(), std::env::var("PATH").unwrap());
        fs::create_dir_all(lab.file("home")).unwrap();
        Self { lab, path }
    }

    /// Where it is.
    pub fn node(&self) -> &'lab Node {
        self.lab.node(1)
    }

    /// Where everything is pinned here.
    pub fn pins(&self) -> PathBuf {
        self.lab.bpffs(self.node())
    }

    /// `commands` as a document has them, but for the place of the pins, which this lab has to itself.
    pub fn line(&self, commands: &str) -> [String; 3] {
        let pins = self.pins().display().to_string();
        let commands = commands.replace(PINS, &pins);
        let (home, path) = (self.lab.file("home"), &self.path);
        let line = format!(
            "set -e\ncd {}\nexport PATH={path} UNDERPASS_BPFFS={pins}\n{commands}",
            home.display()
        );
        ["sh".into(), "-c".into(), line]
    }

    /// Runs them, and tells what they print as it would stand in the document.
    ///
    /// # Errors
    /// Where one of them ends with anything else than 0.
    pub fn run(&self, commands: &str) -> Result<String> {
        let printed = self.node().run(&self.line(commands));
        let printed = printed.with_context(|| format!("the document says `{commands}`"))?;
        Ok(printed.replace(&self.pins().display().to_string(), PINS))
    }
}
