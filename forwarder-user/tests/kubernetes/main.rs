//! The Nodes as the Kubernetes API tells them, by a server that can be told to misbehave: whatever it
//! does, the view is right afterwards, and the last good one stays meanwhile.

mod errors;
mod events;
mod lists;
mod view;
mod watches;
