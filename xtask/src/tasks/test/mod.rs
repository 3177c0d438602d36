//! `cargo xtask test`: format, lints, and every test. A failure does not keep the rest from running, so that
//! one run shows everything; only what cannot be built is not run.

mod libtest;
mod lint;
mod report;
mod skips;
mod stream;
mod tally;

use std::process::ExitCode;

use anyhow::Result;

use self::libtest::Libtest;
use self::report::Report;
use self::skips::SkipLog;
use super::executables::{self, Executable};
use crate::{setup, workspace};

#[derive(clap::Args)]
pub struct Args {
    /// Run only the tests whose names hold this text
    filter: Option<String>,
    /// Leave out rustfmt and clippy
    #[arg(long)]
    no_lint: bool,
    /// More arguments for the test programs, such as --nocapture
    #[arg(last = true)]
    more: Vec<String>,
}

/// Every package that is built for this machine.
const HOST_PACKAGES: [&str; 3] = ["--workspace", "--exclude", "underpass-ebpf"];

/// # Errors
/// Setup failed. A failing step is told by the exit code.
pub fn run(args: &Args) -> Result<ExitCode> {
    setup::for_lab()?;
    let mut report = Report::default();
    lint::run(&mut report, args.no_lint);
    let skips = SkipLog::create()?;
    let libtest = Libtest {
        filter: args.filter.as_deref(),
        more: &args.more,
        skip_log: skips.path(),
    };
    run_tests(&mut report, &libtest);
    Ok(report.finish(&skips.read()?))
}

fn run_tests(report: &mut Report, libtest: &Libtest<'_>) {
    let Some(tests) = report.value("build of the tests", build) else {
        for name in ["unit tests", "doc tests", "integration tests"] {
            report.not_run(name, "the tests could not be built");
        }
        return;
    };
    let (as_root, as_user): (Vec<_>, Vec<_>) = tests.into_iter().partition(needs_root);
    report.tests("unit tests", || libtest.run_all(&as_user));
    report.tests("doc tests", || libtest.run_doc_tests());
    for test in &as_root {
        report.tests(&test.target, || libtest.run_as_root(test));
    }
}

fn build() -> Result<Vec<Executable>> {
    let mut cargo = workspace::cargo();
    let built = executables::build(cargo.arg("test").args(HOST_PACKAGES).arg("--no-run"))?;
    let mut tests: Vec<_> = built.into_iter().filter(|it| it.is_test).collect();
    // cargo names them as they get ready, in another order each time.
    tests.sort_by_key(Executable::title);
    Ok(tests)
}

/// Integration tests make network namespaces and load programs into the kernel; unit tests do not.
fn needs_root(test: &Executable) -> bool {
    test.kind == "test"
}
