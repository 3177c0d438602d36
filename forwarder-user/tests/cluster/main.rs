//! The agent in a real cluster: etcd, kube-apiserver and kube-proxy as they are, on nodes and pods of the lab.
//! Where they are not to be had the tests are reported as skipped: see `cargo xtask kube-assets --help`.

mod api_away;
mod claims;
mod cluster;
mod identity;
mod manifests;
mod news;
mod nodes;
mod service_objects;
mod services;
mod tokens;

#[expect(dead_code, reason = "shared with the scenarios")]
#[path = "../scenarios/common.rs"]
mod common;
#[path = "../scenarios/service_traffic.rs"]
mod service_traffic;
#[expect(dead_code, reason = "shared with the scenarios")]
#[path = "../scenarios/streams.rs"]
mod streams;
#[expect(dead_code, reason = "shared with the scenarios")]
#[path = "../scenarios/talk.rs"]
mod talk;
#[path = "../scenarios/world_changes/view.rs"]
mod view;
