//! The comparison: the same traffic over different ways to connect the same pods, in turns.

mod bpf;
pub mod contender;
pub mod datapath;
pub mod fib_helper;
pub mod figure;
pub mod results;
pub mod trial;
