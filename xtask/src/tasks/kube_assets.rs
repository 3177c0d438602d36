//! `cargo xtask kube-assets`: etcd, kube-apiserver, kube-proxy, kubectl and helm, for the tests that run them.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::setup::kube_assets;

/// What `--help` says besides the arguments.
pub const HELP: &str = "\
Prints the folders that hold them, as a list for UNDERPASS_KUBE_ASSETS: `cargo xtask test` sets it by itself, and
`cargo test` run as root needs it. They are those of the folder that KUBEBUILDER_ASSETS names; what is missing there,
or all, is built with this machine's Go from the modules that bench/kube-assets pins, which takes some
minutes once, and is kept in $XDG_CACHE_HOME/underpass/kube-assets, or in ~/.cache/underpass/kube-assets.";

/// # Errors
/// A program is missing, and why.
pub fn run() -> Result<ExitCode> {
    let assets = kube_assets::ensure_there()?;
    if let Some(why) = assets.lacking {
        bail!("{why}");
    }
    println!("{}", assets.path.display());
    Ok(ExitCode::SUCCESS)
}
