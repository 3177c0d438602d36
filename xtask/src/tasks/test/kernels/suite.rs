//! What runs on another kernel.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::tasks::executables::Executable;
use crate::tasks::test::{needs_root, tests_of};

/// The tests that every kernel must pass, by program: every program loads and attaches, gives the verdicts that it
/// gives here, and carries the scenarios that stand for the others. An emulated guest is slow, so it is not all of
/// them; `cargo xtask test --kernel 6.1 NAME` runs any other.
const CORE: [(&str, &[&str]); 5] = [
    QUICK[0],
    QUICK[1],
    QUICK[2],
    (
        SCENARIOS,
        &[
            "agent_away::restarts::agent_restarted",
            // Here alone, where the machine's own kernel has no VLAN devices and no bonds.
            "never_worse::headers::vlan",
            "uplink_kinds::bonding_modes_and_xdp",
            "uplink_kinds::vlan_as_uplink",
            "uplink_kinds::vlans_on_the_uplink_keep_xdp_off",
            "uplink_kinds::xdp_on_a_bond",
            "never_worse::packets::ttl",
        ],
    ),
    // What a kernel asks of whoever loads programs changes from one to the next.
    (
        "deploy",
        &[
            "capabilities::the_daemonset_may_do_all_that_it_must",
            "capabilities::the_kernel_refuses_for_want_of_each_capability",
        ],
    ),
];

/// Those of them that take no more than two or three minutes together: every full run has them.
const QUICK: [(&str, &[&str]); 3] = [
    (
        "packets",
        &[
            LOADS,
            "coverage::every_verdict_is_given_by_every_hook_that_can",
            "express::xdp_carries_what_from_wire_would",
            "life::a_translated_flow_takes_the_tuple_of_a_direct_one",
            "life::conntrack_sees_two_packets_of_a_connection",
            "life::the_kernel_goes_first_in_each_direction",
            "transit::xdp_carries_in_transit_what_from_wire_would",
        ],
    ),
    ("attach", &[ATTACHES_BY_TCX, ATTACHES_BY_CLSACT]),
    (
        SCENARIOS,
        &[
            "fast_path::bypass_proof::bypass_proof",
            "fast_path::flows::icmp_echo",
            "fast_path::flows::one_way_udp",
            "fast_path::golden_bytes::golden_bytes",
            "express::xdp_carries_where_somebody_says_that_pods_take_frames",
            "never_worse::services::clusterip",
            "uplink_kinds::bond_as_uplink",
        ],
    ),
];

const SCENARIOS: &str = "scenarios";

/// The test that shows that the kernel takes the programs.
pub const LOADS: &str = "verifier::the_programs_keep_to_their_budget";
/// The test that shows that TCX carries them.
pub const ATTACHES_BY_TCX: &str = "tcx_programs_live_and_leave";
/// The test that shows that a clsact qdisc carries them.
pub const ATTACHES_BY_CLSACT: &str = "clsact_programs_live_and_leave";

/// Which tests a kernel runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite<'a> {
    Quick,
    Core,
    /// Those whose names hold this text.
    Named(&'a str),
}

impl Suite<'_> {
    fn list(self) -> &'static [(&'static str, &'static [&'static str])] {
        match self {
            Self::Quick => &QUICK,
            Self::Core => &CORE,
            Self::Named(_) => &[],
        }
    }

    /// The test programs to be built for it: none is named where it may be any.
    pub fn programs(self) -> Vec<&'static str> {
        let mut programs: Vec<_> = self.list().iter().map(|(target, _)| *target).collect();
        programs.dedup();
        programs
    }

    /// The tests that must have run in the end.
    pub fn tests(self) -> Vec<&'static str> {
        self.list()
            .iter()
            .flat_map(|(_, tests)| *tests)
            .copied()
            .collect()
    }

    /// The calls of test programs.
    ///
    /// # Errors
    /// A program of it was not built.
    pub fn calls(self, built: &[Executable], more: &[String]) -> Result<Vec<Call>> {
        let tests = || tests_of(built).filter(|it| needs_root(it));
        if let Self::Named(text) = self {
            return Ok(tests().map(|test| call(test, &[text], more)).collect());
        }
        let calls = self.list().iter().map(|(target, names)| {
            let test = tests().find(|test| test.target == *target);
            let test = test.with_context(|| format!("cargo built no test program `{target}`"))?;
            let exactly: Vec<_> = ["--exact"].iter().chain(*names).copied().collect();
            Ok(call(test, &exactly, more))
        });
        calls.collect()
    }
}

/// A test program to be called in a guest.
pub struct Call {
    pub title: String,
    /// Where it runs.
    pub dir: PathBuf,
    pub program: PathBuf,
    pub arguments: Vec<String>,
}

fn call(test: &Executable, which: &[&str], more: &[String]) -> Call {
    let which = which.iter().map(|&it| it.to_owned());
    let plain = ["--color", "never"].map(str::to_owned);
    Call {
        title: test.title(),
        dir: test.package_dir.clone(),
        program: test.path.clone(),
        arguments: which.chain(more.iter().cloned()).chain(plain).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(target: &str) -> Executable {
        Executable {
            path: format!("/w/target/debug/deps/{target}-1").into(),
            target: target.to_owned(),
            kind: "test".to_owned(),
            package_dir: "/w/agent".into(),
            is_test: true,
        }
    }

    #[test]
    fn the_core_holds_the_quick_ones() {
        let core = Suite::Core.tests();
        let quick = Suite::Quick.tests();
        assert!(quick.iter().all(|name| core.contains(name)));
        assert!(quick.len() < core.len());
        let programs = ["packets", "attach", "scenarios", "deploy"];
        assert_eq!(Suite::Core.programs(), programs);
    }

    #[test]
    fn tests_are_named_exactly_or_by_a_filter() {
        let built = ["attach", "packets", "scenarios"].map(test);
        let calls = Suite::Quick.calls(&built, &[]).unwrap();
        assert_eq!(calls[1].title, "agent test attach");
        assert_eq!(
            calls[1].arguments,
            [
                "--exact",
                ATTACHES_BY_TCX,
                ATTACHES_BY_CLSACT,
                "--color",
                "never"
            ]
        );
        let calls = Suite::Named("mtu")
            .calls(&built, &["--nocapture".to_owned()])
            .unwrap();
        assert_eq!(calls.len(), 3);
        assert_eq!(
            calls[0].arguments,
            ["mtu", "--nocapture", "--color", "never"]
        );
        assert!(Suite::Core.calls(&built[..2], &[]).is_err());
    }
}
