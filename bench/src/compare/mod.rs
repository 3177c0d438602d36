//! The comparison: the same traffic over different ways to connect the same pods, in turns.

mod bpf;
pub mod contender;
pub mod course;
pub mod datapath;
pub mod fib_helper;
pub mod figure;
pub mod hooks_limit;
mod machine;
mod offloads;
pub mod report;
pub mod results;
mod run;
mod schedule;
mod stage;
pub mod transit;
pub mod trial;
mod vxlan;

pub use run::{Options, catch_interrupts, run};
