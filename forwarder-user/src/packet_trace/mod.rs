//! Tracing of single packets: a line for each packet that a filter matches, with its verdict.
//!
//! The programs are told the filter when they are loaded, and know nothing of it where there is none. They write what
//! they see into a ring buffer; the agent makes lines of its log of that.

mod filter;
mod line;
mod mark;
mod tracer;

pub use filter::PacketFilter;
pub use line::{Ip, Line};
pub use mark::Mark;
pub use tracer::{Tracer, write_lines};
