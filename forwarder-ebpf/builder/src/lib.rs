//! Builds a BPF object in a build script, so that it can be embedded: `cargo build` alone is enough once
//! `cargo xtask setup` has brought the tools.
//!
//! ```no_run
//! underpass_ebpf_builder::build(&underpass_ebpf_builder::Object {
//!     package: "underpass-ebpf",
//!     binary: "underpass",
//!     sources: &["forwarder-ebpf", "common"],
//! });
//! ```

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "bpfel-unknown-none";

/// What is to be built.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a> {
    /// The package in this workspace.
    pub package: &'a str,
    /// Its binary, which is the object. It is put at `<OUT_DIR>/<binary>.o`.
    pub binary: &'a str,
    /// What it is made of, by paths from the workspace's root: the build script runs again when something
    /// there changes.
    pub sources: &'a [&'a str],
}

/// Builds the object, as the whole of a build script. Where it cannot be built, cargo shows why, and the script ends
/// there with exit code 1.
///
/// # Panics
/// Outside of a build script.
pub fn build(object: &Object<'_>) {
    let workspace = workspace();
    let watched = object.sources.iter().copied();
    for watched in watched.chain(["Cargo.lock", "target/tools/bin"]) {
        println!(
            "cargo::rerun-if-changed={}",
            workspace.join(watched).display()
        );
    }
    println!("cargo::rerun-if-env-changed=PATH");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    match try_build(object, workspace, &out) {
        Ok(()) => {}
        Err(reason) => {
            println!("cargo::error={reason}");
            std::process::exit(1);
        }
    }
}

/// The folder of the root `Cargo.toml`.
fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("the crate lies in its workspace")
}

fn try_build(object: &Object<'_>, workspace: &Path, out: &Path) -> Result<(), String> {
    let linker = bpf_linker(workspace)
        .ok_or("bpf-linker is missing, which links the BPF programs: run `cargo xtask setup`")?;
    let sysroot = sysroot()?;
    if !sysroot.join("lib/rustlib/src/rust/library/core").exists() {
        return Err("the Rust component rust-src is missing, from which `core` is built for BPF: run `cargo xtask setup`".into());
    }
    let target_dir = target_dir(out).join("bpf");
    let mut cargo = cargo(&linker);
    cargo
        .current_dir(workspace)
        .args(["build", "--package", object.package, "--release"])
        .args(["-Z", "build-std=core", "--target", TARGET])
        .arg("--target-dir")
        .arg(&target_dir);
    let status = cargo
        .status()
        .map_err(|error| format!("cannot run cargo for the BPF programs: {error}"))?;
    if !status.success() {
        return Err("building the BPF programs failed; cargo's messages stand above".into());
    }
    let built = target_dir.join(TARGET).join("release").join(object.binary);
    let embedded = out.join(format!("{}.o", object.binary));
    if strip(&sysroot, &built, &embedded) {
        return Ok(());
    }
    std::fs::copy(&built, embedded)
        .map(drop)
        .map_err(|error| format!("cannot copy {}: {error}", built.display()))
}

/// cargo, in an environment for the BPF target.
fn cargo(linker: &Path) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What the outer cargo (or clippy) set up for the host must not reach the BPF build.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let inner =
            text == "CARGO_HOME" || text == "CARGO_NET_OFFLINE" || text == "CARGO_HTTP_PROXY";
        let host = ["CARGO", "RUSTC", "RUSTFLAGS", "RUSTDOC", "CLIPPY"];
        if host.iter().any(|prefix| text.starts_with(prefix)) && !inner {
            cargo.env_remove(&name);
        }
    }
    let flags = [
        "-Cdebuginfo=2".to_owned(),
        format!("-Clinker={}", linker.display()),
        "-Clink-arg=--btf".to_owned(),
    ];
    // The BPF target is not in stable's promise; `core` for it comes from source. BPF crates are the only ones for
    // which the compiler's unstable switches are on.
    cargo
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    cargo
}

/// Copies the object without what is for debuggers, three quarters of it. BTF, by which the maps carry their types,
/// stays. False where the toolchain brings no tool for it: the whole object works as well.
fn strip(sysroot: &Path, object: &Path, stripped: &Path) -> bool {
    let host = env::var("HOST").expect("cargo sets HOST");
    let tools = sysroot.join("lib/rustlib").join(host).join("bin");
    let status = Command::new(tools.join("rust-objcopy"))
        // It is the compiler's own, and finds LLVM where the compiler does.
        .env("LD_LIBRARY_PATH", sysroot.join("lib"))
        .arg("--strip-debug")
        .args([object, stripped])
        .status();
    status.is_ok_and(|status| status.success())
}

/// One target directory for all profiles and targets, beside theirs, so that `core` is compiled once.
fn target_dir(out: &Path) -> &Path {
    // <dir>/[<target>/]<profile>/build/<package>/out
    let dir = out.ancestors().nth(4).unwrap_or(out);
    match dir.file_name() {
        Some(name) if env::var_os("TARGET").is_some_and(|target| target == name) => {
            dir.parent().unwrap_or(dir)
        }
        _ => dir,
    }
}

/// The linker that setup installed, else one on the PATH.
fn bpf_linker(workspace: &Path) -> Option<PathBuf> {
    let installed = workspace.join("target/tools/bin/bpf-linker");
    let on_path = env::var_os("PATH")
        .into_iter()
        .flat_map(|path| env::split_paths(&path).collect::<Vec<_>>())
        .map(|dir| dir.join("bpf-linker"));
    std::iter::once(installed)
        .chain(on_path)
        .find(|path| path.is_file())
}

/// The folder of the toolchain.
fn sysroot() -> Result<PathBuf, String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--print", "sysroot"])
        .output()
        .map_err(|error| format!("cannot run rustc: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().into())
}
