//! rustfmt and clippy.

use super::HOST_PACKAGES;
use super::report::Report;
use crate::{process, workspace};

const STEPS: [&str; 3] = ["format", "lints", "lints of the BPF programs"];

pub fn run(report: &mut Report, leave_out: bool) {
    if leave_out {
        for step in STEPS {
            report.left_out(step, "--no-lint");
        }
        return;
    }
    let [format, host, bpf] = STEPS;
    report.value(format, || {
        process::run(workspace::cargo().args(["fmt", "--all", "--check"]))
    });
    report.value(host, || {
        let mut clippy = workspace::cargo();
        clippy.arg("clippy").args(HOST_PACKAGES).args([
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ]);
        process::run(&mut clippy)
    });
    report.value(bpf, || {
        let mut clippy = workspace::cargo();
        clippy.args([
            "clippy",
            "--package",
            "underpass-ebpf",
            "--package",
            "underpass-bench-ebpf",
            "-Zbuild-std=core",
            "--target",
            "bpfel-unknown-none",
        ]);
        // The workspace's own build is done without RUSTC_BOOTSTRAP and must not be done anew for it.
        clippy
            .arg("--target-dir")
            .arg(workspace::target_dir().join("bpf-clippy"));
        clippy
            .args(["--", "--deny", "warnings"])
            .env("RUSTC_BOOTSTRAP", "1");
        process::run(&mut clippy)
    });
}
