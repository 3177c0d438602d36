//! What an operator sees: `underpass check` before an agent and beside it, `underpass status` under traffic.

mod check;
mod status;
