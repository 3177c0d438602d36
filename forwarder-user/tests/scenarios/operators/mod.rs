//! What an operator sees: `underpass check` before an agent and beside it, `underpass status` and `underpass top` under
//! traffic.

mod check;
mod status;
mod top;
