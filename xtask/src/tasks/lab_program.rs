//! Running the programs of the crate `underpass-bench`. They make network namespaces, so they run as root;
//! cargo never does, as it would leave files of root's in the user's folders.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::executables;
use crate::{process, workspace};

/// How the programs are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    Debug,
    /// With optimisations, for what is measured of the agent itself.
    Release,
}

/// Builds everything, then becomes `program`: signals and the exit code are its own. Returns only if it cannot. What the
/// build needs is the task's to bring, by `setup`.
///
/// # Errors
/// The build failed, or root is out of reach.
pub fn run(program: &str, profile: Profile, args: &[OsString], purpose: &str) -> Result<ExitCode> {
    let mut build = workspace::cargo();
    build.args([
        "build",
        "--package",
        "underpass",
        "--package",
        "underpass-bench",
        "--bins",
    ]);
    if profile == Profile::Release {
        build.arg("--release");
    }
    let built = executables::build(&mut build)?;
    let binary = built.iter().find(|it| it.target == program);
    let binary = binary.with_context(|| format!("cargo built no binary `{program}`"))?;
    let mut command = process::as_root(&binary.path, &environment(), purpose)?;
    let error = command.args(args).exec();
    Err(error).with_context(|| format!("starting {}", binary.path.display()))
}

/// What the programs may want to know: sudo passes nothing on.
fn environment() -> Vec<(&'static str, OsString)> {
    let mut env = vec![("PATH", process::search_path())];
    let names = ["NO_COLOR", "RUST_BACKTRACE", "RUST_LOG", "TERM"];
    env.extend(
        names
            .into_iter()
            .filter_map(|name| env::var_os(name).map(|value| (name, value))),
    );
    env
}
