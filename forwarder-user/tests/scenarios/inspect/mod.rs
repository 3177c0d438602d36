//! What the reading commands say is so.

mod flows;
mod trace;
