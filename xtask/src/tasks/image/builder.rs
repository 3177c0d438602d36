//! What builds images: buildah, which needs no daemon, else docker.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Arch;
use crate::process::{self, find_program};
use crate::setup::docker_refusal;

/// What there is.
#[derive(Debug)]
pub enum Builder {
    Buildah(PathBuf),
    Docker(PathBuf),
}

/// An image to be built.
pub struct Order<'a> {
    pub arch: Arch,
    pub tag: &'a str,
    pub containerfile: &'a Path,
    /// The folder that holds the binary.
    pub context: &'a Path,
    pub revision: &'a str,
    /// A folder for what the builder keeps on the way.
    pub scratch: &'a Path,
    /// The archive.
    pub output: &'a Path,
}

impl Builder {
    /// One that works.
    ///
    /// # Errors
    /// There is none.
    pub fn find() -> Result<Self> {
        if let Some(buildah) = find_program("buildah") {
            return Ok(Self::Buildah(buildah));
        }
        let Some(docker) = find_program("docker") else {
            bail!("neither buildah nor docker is here to build an image");
        };
        if let Some(refusal) = docker_refusal(&docker)? {
            bail!("no buildah, and docker has no daemon to work with: {refusal}");
        }
        Ok(Self::Docker(docker))
    }

    /// Builds an image and writes its archive.
    ///
    /// # Errors
    /// The builder failed; its own words are shown.
    pub fn build(&self, order: &Order<'_>) -> Result<()> {
        // buildah adds to an archive that is there.
        remove(fs::remove_file(order.output), order.output)?;
        match self {
            Self::Buildah(buildah) => by_buildah(buildah, order),
            Self::Docker(docker) => by_docker(docker, order),
        }
    }
}

/// In a store of its own, which goes afterwards: the user's may be of a kind that does not work everywhere.
fn by_buildah(buildah: &Path, order: &Order<'_>) -> Result<()> {
    let command = || {
        let mut command = Command::new(buildah);
        let store = ["--storage-driver", "vfs"];
        command.args(store).arg("--root").arg(order.scratch);
        command.arg("--runroot").arg(order.scratch.join("run"));
        command
    };
    let mut build = command();
    build.args(["build", "--quiet", "--isolation", "chroot"]);
    process::run(with_order(&mut build, order))?;
    let archive = format!("docker-archive:{}:{}", order.output.display(), order.tag);
    process::run(command().args(["push", "--quiet", order.tag, &archive]))?;
    remove(fs::remove_dir_all(order.scratch), order.scratch)
}

fn by_docker(docker: &Path, order: &Order<'_>) -> Result<()> {
    let mut build = Command::new(docker);
    build.args(["build", "--quiet"]);
    process::run(with_order(&mut build, order))?;
    let mut save = Command::new(docker);
    save.args(["save", "--output"]).arg(order.output);
    process::run(save.arg(order.tag))
}

/// What both understand.
fn with_order<'a>(build: &'a mut Command, order: &Order<'_>) -> &'a mut Command {
    let version = concat!("VERSION=", env!("CARGO_PKG_VERSION"));
    build
        .arg("--platform")
        .arg(format!("linux/{}", order.arch.name()))
        .args(["--tag", order.tag, "--build-arg", version])
        .arg("--build-arg")
        .arg(format!("REVISION={}", order.revision))
        .arg("--file")
        .arg(order.containerfile)
        .arg(order.context)
}

/// That nothing was there is as good.
fn remove(result: std::io::Result<()>, path: &Path) -> Result<()> {
    match result {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}
