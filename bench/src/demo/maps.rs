//! The pinned maps, as anybody can look at them.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::clusters::NODES;
use super::stage::{Held, held};
use crate::Lab;

/// What an entry must be told by.
const FIELDS: [&str; 3] = ["prefix_len", "peer_mac", "ifindex"];

/// Dumps the trie of node 1 with bpftool: one entry for each other node, its fields named.
pub(super) fn dump_routes(lab: &Lab) -> Result<Held<()>> {
    let map = lab.bpffs(lab.node(1)).join("routes_v4");
    let map = map.display().to_string();
    let dump = lab
        .node(1)
        .run(&["bpftool", "map", "dump", "pinned", &map])
        .context("bpftool is needed: `cargo xtask setup` installs it")?;
    for field in FIELDS {
        ensure!(
            dump.contains(&format!("\"{field}\":")),
            "bpftool names no field {field}; it prints:\n{dump}"
        );
    }
    let entries: Vec<Value> =
        serde_json::from_str(&dump).with_context(|| format!("bpftool prints no list:\n{dump}"))?;
    ensure!(
        entries.len() == NODES - 1,
        "expected a route to each of the {} other nodes, found {}:\n{dump}",
        NODES - 1,
        entries.len()
    );
    let shown = entries
        .iter()
        .map(|entry| format!("  {}\n    {}", entry["key"], entry["value"]));
    let shown: Vec<_> = shown.collect();
    Ok(held(format!(
        "bpftool map dump pinned {map}\n{}",
        shown.join("\n")
    )))
}
