//! What runs on another kernel.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::tasks::executables::Executable;
use crate::tasks::test::libtest::Libtest;
use crate::tasks::test::{needs_root, tests_of};

/// The tests that every kernel must pass, by program: every program loads and attaches, gives the verdicts that it
/// gives here, and carries the scenarios that stand for the others. An emulated guest is slow, so it is not all of
/// them; `cargo xtask test --kernel 6.1 NAME` runs any other.
const CORE: [(&str, &[&str]); 3] = [
    (
        "packets",
        &[
            LOADS,
            "life::the_kernel_goes_first_in_each_direction",
            "life::conntrack_sees_two_packets_of_a_connection",
            "life::a_translated_flow_takes_the_tuple_of_a_direct_one",
            "coverage::every_verdict_is_given_by_every_hook_that_can",
        ],
    ),
    ("attach", &[ATTACHES_BY_TCX, ATTACHES_BY_CLSACT]),
    (
        "scenarios",
        &[
            "fast_path::bypass_proof::bypass_proof",
            "fast_path::golden_bytes::golden_bytes",
            "fast_path::flows::one_way_udp",
            "fast_path::flows::icmp_echo",
            "never_worse::services::clusterip",
            "never_worse::policy_deny::policy_deny",
            "never_worse::tuple_reuse::tuple_reuse",
            "agent_away::restarts::agent_restarted",
            "agent_away::detach::detach",
        ],
    ),
];

/// The test that shows that the kernel takes the programs.
pub const LOADS: &str = "verifier::the_programs_are_far_from_the_verifiers_limit";
/// The test that shows that TCX carries them.
pub const ATTACHES_BY_TCX: &str = "tcx_programs_live_and_leave";
/// The test that shows that a clsact qdisc carries them.
pub const ATTACHES_BY_CLSACT: &str = "clsact_programs_live_and_leave";

/// A test program to be called in a guest.
pub struct Call {
    pub title: String,
    /// Where it runs.
    pub dir: PathBuf,
    pub program: PathBuf,
    pub arguments: Vec<String>,
}

/// The test programs to be built: those of the core tests, or all of them (no name) where there is a filter.
pub fn programs(libtest: &Libtest<'_>) -> Vec<&'static str> {
    match libtest.filter {
        Some(_) => Vec::new(),
        None => CORE.map(|(target, _)| target).to_vec(),
    }
}

/// The calls for the core tests; for those that the filter names, where there is one.
///
/// # Errors
/// A program of the core tests was not built.
pub fn calls(built: &[Executable], libtest: &Libtest<'_>) -> Result<Vec<Call>> {
    let tests = || tests_of(built).filter(|it| needs_root(it));
    let call = |test: &Executable, which: &[&str]| Call {
        title: test.title(),
        dir: test.package_dir.clone(),
        program: test.path.clone(),
        arguments: which
            .iter()
            .map(|&it| it.to_owned())
            .chain(libtest.more.iter().cloned())
            .chain(["--color", "never"].map(str::to_owned))
            .collect(),
    };
    if let Some(filter) = libtest.filter {
        return Ok(tests().map(|test| call(test, &[filter])).collect());
    }
    let mut calls = Vec::new();
    for (target, names) in CORE {
        let test = tests().find(|test| test.target == target);
        ensure!(test.is_some(), "cargo built no test program `{target}`");
        let exactly: Vec<_> = ["--exact"].iter().chain(names).copied().collect();
        calls.extend(test.map(|test| call(test, &exactly)));
    }
    Ok(calls)
}
