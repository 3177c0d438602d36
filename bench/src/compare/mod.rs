//! The comparison: the same traffic over different ways to connect the same pods, in turns.

pub mod contender;
pub mod figure;
pub mod report;
pub mod results;
pub mod trial;
