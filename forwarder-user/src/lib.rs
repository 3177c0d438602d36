//! Underpass in user space: the node agent, and the command line that looks into what it keeps.
//!
//! - [`world`]: what is known, from the cluster and from the kernel
//! - [`plan`] and [`diff`]: what should be, and what to change; pure
//! - [`agent`] and [`apply`]: the loop, and the only writer
//! - [`events`]: what the cluster is told of it
//! - [`datapath`]: the BPF programs and maps, loaded, attached, pinned
//! - [`inspect`]: `status`, `peers`, `pods`, `flows`, `trace`, `top`, `check`
//! - [`packet_trace`]: single packets, told in the log
//! - [`detach`]: everything out again

pub mod agent;
pub mod apply;
pub mod capabilities;
pub mod cli;
mod clock;
pub mod config;
pub mod conntrack;
pub mod datapath;
pub mod detach;
pub mod diff;
mod ethtool;
pub mod events;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod inspect;
pub mod metrics;
pub mod neighbour_limits;
pub mod packet_trace;
pub mod plan;
mod random;
pub mod stop;
pub mod sysctl;
pub mod world;
pub mod xdp;
