//! The scenarios: what must hold on a small cluster, whatever happens to it. Each test raises a lab
//! of its own, nodes and pods as network namespaces, runs agents there and looks at the traffic.

mod agent_away;
mod common;
mod fast_path;
mod inject;
mod never_worse;
mod streams;
mod talk;
mod twin;
mod world_changes;

// The builder of packets is that of the packet tables, which use all of it.
#[expect(dead_code, reason = "shared with the packet tables")]
#[path = "../packets/builder.rs"]
mod builder;
mod cast;
#[path = "../packets/transport.rs"]
mod transport;
