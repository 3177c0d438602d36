//! The lab keeps its promises: it is wired as drawn, its rules work as on a cluster, its traffic is
//! counted right, labs don't disturb one another, and nothing is left of them.

mod command;
mod course;
mod fib_helper;
mod hosts;
mod leftovers;
mod measure;
mod rules;
mod segments;
mod traffic;
mod transit;
mod wires;

use std::time::Duration;

use anyhow::{Context, Result};
use underpass_bench::lab::Family;

/// A deadline for what takes no time unless the machine is busy.
const SOON: Duration = Duration::from_secs(10);
/// How long to wait for what shall not come.
const NEVER: Duration = Duration::from_millis(300);

/// Has the same hold for IPv4 and for IPv6.
fn for_families(test: impl Fn(Family) -> Result<()>) -> Result<()> {
    let mut families = Family::BOTH.into_iter();
    families.try_for_each(|family| test(family).with_context(|| family.to_string()))
}

/// A test that needs root. Its body is a block that returns `anyhow::Result<()>`.
macro_rules! lab_test {
    ($name:ident, $body:block) => {
        #[test]
        fn $name() -> anyhow::Result<()> {
            if !underpass_bench::root_or_skip(stringify!($name)) {
                return Ok(());
            }
            $body
        }
    };
}
use lab_test;
