//! `cargo xtask image`: the container image, with the static binary and nothing else.

mod binary;
mod builder;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::ValueEnum;

use self::builder::{Builder, Order};
use crate::{process, setup, workspace};

/// What `--help` says besides the arguments.
pub const HELP: &str = "\
The archive is of the kind that `docker save` writes, which takes the image's name along: `docker load -i FILE`,
`podman load -i FILE`, `kind load image-archive FILE`, and `ctr -n k8s.io images import FILE` on a node (k3s has its
own: `k3s ctr images import FILE`). It is built by buildah, else by docker.";

#[derive(clap::Args)]
pub struct Args {
    /// For nodes of this kind; this machine's, unless another is named
    #[arg(long)]
    arch: Option<Arch>,
    /// What the image is called
    #[arg(long, default_value = DEFAULT_TAG)]
    tag: String,
    /// The archive to write; in the target folder, unless another is named
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Build it quickly, without optimisations: for tests
    #[arg(long)]
    quick: bool,
}

/// What the manifests call the image.
const DEFAULT_TAG: &str = concat!("underpass:", env!("CARGO_PKG_VERSION"));

/// What the image's file, and its layer, should not exceed.
const SIZE_AIM: u64 = 20 << 20;

/// A kind of machine, as images call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Arch {
    Amd64,
    Arm64,
}

impl Arch {
    /// That of this machine.
    ///
    /// # Errors
    /// It is none of them.
    pub fn of_machine() -> Result<Self> {
        let all = Self::value_variants().iter();
        let mut fitting = all.filter(|arch| arch.of_rust() == std::env::consts::ARCH);
        let found = fitting.next().copied();
        found.with_context(|| {
            let machine = std::env::consts::ARCH;
            format!("images are for amd64 and arm64, and this is {machine}: name one with --arch")
        })
    }

    /// Its name in images.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Its name in the compiler's targets.
    pub fn of_rust(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }
}

/// # Errors
/// The binary cannot be built, or nothing that builds images works here.
pub fn run(args: &Args) -> Result<ExitCode> {
    let arch = args.arch.map_or_else(Arch::of_machine, Ok)?;
    setup::for_image(arch)?;
    let builder = Builder::find()?;
    let output = args.output.clone().unwrap_or_else(|| {
        let name = args.tag.replace(['/', ':'], "-");
        dir().join(format!("{name}-{}.tar", arch.name()))
    });
    build(&builder, arch, &args.tag, args.quick, &output)?;
    println!("{}", output.display());
    Ok(ExitCode::SUCCESS)
}

/// An image for tests on this machine.
pub enum ForTests {
    /// The archive.
    Built(PathBuf),
    /// None can be built here, and why.
    Lacking(String),
}

/// Builds an image quickly, for tests on this machine.
///
/// # Errors
/// There is all that it needs, and it cannot be built.
pub fn for_tests() -> Result<ForTests> {
    let ready = Arch::of_machine().and_then(|arch| {
        setup::for_image(arch)?;
        Ok((arch, Builder::find()?))
    });
    let (arch, builder) = match ready {
        Ok(ready) => ready,
        Err(error) => return Ok(ForTests::Lacking(format!("{error:#}"))),
    };
    let output = dir().join("for-tests.tar");
    build(&builder, arch, DEFAULT_TAG, true, &output)?;
    Ok(ForTests::Built(output))
}

/// Where images are built, and put where no other place is named.
fn dir() -> PathBuf {
    workspace::target_dir().join("container-image")
}

fn build(builder: &Builder, arch: Arch, tag: &str, quick: bool, output: &Path) -> Result<()> {
    let binary = binary::build(arch, quick)?;
    // The builder gets this folder, and nothing else of the workspace.
    let context = dir().join(arch.name());
    fs::create_dir_all(&context).with_context(|| format!("making {}", context.display()))?;
    fs::copy(&binary, context.join("underpass"))
        .with_context(|| format!("copying {}", binary.display()))?;
    builder.build(&Order {
        arch,
        tag,
        containerfile: &workspace::root().join("deploy/image/Containerfile"),
        context: &context,
        revision: &revision(),
        scratch: &dir().join("storage"),
        output,
    })?;
    tell_size(&binary, output, quick)
}

fn tell_size(binary: &Path, output: &Path, quick: bool) -> Result<()> {
    let [binary, image] = [binary, output].map(|path| {
        let meta = fs::metadata(path).with_context(|| format!("looking at {}", path.display()));
        Ok::<_, anyhow::Error>(meta?.len())
    });
    let (binary, image) = (binary?, image?);
    eprintln!("binary {}, image {}", mebibytes(binary), mebibytes(image));
    if image > SIZE_AIM && !quick {
        eprintln!("that is more than the {} aimed at", mebibytes(SIZE_AIM));
    }
    Ok(())
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// The commit that is built; unknown where this is no git checkout.
fn revision() -> String {
    let mut git = Command::new("git");
    git.args(["rev-parse", "HEAD"])
        .current_dir(workspace::root());
    match process::capture(&mut git) {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifests_name_the_default_tag() {
        let path = workspace::root().join("deploy/kubernetes/base/daemonset.yaml");
        let manifest = fs::read_to_string(path).unwrap();
        let image = format!("image: {DEFAULT_TAG}\n");
        assert!(manifest.contains(&image), "no `{image}`");
    }

    #[test]
    fn sizes_are_told_in_mebibytes() {
        assert_eq!(mebibytes(SIZE_AIM), "20.0 MiB");
    }
}
