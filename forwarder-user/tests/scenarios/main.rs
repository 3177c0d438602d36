//! The scenarios: what must hold on a small cluster, whatever happens to it. Each test raises a lab
//! of its own, nodes and pods as network namespaces, runs agents there and looks at the traffic.

mod agent_away;
mod common;
mod fast_path;
mod never_worse;
mod world_changes;
