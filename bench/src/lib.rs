//! The lab: a small cluster on one machine, for tests, for the demo and for benchmarks.
//!
//! Nodes and pods are network namespaces around a switch, wired as one would draw it:
//!
//! ```text
//!     node1-pod1   node1-pod2        node2-pod1   node2-pod2
//!         eth0        eth0               eth0        eth0      10.244.N.11, .12, ...
//!           |          |                   |          |
//!       vethpod1    vethpod2           vethpod1    vethpod2
//!           +---cni0---+                   +---cni0---+        10.244.N.1/24
//!              node1                          node2            10.244.M.0/24 via 192.168.77.M
//!               eth0                           eth0            192.168.77.N/24
//!                 +------------- br0 -------------+            switch
//! ```
//!
//! In IPv6 the same places are `fd00:10:244:N::11`, `fd00:10:244:N::1/64` and `fd00:77::N/64`. A lab speaks
//! IPv4, IPv6 or both.
//!
//! [`lab`] builds it and runs things in it, [`traffic`] sends and counts packets, [`measure`] tells
//! how fast they were. [`demo`] shows it all, [`scale`] measures the agent in a large cluster,
//! [`soak`] has agents come and go under traffic for as long as one likes.
//! [`lab::kubernetes`] makes the nodes a real cluster, [`api_server`] stands in for a Kubernetes API server.

pub mod api_server;
pub mod beside;
pub mod compare;
pub mod demo;
mod interrupt;
pub mod lab;
mod leftovers;
pub mod measure;
mod random;
pub mod scale;
mod screen;
pub mod skip;
pub mod soak;
pub mod traffic;
pub mod wait;

pub use lab::{Lab, rules::Backend};
pub use skip::{root_or_skip, skip};
pub use wait::{wait_for, wait_until};
