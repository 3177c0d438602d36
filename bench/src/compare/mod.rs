//! The comparison: the same traffic over different ways to connect the same pods, in turns.

pub mod contender;
pub mod course;
pub mod figure;
mod offloads;
pub mod results;
pub mod trial;
