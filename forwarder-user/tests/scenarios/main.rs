//! The scenarios: what must hold on a small cluster, whatever happens to it. Each test raises a lab
//! of its own, nodes and pods as network namespaces, runs agents there and looks at the traffic.
//!
//! A scenario that holds for both families is a function of the family, played by
//! [`with_families`](common::with_families) in a lab that speaks nothing else. There `address()`,
//! `pod_cidr()` and what is made of them are of that family; `family.forwarding()` is its sysctl,
//! `names::service_address(family, n)` a ClusterIP, and [`Road`](inject::Road) sends the IPv6 twins of
//! packets that are built as IPv4.

mod agent_away;
mod common;
mod express;
mod fast_path;
mod inject;
mod inspect;
mod never_worse;
mod operators;
mod service_traffic;
mod streams;
mod talk;
mod transit;
mod uplink_kinds;
mod world_changes;

// The builder of packets is that of the packet tables, which use all of it.
#[expect(dead_code, reason = "shared with the packet tables")]
#[path = "../packets/builder/mod.rs"]
mod builder;
mod carried;
mod cast;
#[expect(dead_code, reason = "shared with the packet tables")]
#[path = "../packets/family.rs"]
mod family;
#[path = "../packets/ip.rs"]
mod ip;
#[path = "../packets/transport.rs"]
mod transport;
mod twin;
#[path = "../xdp_pass/mod.rs"]
mod xdp_pass;
