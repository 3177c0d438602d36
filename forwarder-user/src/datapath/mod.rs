//! The BPF programs and maps of one node: loaded, attached, pinned.

pub mod attach;
pub mod bpf;
mod clsact;
pub mod express;
pub mod filter;
pub mod link_info;
pub mod load;
mod lock_holder;
pub mod maps;
pub mod only_agent;
pub mod pins;
pub mod query;

pub use attach::Attachments;
pub use load::{LoadOptions, Loaded, load};
pub use maps::Maps;
pub use only_agent::OnlyAgent;
pub use pins::Pins;
