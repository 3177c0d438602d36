//! The fast path is real.
