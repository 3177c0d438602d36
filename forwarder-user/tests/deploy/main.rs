//! What `deploy/` ships, and what its documentation says to type: manifests, chart, image, capabilities.

mod capabilities;
mod chart;
mod container;
mod dns;
mod docs;
mod image;
mod manifest;
mod overlays;
mod tools;

#[path = "../documented/mod.rs"]
mod documented;

// The helpers of the scenarios, which use all of them.
#[expect(dead_code, reason = "shared with the scenarios")]
#[path = "../scenarios/common.rs"]
mod common;
#[expect(dead_code, reason = "shared with the scenarios")]
#[path = "../scenarios/talk.rs"]
mod talk;
