//! The world changes: nodes, pods, links and addresses come, go and become others.

mod addresses;
mod claims;
mod neighbours;
mod nodes;
mod nodes_file;
mod pods;
mod routes;
mod uplink;
mod view;
