//! The same tests on other kernels: each is booted in qemu, which needs no root, and runs the test programs from
//! this machine's files.

mod boot;
mod guest;
mod initramfs;
mod suite;
mod table;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use self::boot::Accelerator;
use self::guest::Guest;
use self::initramfs::Plan;
use self::table::Table;
use super::report::{Outcome, Report};
use crate::process::find_program;
use crate::setup::{self, EMULATOR_NAME, Kernel, Search};
use crate::tasks::executables::Executable;
use crate::workspace;

/// The kernel that is tried with every full run: the oldest that many people have, and without TCX.
pub const USUAL: &str = "6.1";

pub use self::suite::Suite;

/// Boots each of these kernels and has it run the tests; `more` are arguments for the test programs.
pub fn run(
    report: &mut Report,
    versions: &[String],
    suite: Suite<'_>,
    built: &[Executable],
    more: &[String],
) {
    let mut table = Table::default();
    for version in versions {
        report.outcome(&format!("kernel {version}"), || {
            let outcome = run_one(version, suite, built, more, &mut table)?;
            if let Outcome::Skipped(why) = &outcome {
                table.not_run(version, why);
            }
            Ok(outcome)
        });
    }
    println!("{table}");
}

fn run_one(
    version: &str,
    suite: Suite<'_>,
    built: &[Executable],
    more: &[String],
    table: &mut Table,
) -> Result<Outcome> {
    setup::for_kernels()?;
    let Some(emulator) = find_program(EMULATOR_NAME) else {
        return Ok(Outcome::Skipped(format!(
            "this machine has no {EMULATOR_NAME}"
        )));
    };
    let kernel = match Kernel::fetch(version)? {
        Search::Found(kernel) => kernel,
        Search::Vain(why) => return Ok(Outcome::Skipped(why)),
    };
    let accelerator = Accelerator::of_this_machine();
    let program = built
        .iter()
        .find(|it| it.target == "underpass" && it.kind == "bin" && !it.is_test)
        .context("cargo built no binary `underpass`")?;
    let scratch = Scratch::create()?;
    let plan = Plan {
        kernel: &kernel,
        program: &program.path,
        calls: suite.calls(built, more)?,
        patience: accelerator.patience(),
    };
    let initramfs = plan.write(&scratch.0)?;
    println!(
        "Linux {} in qemu, {}",
        kernel.release,
        accelerator.describe()
    );
    let mut guest = Guest::default();
    boot::run(
        &emulator,
        &kernel.image(),
        &initramfs,
        accelerator,
        |line| {
            println!("{line}");
            guest.absorb(line);
            guest.is_done()
        },
    )
    .unwrap_or_else(|error| guest.fail(format!("{error:#}")));
    guest.settle(&suite.tests());
    if let Some(why) = guest.unfit() {
        return Ok(Outcome::Skipped(why));
    }
    table.add(&kernel.release, &guest);
    Ok(Outcome::Tests(guest.into_results()))
}

/// A folder for one guest's files. Dropped, it is gone.
struct Scratch(PathBuf);

impl Scratch {
    fn create() -> Result<Self> {
        let dir = workspace::target_dir().join(format!("kernel-guest-{}", std::process::id()));
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A folder left behind in the target folder hurts nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}
