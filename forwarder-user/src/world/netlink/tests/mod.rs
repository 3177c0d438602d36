//! Messages as the kernel sends them, and what the mirror makes of them.

mod decode;
mod messages;
mod mirror;
