//! `cargo xtask test`: format, lints, and every test. A failure does not keep the rest from running, so that
//! one run shows everything; only what cannot be built is not run.

mod kernels;
mod libtest;
mod lint;
mod prepare;
mod report;
mod skips;
mod stream;
mod tally;

use std::process::ExitCode;

use anyhow::Result;

use self::kernels::Suite;
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
    /// Run the core tests (with a filter: those that it names) on other kernels instead, such as 6.1,6.12:
    /// Debian's, in qemu
    #[arg(long, value_name = "VERSIONS", value_delimiter = ',')]
    kernel: Vec<String>,
    /// Leave out the kernel that a run without a filter tries in qemu
    #[arg(long, conflicts_with = "kernel")]
    no_kernel: bool,
    /// Try millions of random packets and inputs where the usual run tries thousands: takes up to an hour
    #[arg(long)]
    long: bool,
    /// More arguments for the test programs, such as --nocapture
    #[arg(last = true)]
    more: Vec<String>,
}

/// Every package that is built for this machine.
const HOST_PACKAGES: [&str; 5] = [
    "--workspace",
    "--exclude",
    "underpass-ebpf",
    "--exclude",
    "underpass-bench-ebpf",
];

/// # Errors
/// Setup failed. A failing step is told by the exit code.
pub fn run(args: &Args) -> Result<ExitCode> {
    setup::for_tests()?;
    let mut report = Report::default();
    let skips = SkipLog::create()?;
    let mut libtest = Libtest {
        filter: args.filter.as_deref(),
        more: &args.more,
        skip_log: skips.path(),
        long: args.long,
        kube_assets: None,
        image: None,
    };
    if args.kernel.is_empty() {
        lint::run(&mut report, args.no_lint);
        run_here(&mut report, &mut libtest, args.no_kernel);
    } else {
        let suite = libtest.filter.map_or(Suite::Core, Suite::Named);
        if let Some(built) = report.value("build of the tests", || build(&suite.programs())) {
            kernels::run(&mut report, &args.kernel, suite, &built, libtest.more);
        }
    }
    Ok(report.finish(&skips.read()?))
}

/// Everything on this machine, and the quick ones of the core tests on one other kernel.
fn run_here(report: &mut Report, libtest: &mut Libtest<'_>, no_kernel: bool) {
    let usual = kernels::USUAL;
    let Some(built) = report.value("build of the tests", || build(&[])) else {
        for name in ["unit tests", "doc tests", "integration tests"] {
            report.not_run(name, "the tests could not be built");
        }
        report.not_run(&format!("kernel {usual}"), "the tests could not be built");
        return;
    };
    libtest.kube_assets = prepare::kube_assets(report, libtest, &built);
    libtest.image = prepare::image(report, libtest, &built);
    let (as_root, as_user): (Vec<_>, Vec<_>) = tests_of(&built).cloned().partition(needs_root);
    report.tests("unit tests", || libtest.run_all(&as_user));
    report.tests("doc tests", || libtest.run_doc_tests());
    for test in &as_root {
        report.tests(&test.target, || libtest.run_as_root(test));
        if test.target == "scenarios" {
            report.tests("scenarios, by XDP", || libtest.run_by_xdp(test));
        }
    }
    if no_kernel {
        report.left_out(&format!("kernel {usual}"), "--no-kernel");
    } else if libtest.filter.is_some() {
        let why = format!("a filter was given; --kernel {usual} applies it there");
        report.left_out(&format!("kernel {usual}"), &why);
    } else {
        kernels::run(
            report,
            &[usual.to_owned()],
            Suite::Quick,
            &built,
            libtest.more,
        );
    }
}

fn tests_of(built: &[Executable]) -> impl Iterator<Item = &Executable> {
    built.iter().filter(|it| it.is_test)
}

/// The test programs, and the binaries that they start: the integration tests of these names, or everything.
fn build(names: &[&str]) -> Result<Vec<Executable>> {
    let mut cargo = workspace::cargo();
    cargo.arg("test").args(HOST_PACKAGES).arg("--no-run");
    cargo.args(names.iter().flat_map(|name| ["--test", name]));
    let mut built = executables::build(&mut cargo)?;
    // cargo names them as they get ready, in another order each time.
    built.sort_by_key(Executable::title);
    Ok(built)
}

/// Integration tests make network namespaces and load programs into the kernel; unit tests do not.
fn needs_root(test: &Executable) -> bool {
    test.kind == "test"
}
