//! `cargo xtask setup`: brings whatever this machine lacks. With nothing to do it only looks at files.

mod apt;
mod apt_sources;
mod bpf_linker;
mod cargo_tool;
mod components;
mod debian_rust_src;
mod kernels;
pub mod kube_assets;
mod programs;
mod promtool;
mod rust_src;
pub mod static_target;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};

pub use self::kernels::{Kernel, Search};
pub use self::kube_assets::KubeAssets;
pub use self::programs::{EMULATOR_NAME, docker_refusal};
use crate::process;
use crate::tasks::image::Arch;
use crate::terminal::{green, red, seconds, yellow};

/// How a step ended.
enum Outcome {
    /// Nothing to do; the text says what is there, if that is worth a word.
    Present(String),
    /// Brought; the text says what.
    Installed(String),
    /// Not brought, and only some tasks will miss it; the text says what and why.
    Lacking(String),
}

struct Step {
    name: &'static str,
    run: fn() -> Result<Outcome>,
}

/// What a build needs.
const TOOLCHAIN: [Step; 4] = [
    Step {
        name: "cc",
        run: c_compiler,
    },
    Step {
        name: "rust-src",
        run: rust_src::ensure,
    },
    Step {
        name: "rustfmt, clippy",
        run: components::ensure,
    },
    Step {
        name: "bpf-linker",
        run: bpf_linker::ensure,
    },
];

/// What only fuzzing needs.
const FUZZING: [Step; 2] = [
    Step {
        name: "c++",
        run: cpp_compiler,
    },
    Step {
        name: "cargo-fuzz",
        run: || cargo_tool::ensure("cargo-fuzz", "0.13.2"),
    },
];

/// What the lab and the comparisons run.
const PROGRAMS: Step = Step {
    name: "programs",
    run: programs::ensure,
};

/// What the comparisons run besides.
const BENCH: Step = Step {
    name: "measuring programs",
    run: programs::ensure_bench,
};

/// What checks alerts and metrics in the tests.
const PROMTOOL: Step = Step {
    name: "promtool",
    run: promtool::ensure,
};

/// What builds the container image.
const IMAGE_BUILDER: Step = Step {
    name: "image builder",
    run: programs::ensure_image_builder,
};

/// What a static binary for amd64 is built with.
const STATIC_AMD64: [Step; 2] = [
    Step {
        name: "static target",
        run: || static_target::ensure(Arch::Amd64),
    },
    Step {
        name: "static cc",
        run: || static_target::ensure_compiler(Arch::Amd64),
    },
];

/// As [`STATIC_AMD64`], for arm64.
const STATIC_ARM64: [Step; 2] = [
    Step {
        name: "static target",
        run: || static_target::ensure(Arch::Arm64),
    },
    Step {
        name: "static cc",
        run: || static_target::ensure_compiler(Arch::Arm64),
    },
];

/// What boots other kernels.
const EMULATOR: Step = Step {
    name: "emulator",
    run: programs::ensure_emulator,
};

/// The task `setup`: every step, each with its line.
///
/// # Errors
/// A step that the build needs failed.
pub fn run() -> Result<ExitCode> {
    let lacking = run_steps(TOOLCHAIN.iter().chain([&PROGRAMS, &PROMTOOL]), true)?;
    Ok(if lacking {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Brings what a build needs; silent where nothing is to do.
///
/// # Errors
/// A step failed.
pub fn for_build() -> Result<()> {
    run_steps(TOOLCHAIN.iter(), false).map(drop)
}

/// Brings what building and running in the lab need; silent where nothing is to do.
///
/// # Errors
/// A step that the build needs failed. A lacking program is only told: whatever needs it fails with its name.
pub fn for_lab() -> Result<()> {
    run_steps(TOOLCHAIN.iter().chain([&PROGRAMS]), false).map(drop)
}

/// Brings what building and running the comparisons need; silent where nothing is to do.
///
/// # Errors
/// As [`for_lab`].
pub fn for_bench() -> Result<()> {
    run_steps(TOOLCHAIN.iter().chain([&PROGRAMS, &BENCH]), false).map(drop)
}

/// Brings what building and running all tests need; silent where nothing is to do.
///
/// # Errors
/// As [`for_lab`].
pub fn for_tests() -> Result<()> {
    run_steps(
        TOOLCHAIN.iter().chain([&PROGRAMS, &BENCH, &PROMTOOL]),
        false,
    )
    .map(drop)
}

/// Brings what building and running the fuzz targets need; silent where nothing is to do.
///
/// # Errors
/// A step failed.
pub fn for_fuzzing() -> Result<()> {
    run_steps(TOOLCHAIN.iter().chain(&FUZZING), false).map(drop)
}

/// Brings what boots other kernels; silent where nothing is to do.
///
/// # Errors
/// Nobody could be asked. A lacking program is only told: what needs it says that it is not there.
pub fn for_kernels() -> Result<()> {
    run_steps([&EMULATOR].into_iter(), false).map(drop)
}

/// Brings what building the container image needs; silent where nothing is to do.
///
/// # Errors
/// A step that the build needs failed. What lacks besides is only told: there may be another way.
pub fn for_image(arch: Arch) -> Result<()> {
    let of_arch = match arch {
        Arch::Amd64 => &STATIC_AMD64,
        Arch::Arm64 => &STATIC_ARM64,
    };
    let steps = TOOLCHAIN.iter().chain(of_arch).chain([&IMAGE_BUILDER]);
    run_steps(steps, false).map(drop)
}

/// Runs the steps, all of them even after a failure, so that people see everything at once. True if
/// something is lacking.
fn run_steps<'a>(steps: impl Iterator<Item = &'a Step>, show_present: bool) -> Result<bool> {
    let mut lacking = false;
    let mut failed = Vec::new();
    for step in steps {
        let start = Instant::now();
        let (result, text) = match (step.run)() {
            Ok(Outcome::Present(_)) if !show_present => continue,
            Ok(Outcome::Present(what)) => (green("ok"), what),
            Ok(Outcome::Installed(what)) => (
                green("installed"),
                format!("{what} ({})", seconds(start.elapsed())),
            ),
            Ok(Outcome::Lacking(why)) => {
                lacking = true;
                (yellow("lacking"), why)
            }
            Err(error) => {
                failed.push(step.name);
                (red("failed"), format!("{error:#}"))
            }
        };
        eprintln!(
            "{}",
            format!("setup: {}: {result} {text}", step.name).trim_end()
        );
    }
    if !failed.is_empty() {
        bail!("setup is not complete: {}", failed.join(", "));
    }
    Ok(lacking)
}

/// Build scripts are linked with it.
fn c_compiler() -> Result<Outcome> {
    match process::find_program("cc") {
        Some(_) => Ok(Outcome::Present(String::new())),
        None => bail!(
            "no C compiler `cc` on PATH: install one (on Debian and Ubuntu: apt-get install gcc libc6-dev)"
        ),
    }
}

/// libFuzzer is compiled from its C++.
fn cpp_compiler() -> Result<Outcome> {
    match process::find_program("c++") {
        Some(_) => Ok(Outcome::Present(String::new())),
        None => bail!(
            "no C++ compiler `c++` on PATH: install one (on Debian and Ubuntu: apt-get install g++)"
        ),
    }
}
